//! What the witness has seen so far, and what may follow it.

use std::collections::HashMap;

use balancer_api::{
    CallEvent, CallId, ConnectivityState as State, Reconnect, StateCause, SubConn, SubConnState,
    TimerId, Timestamp,
};

use super::ChannelLaw;

/// One policy instance's view of its channel.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) built: bool,
    pub(super) closed: bool,
    /// Callbacks since the last settle.
    pub(super) unsettled: usize,
    pub(super) subs: HashMap<SubConn, Sub>,
    pub(super) timers: HashMap<TimerId, (Timestamp, Timer)>,
    pub(super) calls: HashMap<CallId, CallState>,
    pub(super) clock: Timestamp,
}

pub(super) struct Sub {
    reconnect: Reconnect,
    state: State,
    pub(super) removed: bool,
    gone: bool,
    unhealthy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    Set,
    Fired,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallState {
    Fresh,
    Answered,
    Ended,
    Cancelled,
}

/// What was wrong with an event, if anything.
pub(super) type Wrong = Option<(ChannelLaw, String)>;

fn wrong(law: ChannelLaw, message: String) -> Wrong {
    Some((law, message))
}

// === impl Seen, Sub ===

impl Sub {
    /// A SubConn that was just made.
    pub(super) fn new(reconnect: Reconnect) -> Self {
        Self {
            reconnect,
            state: State::Idle,
            removed: false,
            gone: false,
            unhealthy: false,
        }
    }
}

impl Seen {
    /// A state was told. `asked`: whether the SubConn was told to connect, where that is known.
    pub(super) fn state(
        &mut self,
        sub_conn: &SubConn,
        new: &SubConnState<'_>,
        asked: Option<bool>,
    ) -> Wrong {
        let Some(sub) = self.subs.get_mut(sub_conn) else {
            return wrong(
                ChannelLaw::OwnSubConns,
                format!("{} of a SubConn that the policy never had", new.state),
            );
        };
        let old = std::mem::replace(&mut sub.state, new.state);
        let unhealthy = std::mem::replace(
            &mut sub.unhealthy,
            new.state == State::TransientFailure && new.cause == StateCause::Health,
        );
        if sub.gone {
            return wrong(
                ChannelLaw::ShutdownOnce,
                format!("{sub_conn:?} is {} after its SHUTDOWN", new.state),
            );
        }
        if new.state == State::Shutdown {
            sub.gone = true;
            if !sub.removed {
                return wrong(
                    ChannelLaw::ShutdownOnce,
                    format!("{sub_conn:?} is SHUTDOWN and was not removed"),
                );
            }
            return None;
        }
        if sub.removed {
            return wrong(
                ChannelLaw::ShutdownOnce,
                format!("{sub_conn:?} is {} after its removal", new.state),
            );
        }
        if asked == Some(false) {
            return wrong(
                ChannelLaw::NothingBeforeConnect,
                format!(
                    "{sub_conn:?} is {} and nobody told it to connect",
                    new.state
                ),
            );
        }
        // A policy may have given it another list, of which the witness does not hear; its own
        // policy never does.
        let readdressed = asked.is_none();
        let immediately = sub.reconnect == Reconnect::Immediately;
        let health = new.cause == StateCause::Health;
        let legal = match (old, new.state) {
            (State::Idle, State::Connecting) => true,
            (State::Connecting, State::Ready) => true,
            (State::Connecting, State::TransientFailure) => true,
            (State::Connecting, State::Idle) => !immediately || readdressed,
            (State::Ready, State::Connecting) => immediately || readdressed,
            (State::Ready, State::Idle) => !immediately || readdressed,
            (State::Ready, State::TransientFailure) => health,
            (State::TransientFailure, State::Ready) => health && unhealthy,
            (State::TransientFailure, State::Connecting) => immediately,
            (State::TransientFailure, State::Idle) => !immediately || readdressed,
            _ => false,
        };
        if legal {
            return None;
        }
        wrong(
            ChannelLaw::LegalTransitions,
            format!("{sub_conn:?} went from {old} to {}", new.state),
        )
    }

    pub(super) fn timer(&mut self, id: TimerId, now: Timestamp) -> Wrong {
        let told = match self.timers.get_mut(&id) {
            None => Some("was never set"),
            Some((due, state)) => {
                let told = match state {
                    Timer::Fired => Some("fired twice"),
                    Timer::Cancelled => Some("fired after it was cancelled"),
                    Timer::Set if now < *due => Some("fired before its time"),
                    Timer::Set => None,
                };
                *state = Timer::Fired;
                told
            }
        };
        let message = format!("timer {} {}", id.as_raw(), told?);
        wrong(ChannelLaw::TimersOnTime, message)
    }

    pub(super) fn call(&mut self, id: CallId, event: &CallEvent) -> Wrong {
        let state = self.calls.get(&id).copied();
        let (next, told) = match (state, event) {
            (None, _) => (CallState::Ended, Some("was never started")),
            (Some(CallState::Ended), _) => (CallState::Ended, Some("goes on after its end")),
            (Some(CallState::Cancelled), _) => {
                (CallState::Cancelled, Some("goes on after it was cancelled"))
            }
            (Some(CallState::Answered), CallEvent::Headers(_)) => {
                (CallState::Answered, Some("has headers twice, or too late"))
            }
            (_, CallEvent::End { .. }) => (CallState::Ended, None),
            _ => (CallState::Answered, None),
        };
        self.calls.insert(id, next);
        let message = format!("call {} {}", id.as_raw(), told?);
        wrong(ChannelLaw::CallsInOrder, message)
    }
}
