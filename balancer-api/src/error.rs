//! Errors of the contract, each with its consequence.

use std::{error::Error, fmt, sync::Arc};

use crate::Status;

/// Why a picker gave no SubConn, and so what happens to the RPC.
///
/// | outcome | RPC fails fast (the default) | RPC waits for ready |
/// |---|---|---|
/// | [`NoSubConnAvailable`](Self::NoSubConnAvailable) | waits for the next picker | waits |
/// | [`TransientFailure`](Self::TransientFailure) | fails UNAVAILABLE with the detail | waits |
/// | [`Failed`](Self::Failed) | fails UNAVAILABLE with the message | fails too |
/// | [`Drop`](Self::Drop) | fails with the status, is never retried | fails too |
///
/// The two sentinels of gRPC-Go's `balancer` package are [`ERR_NO_SUB_CONN_AVAILABLE`] and
/// [`ERR_TRANSIENT_FAILURE`]. Nothing here allocates when it is cloned.
///
/// ```
/// use balancer_api::{ERR_TRANSIENT_FAILURE, PickError};
/// let detailed = PickError::transient_failure("127.0.0.1:1: connection refused");
/// assert_ne!(detailed, ERR_TRANSIENT_FAILURE);
/// assert!(detailed.to_string().ends_with("connection refused"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickError {
    /// No SubConn can take the RPC yet, but one is being made. The channel keeps the RPC and picks
    /// again from the next picker; the application never sees this.
    NoSubConnAvailable,
    /// Nothing is connected and nothing is on the way. The text, if any, is the last real error.
    TransientFailure(Option<Arc<str>>),
    /// Any other error of the policy. Always UNAVAILABLE, also for an RPC that waits for ready.
    Failed(Arc<str>),
    /// The policy drops this RPC on purpose, with a status of its choice. A code that only servers
    /// may use is rewritten to INTERNAL (gRFC A54).
    Drop(Arc<Status>),
}

/// No SubConn is available now and one may be soon: the RPC is kept until the next picker.
pub const ERR_NO_SUB_CONN_AVAILABLE: PickError = PickError::NoSubConnAvailable;

/// All SubConns are in TRANSIENT_FAILURE: an RPC that waits for ready is kept, others fail.
pub const ERR_TRANSIENT_FAILURE: PickError = PickError::TransientFailure(None);

/// Why [`ClientConn::new_sub_conn`](crate::ClientConn::new_sub_conn) or
/// [`new_lookaside`](crate::ClientConn::new_lookaside) made no SubConn.
///
/// A policy goes on with its other endpoints and tries this one again with the next resolver
/// result; it remembers nothing of the failed one.
///
/// ```
/// use balancer_api::NewSubConnError;
/// assert_eq!(NewSubConnError::NoAddresses.to_string(), "a SubConn needs at least one address");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewSubConnError {
    /// The address list was empty.
    NoAddresses,
    /// The channel is closing, or the policy was closed or replaced.
    Closed,
    /// The channel refuses another one: a limit, a malformed address.
    Refused(Arc<str>),
}

/// The resolver could not resolve the target.
///
/// Given to [`Balancer::handle_resolved_addrs`](crate::Balancer::handle_resolved_addrs). Before any
/// good result a policy reports TRANSIENT_FAILURE with it; afterwards it goes on with what it has.
///
/// ```
/// use balancer_api::ResolveError;
/// assert_eq!(ResolveError::new("no such host: a.example").to_string(), "no such host: a.example");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    message: Arc<str>,
}

/// A policy's "no" to a resolver result: the resolver backs off and resolves again.
///
/// What the policy did with the result is its own affair and already done; saying no only feeds
/// back that the result was unusable (an empty list, a config of the wrong kind).
///
/// ```
/// use balancer_api::Rejected;
/// assert_eq!(Rejected::new("zero addresses").reason(), "zero addresses");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    reason: Arc<str>,
}

/// A part of a service config that breaks a rule.
///
/// Names the path, the value and the rule; the value is escaped and cut to 256 characters, since a
/// config may come from an attacker and the error goes to logs.
///
/// ```
/// use balancer_api::ConfigError;
/// let error = ConfigError::new("choiceCount", "1", "must be at least 2");
/// assert_eq!(error.to_string(), "choiceCount: 1: must be at least 2");
/// assert_eq!(error.within("least_request").path(), "least_request.choiceCount");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    value: String,
    rule: String,
}

/// Shows untrusted text: characters that are not printable escaped, at most 256 of them.
pub(crate) fn escaped(value: &str) -> String {
    const MAX: usize = 256;
    let mut shown = String::new();
    let mut length = 0;
    for c in value.chars() {
        // Quotes and backslashes are plain in JSON text; escaping them twice helps nobody.
        let escaped: String = match c {
            '"' | '\'' | '\\' => c.to_string(),
            _ => c.escape_debug().collect(),
        };
        let width = escaped.chars().count();
        if length + width > MAX - 1 {
            shown.push('…');
            break;
        }
        length += width;
        shown.push_str(&escaped);
    }
    shown
}

// === impl PickError ===

impl PickError {
    /// TRANSIENT_FAILURE with the last real error, which is what a user needs to read.
    pub fn transient_failure(detail: impl Into<Arc<str>>) -> Self {
        Self::TransientFailure(Some(detail.into()))
    }

    /// An error that fails every RPC with UNAVAILABLE, also those that wait for ready.
    pub fn failed(message: impl Into<Arc<str>>) -> Self {
        Self::Failed(message.into())
    }

    /// Drops the RPC with `status`.
    pub fn drop(status: Status) -> Self {
        Self::Drop(Arc::new(status))
    }
}

impl fmt::Display for PickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSubConnAvailable => f.write_str("no SubConn is available"),
            Self::TransientFailure(None) => f.write_str("all SubConns are in TransientFailure"),
            Self::TransientFailure(Some(text)) | Self::Failed(text) => f.write_str(text),
            Self::Drop(status) => write!(f, "dropped by the policy: {status}"),
        }
    }
}

impl Error for PickError {}

// === impl NewSubConnError ===

impl fmt::Display for NewSubConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddresses => f.write_str("a SubConn needs at least one address"),
            Self::Closed => f.write_str("the channel or the policy is closed"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

impl Error for NewSubConnError {}

// === impl ResolveError ===

impl ResolveError {
    /// An error with a message for people; it ends up in the status of RPCs.
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ResolveError {}

// === impl Rejected ===

impl Rejected {
    /// A rejection for `reason`.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resolver result rejected: {}", self.reason)
    }
}

impl Error for Rejected {}

// === impl ConfigError ===

impl ConfigError {
    /// The value at `path` breaks `rule`.
    pub fn new(path: impl Into<String>, value: impl AsRef<str>, rule: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: escaped(value.as_ref()),
            rule: rule.into(),
        }
    }

    /// The same error, seen from the outside: `outer` is put before the path.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.path = match (outer, self.path.as_str()) {
            ("", _) => self.path,
            (_, "") => outer.to_owned(),
            (_, path) if path.starts_with('[') => format!("{outer}{path}"),
            (_, path) => format!("{outer}.{path}"),
        };
        self
    }

    /// Where, as in `loadBalancingConfig[0].round_robin`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What stood there, escaped and cut to 256 characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What should have stood there.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, value, rule } = self;
        match (path.as_str(), value.as_str()) {
            ("", "") => f.write_str(rule),
            ("", _) => write!(f, "{value}: {rule}"),
            (_, "") => write!(f, "{path}: {rule}"),
            _ => write!(f, "{path}: {value}: {rule}"),
        }
    }
}

impl Error for ConfigError {}
