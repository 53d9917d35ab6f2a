//! What must hold in every world.

use std::fmt;

use balancer_api::Timestamp;

/// A law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// Each RPC ends by its deadline, with a code that what happened allows; no wake-up is lost.
    Ends,
    /// Done once for each pick, no more and no less.
    Done,
    /// An RPC is only sent on a READY SubConn of this channel that the policy returned.
    Ready,
    /// Legal moves of a SubConn, none after SHUTDOWN, and each state is what the network bears out.
    Moves,
    /// The reported state and the picker agree, and the channel tells what the policy reported.
    Agrees,
    /// When the faults have stopped and a backend is good, RPCs get there within the back-off.
    Recovers,
    /// After the close there is no task, timer, socket, policy or picker.
    Clean,
    /// Connections and resolutions are tried no more often than the back-off allows.
    Backoff,
    /// Between two changes round_robin's counts differ by one at most.
    Fair,
    /// Callbacks of a policy come one at a time, none after its close.
    Serial,
    /// Nothing spins and nothing panics.
    Progress,
}

/// A law that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// When, in virtual time.
    pub at: Timestamp,
    /// How.
    pub what: String,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ends => "I1 each RPC ends in time and well",
            Self::Done => "I2 done exactly once",
            Self::Ready => "I3 sent on READY SubConns only",
            Self::Moves => "I4 legal SubConn states",
            Self::Agrees => "I5 state and picker agree",
            Self::Recovers => "I6 recovers",
            Self::Clean => "I7 nothing is left after the close",
            Self::Backoff => "I8 back-off",
            Self::Fair => "I9 round_robin is fair",
            Self::Serial => "callbacks are serial",
            Self::Progress => "no spin, no panic",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_nanos() as f64 / 1e9;
        write!(f, "{} (at {seconds:.6} s): {}", self.law, self.what)
    }
}
