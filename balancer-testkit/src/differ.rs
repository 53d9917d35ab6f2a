//! Differential runs: a policy against a model of it, and against another policy.

mod against_model;
mod against_policy;
mod expected;

use std::{fmt, sync::Arc};

use balancer_api::{Address, Builder, ConnectivityState as State, Endpoint, StateCause};

pub(crate) use against_model::AgainstModel;
pub(crate) use against_policy::AgainstPolicy;
pub use expected::{Expected, Picks};

use crate::Outcome;

/// What a policy should do, in a few lines: the reference for a differential run.
///
/// A model hears the same as the policy, and says what must be published when the policy has come
/// to rest after it. It makes no SubConns: it is told of those that the policy makes by what happens
/// to them.
///
/// ```
/// use balancer_testkit::{Expected, Happened, Model, Picks, Profile};
/// use balancer_api::ConnectivityState as S;
/// use std::collections::BTreeSet;
///
/// /// Which backends are READY, in a policy that spreads over them.
/// #[derive(Default)]
/// struct Ready(BTreeSet<String>);
///
/// impl Model for Ready {
///     fn hear(&mut self, happened: &Happened<'_>) {
///         match happened {
///             Happened::SubConn { name, state: S::Ready, .. } => drop(self.0.insert(name.to_string())),
///             Happened::SubConn { name, .. } => drop(self.0.remove(*name)),
///             _ => {}
///         }
///     }
///     fn expect(&self) -> Expected {
///         match self.0.is_empty() {
///             true => Expected::anything(),
///             false => Expected::state(S::Ready).picks(Picks::all_of(&self.0)),
///         }
///     }
/// }
///
/// // Every finder holds the policy to it, and the shortest script that shows a difference is
/// // printed: `conformance!(MyPolicy, profile)`.
/// let profile = Profile::spreads().with_model(Ready::default);
/// ```
pub trait Model: Send {
    /// The policy was told this, or an RPC asked it.
    fn hear(&mut self, happened: &Happened<'_>);

    /// What must be published now.
    fn expect(&self) -> Expected;
}

/// What a [`Model`] hears.
///
/// SubConns go by the names of their addresses, in their order, joined by `+`: what
/// [`name_of`](Self::name_of) makes of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Happened<'a> {
    /// A resolver result; empty for an empty list.
    List(&'a [Endpoint]),
    /// A resolver error, with its text.
    ResolverError(&'a str),
    /// The state of a SubConn. SHUTDOWN comes after the policy has removed it.
    SubConn {
        /// Its name now.
        name: &'a str,
        /// Its addresses now.
        addresses: &'a [Address],
        /// Where it is.
        state: State,
        /// Why it failed.
        error: Option<&'a str>,
        /// By connection or by health.
        cause: StateCause,
    },
    /// The policy asked for a SubConn with these addresses and did not get it, for this reason.
    Refused(&'a [Address], &'a str),
    /// The application asks to connect.
    ExitIdle,
    /// A script's RPC asked the picker.
    Picked,
    /// A timer of the policy fired.
    Timer,
}

/// How alike two policies must be in a differential run.
///
/// ```
/// use balancer_testkit::{Alike, Profile};
/// # fn profile(shipped: std::sync::Arc<dyn balancer_api::Builder>) -> Profile {
/// Profile::exact().like(shipped, Alike::Rotated)
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alike {
    /// The same picks in the same order.
    Exactly,
    /// The same picks in the same order, from another start.
    Rotated,
    /// Picks of the same backends, as often as may be.
    AsSets,
}

/// Makes the models of a profile.
pub(crate) type MakeModel = Arc<dyn Fn() -> Box<dyn Model> + Send + Sync>;

/// What a policy is compared with.
#[derive(Clone)]
pub(crate) struct Other {
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) alike: Alike,
}

// === impl Happened ===

impl Happened<'_> {
    /// The name of the SubConn that holds an endpoint's addresses.
    pub fn name_of(endpoint: &Endpoint) -> String {
        crate::log::joined(endpoint.addresses()).into_owned()
    }
}

/// A name that says which addresses, and neither their order nor which of several SubConns.
fn canonical(name: &str) -> String {
    let (name, _) = name.split_once('~').unwrap_or((name, ""));
    if !name.contains('+') {
        return name.to_owned();
    }
    let mut parts: Vec<&str> = name.split('+').collect();
    parts.sort_unstable();
    parts.join("+")
}

/// A pick, as differential runs compare it: failures are alike whatever their texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    SubConn(String),
    Queue,
    Fail,
    Drop,
    Other(String),
}

impl Target {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::SubConn { name, .. } => Self::SubConn(canonical(name)),
            Outcome::Queue => Self::Queue,
            Outcome::Fail(_) | Outcome::Failed(_) => Self::Fail,
            Outcome::Drop(..) => Self::Drop,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SubConn(name) => f.write_str(name),
            Self::Queue => f.write_str("queue"),
            Self::Fail => f.write_str("fail"),
            Self::Drop => f.write_str("drop"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Several, for messages.
fn listed(targets: &[Target]) -> String {
    let texts: Vec<String> = targets.iter().map(Target::to_string).collect();
    texts.join(" ")
}
