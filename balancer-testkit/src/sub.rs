//! One SubConn's state machine: which moves are legal, and what each tells the policy.

use std::{fmt, sync::Arc};

use balancer_api::{
    Address, ConnectivityState as State, HealthReporting, NewSubConnOptions, Reconnect, StateCause,
    Status, SubConn, SubConnHandle,
};

use crate::{conn::Shared, log::address_name};

/// Which of the SubConns of a scripted channel, in the order of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubId(pub(crate) u32);

/// Something that happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Move {
    /// An attempt starts.
    Connecting,
    /// An attempt succeeds.
    Ready,
    /// Every address failed.
    Failed,
    /// A connection ends: IDLE or CONNECTING, as the reconnect mode says.
    Lost,
    /// The back-off is over and nobody asked to connect; or a connection ended before READY was told.
    Idle,
    /// The connection stays, the backend is unhealthy.
    HealthFailed,
    /// The backend of a connection that stayed is healthy again.
    HealthReady,
}

/// A move that the state table does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Illegal(pub(crate) String);

/// What stands behind a SubConn of the kit.
pub(crate) struct ScriptedSubConn {
    pub(crate) id: SubId,
    pub(crate) conn: Arc<Shared>,
}

pub(crate) struct Sub {
    pub(crate) handle: SubConn,
    /// Its addresses, joined by `+`; unique among those that live.
    pub(crate) name: Arc<str>,
    pub(crate) addresses: Arc<[Address]>,
    pub(crate) options: NewSubConnOptions,
    pub(crate) lookaside: bool,
    /// Where it is, which is also what the policy was last told.
    pub(crate) state: State,
    /// IDLE, and the policy asked to connect.
    pub(crate) asked: bool,
    /// TRANSIENT_FAILURE by health: the connection lives.
    pub(crate) unhealthy: bool,
    pub(crate) connected: Option<Address>,
    pub(crate) error: Option<Status>,
    pub(crate) removed: bool,
    /// How often every address failed.
    pub(crate) failures: u32,
}

// === impl SubId ===

impl SubId {
    /// The number behind: 0 for the first SubConn that was made.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

// === impl Move ===

impl Move {
    /// Every move.
    pub const ALL: [Self; 7] = [
        Self::Connecting,
        Self::Ready,
        Self::Failed,
        Self::Lost,
        Self::Idle,
        Self::HealthFailed,
        Self::HealthReady,
    ];

    /// The word for it in scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::HealthFailed => "health_failed",
            Self::HealthReady => "health_ready",
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

// === impl Illegal ===

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Illegal {}

// === impl Sub ===

impl Sub {
    /// Where `step` leads, or why it cannot happen now.
    pub(crate) fn target(&self, step: Move) -> Result<(State, StateCause), Illegal> {
        match self.legal(step) {
            Some(_) if self.removed => Err(Illegal(format!(
                "{} was removed: nothing but SHUTDOWN may come",
                self.name
            ))),
            Some(to) => Ok(to),
            None => Err(self.illegal(step)),
        }
    }

    /// Where `step` leads by the state table, if anywhere.
    pub(crate) fn legal(&self, step: Move) -> Option<(State, StateCause)> {
        let when_asked = self.options.reconnect == Reconnect::WhenAsked;
        let health = self.options.health == HealthReporting::On;
        let after_loss = if when_asked {
            State::Idle
        } else {
            State::Connecting
        };
        let connection = StateCause::Connectivity;
        let to = match (self.state, step) {
            (State::Idle, Move::Connecting) if self.asked => (State::Connecting, connection),
            (State::Connecting, Move::Ready) => (State::Ready, connection),
            (State::Connecting, Move::Failed) => (State::TransientFailure, connection),
            (State::Connecting, Move::Idle) if when_asked => (State::Idle, connection),
            (State::Connecting | State::Ready, Move::HealthFailed) if health => {
                (State::TransientFailure, StateCause::Health)
            }
            (State::Ready, Move::Lost) => (after_loss, connection),
            (State::TransientFailure, Move::HealthReady) if self.unhealthy => {
                (State::Ready, StateCause::Health)
            }
            (State::TransientFailure, Move::Lost) if self.unhealthy => (after_loss, connection),
            (State::TransientFailure, Move::Connecting) if !self.unhealthy && !when_asked => {
                (State::Connecting, connection)
            }
            (State::TransientFailure, Move::Idle) if !self.unhealthy && when_asked => {
                (State::Idle, connection)
            }
            _ => return None,
        };
        Some(to)
    }

    fn illegal(&self, step: Move) -> Illegal {
        let Self { name, state, .. } = self;
        let mode = match self.options.reconnect {
            Reconnect::Immediately => "reconnects Immediately",
            Reconnect::WhenAsked => "reconnects WhenAsked",
        };
        let why = match state {
            State::Idle if self.asked => {
                "an IDLE SubConn that was asked to connect can only be CONNECTING next"
            }
            State::Idle => "it is IDLE and nobody asked it to connect, so it stays IDLE",
            State::Connecting => {
                "a CONNECTING SubConn becomes READY, fails, or (WhenAsked) becomes IDLE"
            }
            State::Ready => {
                "a READY SubConn is lost (to IDLE or CONNECTING by its mode, never to TRANSIENT_FAILURE), or fails by health where that is on"
            }
            State::TransientFailure if self.unhealthy => {
                "an unhealthy SubConn becomes healthy, or loses its connection"
            }
            State::TransientFailure => {
                "after a failure comes IDLE (WhenAsked) or CONNECTING (Immediately)"
            }
            State::Shutdown => "it is gone for ever",
        };
        Illegal(format!(
            "{step} {name}: not from {state} of a SubConn that {mode}: {why}"
        ))
    }

    /// The next step on the way to `goal`, for stories that leave out the steps between.
    pub(crate) fn toward(&self, goal: Move) -> Move {
        let when_asked = self.options.reconnect == Reconnect::WhenAsked;
        match (self.state, goal) {
            (State::Idle, Move::Ready | Move::Failed | Move::HealthFailed) => Move::Connecting,
            (State::TransientFailure, Move::Ready) if self.unhealthy => Move::HealthReady,
            (
                State::TransientFailure,
                Move::Ready | Move::Failed | Move::Connecting | Move::HealthFailed,
            ) if !self.unhealthy => {
                if when_asked {
                    Move::Idle
                } else {
                    Move::Connecting
                }
            }
            (State::Ready, Move::Idle) if when_asked => Move::Lost,
            _ => goal,
        }
    }

    pub(crate) fn address_at(&self, addr: &str) -> Option<&Address> {
        self.addresses
            .iter()
            .find(|address| address_name(address) == addr)
    }
}

// === impl ScriptedSubConn ===

impl SubConnHandle for ScriptedSubConn {
    fn connect(&self) {
        self.conn.connect(self.id);
    }

    fn update_addresses(&self, addresses: Vec<Address>) {
        self.conn.update_addresses(self.id, addresses);
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.conn.name_of(self.id))
    }
}
