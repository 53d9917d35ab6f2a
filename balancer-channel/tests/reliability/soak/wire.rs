//! What the client's process is told and what it says: a line of JSON each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// What the client is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Where the backends are: what the resolvers of both channels find.
    Resolve {
        steady: Vec<SocketAddr>,
        rough: Vec<SocketAddr>,
        /// The policy, by name.
        policy: String,
    },
    /// The resolvers find nothing, for this reason.
    Unresolved(String),
    /// Both channels become idle, until the next RPC.
    EnterIdle,
    /// No more RPCs.
    End,
}

/// What the client says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    Sample(Sample),
    /// RPCs of the steady load that were answered since it was last said, by backend.
    Answered(BTreeMap<String, usize>),
    Failed(Failed),
    End(Summary),
}

/// What the client holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Since the client began.
    pub(super) at_ms: u64,
    pub(super) resident_kib: u64,
    pub(super) descriptors: u64,
    pub(super) tasks: u64,
}

/// An RPC that failed, but for those that their own deadline ended in time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    /// Of the steady load, in which nothing is cancelled.
    pub(super) steady: bool,
    pub(super) code: i32,
    pub(super) message: String,
    /// By the clock on the wall.
    pub(super) ended_ms: u64,
}

/// What the RPCs came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) begun: usize,
    /// Dropped on the way.
    pub(super) cancelled: usize,
    /// Ended by their own deadlines.
    pub(super) late: usize,
    /// What 99.9 % of the steady load did not take longer than.
    pub(super) tail: Duration,
}

/// What two processes agree on.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("before the year 584 million")
}
