//! What a channel looks like from outside at one moment.

use std::fmt;

use balancer_api::{Address, ConnectivityState, Status};

use crate::sync::Arc;

/// A channel at one moment: for people, logs and tests; not for decisions.
///
/// Its `Display` is for people: a line for the channel, its policy, its config, who waits, and each
/// SubConn. What others have chosen, configs and errors, is escaped and cut.
///
/// ```text
/// channel dns:///greeter.prod:50051 is READY
/// policy round_robin
/// service config {"loadBalancingConfig":[{"round_robin":{}}]}
/// 0 RPCs waiting for a connection
/// SubConn 1 READY at 10.0.0.1:50051: 3 streams, 1200 calls
/// SubConn 2 TRANSIENT_FAILURE to 10.0.0.2:50051: 0 streams, 17 calls, last error UNAVAILABLE: refused
/// ```
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
    /// How many calls it has carried, on connections that are gone too: attempts of RPCs, and calls of
    /// policies.
    pub calls: u64,
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

/// Untrusted text of any length, on one line.
struct Shown<'a>(&'a str);

// === impl Snapshot ===

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "channel {} is {}", Shown(&self.target), self.state)?;
        f.write_str(match &self.policy {
            Some(_) => "policy ",
            None => "no policy",
        })?;
        f.write_str(self.policy.as_deref().unwrap_or_default())?;
        if let Some(pending) = &self.pending_policy {
            write!(f, ", {pending} is about to take over")?;
        }
        match &self.service_config {
            Some(json) => writeln!(f, "\nservice config {}", Shown(json))?,
            None => writeln!(f, "\nno service config")?,
        }
        write!(
            f,
            "{} waiting for a connection",
            Counted(self.waiting as u64, "RPC")
        )?;
        for sub_conn in &self.sub_conns {
            write!(f, "\n{sub_conn}")?;
        }
        Ok(())
    }
}

// === impl SubConnSnapshot ===

impl fmt::Display for SubConnSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubConn {} {}", self.id, self.state)?;
        match (&self.connected, &*self.addresses) {
            (Some(address), _) => write!(f, " at {}", Shown(address.addr()))?,
            (None, []) => f.write_str(" to nowhere")?,
            (None, [first, rest @ ..]) => {
                write!(f, " to {}", Shown(first.addr()))?;
                if !rest.is_empty() {
                    write!(f, " and {} more", rest.len())?;
                }
            }
        }
        write!(f, ": {}", Counted(self.streams as u64, "stream"))?;
        if self.connections.len() > 1 {
            write!(f, " on {} connections", self.connections.len())?;
        }
        write!(f, ", {}", Counted(self.calls, "call"))?;
        if self.waiting > 0 {
            write!(
                f,
                ", {} waiting for a stream",
                Counted(self.waiting as u64, "RPC")
            )?;
        }
        if let Some(error) = &self.last_error {
            let (code, message) = (error.code(), Shown(error.message()));
            write!(f, ", last error {code}: {message}")?;
        }
        Ok(())
    }
}

// === impl Shown ===

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 256;
        // A config's quotation marks are read more easily as they are.
        let escaped = |c: char| c.is_control().then(|| c.escape_debug());
        for (n, c) in self.0.chars().enumerate() {
            if n == MAX {
                return f.write_str("…");
            }
            match escaped(c) {
                Some(escaped) => write!(f, "{escaped}")?,
                None => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// So many of something.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}
