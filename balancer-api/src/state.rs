//! Connectivity states and how many of them become one.

use std::fmt;

/// The state of a channel or of a SubConn.
///
/// The five states and their meaning are those of gRPC's connectivity semantics document.
///
/// ```
/// use balancer_api::ConnectivityState;
/// assert_eq!(ConnectivityState::TransientFailure.to_string(), "TRANSIENT_FAILURE");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectivityState {
    /// Not connected and not trying. Every SubConn starts here.
    Idle,
    /// Trying to connect. An RPC that is queued now may be sent soon.
    Connecting,
    /// Connected: an RPC can be sent.
    Ready,
    /// The last attempt failed and the next one waits for its back-off.
    TransientFailure,
    /// Ended for ever.
    Shutdown,
}

/// Folds the states of many SubConns (or children) into the one that a policy reports.
///
/// Any READY makes READY; else any CONNECTING makes CONNECTING; else any IDLE makes IDLE; else
/// TRANSIENT_FAILURE, which is also the answer for no SubConn at all. SHUTDOWN counts as absent.
/// Recording costs a few instructions however many SubConns there are.
///
/// Whether a SubConn that failed counts as TRANSIENT_FAILURE until it is READY again (*sticky*
/// failure, gRFC A62) is for the caller to decide: record nothing for the moves that are not to
/// count. The [base](crate::base) does so.
///
/// ```
/// use balancer_api::{ConnectivityState as S, ConnectivityStateEvaluator};
/// let mut all = ConnectivityStateEvaluator::new();
/// assert_eq!(all.current(), S::TransientFailure, "nothing can take an RPC");
/// assert_eq!(all.record_transition(None, S::Connecting), S::Connecting);
/// assert_eq!(all.record_transition(Some(S::Connecting), S::Ready), S::Ready);
/// assert_eq!(all.record_transition(Some(S::Ready), S::Shutdown), S::TransientFailure);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectivityStateEvaluator {
    idle: usize,
    connecting: usize,
    ready: usize,
    transient_failure: usize,
}

// === impl ConnectivityState ===

impl ConnectivityState {
    /// The name as gRPC writes it, for example `READY`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

impl fmt::Display for ConnectivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl ConnectivityStateEvaluator ===

impl ConnectivityStateEvaluator {
    /// An evaluator that has seen nothing.
    pub const fn new() -> Self {
        Self {
            idle: 0,
            connecting: 0,
            ready: 0,
            transient_failure: 0,
        }
    }

    /// Takes one SubConn from `old` (`None` for a new one) to `new`, and answers the aggregate.
    ///
    /// A SubConn that leaves the set goes to [`ConnectivityState::Shutdown`]. An `old` that was
    /// never recorded is ignored rather than counted below zero.
    pub fn record_transition(
        &mut self,
        old: Option<ConnectivityState>,
        new: ConnectivityState,
    ) -> ConnectivityState {
        if let Some(count) = old.and_then(|state| self.count(state)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.count(new) {
            *count += 1;
        }
        self.current()
    }

    /// The aggregate of what was recorded so far.
    pub const fn current(&self) -> ConnectivityState {
        if self.ready > 0 {
            ConnectivityState::Ready
        } else if self.connecting > 0 {
            ConnectivityState::Connecting
        } else if self.idle > 0 {
            ConnectivityState::Idle
        } else {
            ConnectivityState::TransientFailure
        }
    }

    fn count(&mut self, state: ConnectivityState) -> Option<&mut usize> {
        match state {
            ConnectivityState::Idle => Some(&mut self.idle),
            ConnectivityState::Connecting => Some(&mut self.connecting),
            ConnectivityState::Ready => Some(&mut self.ready),
            ConnectivityState::TransientFailure => Some(&mut self.transient_failure),
            ConnectivityState::Shutdown => None,
        }
    }
}
