//! What a scripted child can be told to do.

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, parse_duration};

use crate::List;

/// What a [`ScriptedChild`](crate::ScriptedChild) does when the script says so: in its next settle,
/// for which it asks with a wake.
///
/// Written in scripts after `child` and the child's label: `child one publish READY`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// `publish READY`: this state with a new picker. READY picks its READY SubConns in turn,
    /// TRANSIENT_FAILURE fails with `one: failure 3`, and the others keep RPCs waiting.
    Publish(State),
    /// `new a b`: a SubConn for each of these endpoints.
    New(List),
    /// `connect a`: one of its SubConns is told to connect.
    Connect(Arc<str>),
    /// `remove a`: one of its SubConns is removed.
    Remove(Arc<str>),
    /// `timer 1s`: it sets a timer.
    Timer(Duration),
    /// `call a`: it makes a call on one of its SubConns.
    Call(Arc<str>),
    /// `resolve_now`: it asks the resolver to look again.
    ResolveNow,
    /// `late`: closed already, it publishes all the same, as a thread that is slow to hear may.
    Late,
}

// === impl Act ===

const STATES: [State; 4] = [
    State::Idle,
    State::Connecting,
    State::Ready,
    State::TransientFailure,
];

impl Act {
    /// Reads what follows the label; `None` for what is no act.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        Some(match word {
            "publish" => {
                let state = STATES.into_iter().find(|state| state.to_string() == rest)?;
                Self::Publish(state)
            }
            "new" => Self::New(List::parse(rest)),
            "connect" => Self::Connect(rest.into()),
            "remove" => Self::Remove(rest.into()),
            "timer" => Self::Timer(parse_duration(rest)?),
            "call" => Self::Call(rest.into()),
            "resolve_now" => Self::ResolveNow,
            "late" => Self::Late,
            _ => return None,
        })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(state) => write!(f, "publish {state}"),
            Self::New(list) => write!(f, "new {list}"),
            Self::Connect(name) => write!(f, "connect {name}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::Timer(after) => write!(f, "timer {}s", after.as_secs_f64()),
            Self::Call(name) => write!(f, "call {name}"),
            Self::ResolveNow => f.write_str("resolve_now"),
            Self::Late => f.write_str("late"),
        }
    }
}
