//! What a channel looks like from outside at one moment.

use balancer_api::{Address, ConnectivityState, Status};

use crate::sync::Arc;

/// A channel at one moment: for people, logs and tests; not for decisions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The target as the application gave it.
    pub target: Arc<str>,
    /// The channel's state.
    pub state: ConnectivityState,
    /// The policy at work, if one is.
    pub policy: Option<Arc<str>>,
    /// The policy that is about to take over.
    pub pending_policy: Option<Arc<str>>,
    /// The service config in use, as JSON.
    pub service_config: Option<Arc<str>>,
    /// How many RPCs wait for a picker.
    pub waiting: usize,
    /// The SubConns, oldest first.
    pub sub_conns: Vec<SubConnSnapshot>,
}

/// A SubConn at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubConnSnapshot {
    /// Unique within the channel.
    pub id: u64,
    /// Its state.
    pub state: ConnectivityState,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The connected one.
    pub connected: Option<Address>,
    /// Why the last attempt failed or the last connection was lost.
    pub last_error: Option<Status>,
    /// How many streams are open on its connections.
    pub streams: usize,
    /// How many RPCs wait for a stream, because the peer allows no more at a time.
    pub waiting: usize,
    /// Its connections, oldest first: one at most, unless the service config allows more
    /// (gRFC A105).
    pub connections: Vec<ConnectionSnapshot>,
}

/// A connection at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// How many streams are open.
    pub streams: usize,
    /// How many the peer allows at a time; `None`: as many as you like.
    pub max_streams: Option<usize>,
}

/// The part that changes with the policy.
#[derive(Debug, Default)]
pub(crate) struct PolicyInfo {
    pub(crate) current: Option<Arc<str>>,
    pub(crate) pending: Option<Arc<str>>,
    pub(crate) service_config: Option<Arc<str>>,
}
