//! What can go wrong on the peer's side of a test.

use crate::hpack::HpackError;
use std::{error, fmt, io, time::Duration};

/// Why the peer could not do what the test asked of it.
///
/// Its text names what was wanted and what came instead, because it ends up in a failed test.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerError {
    /// The socket failed.
    Io {
        /// What the peer was doing.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The client closed the connection.
    Closed {
        /// What the peer was waiting for.
        wanted: String,
    },
    /// Something else came first.
    Unexpected {
        /// What the peer was waiting for.
        wanted: String,
        /// What it got.
        got: String,
    },
    /// Nothing came within the connection's patience.
    TimedOut {
        /// What the peer was waiting for.
        wanted: String,
        /// How long it waited.
        after: Duration,
    },
    /// The client sent a header block that cannot be decoded.
    Hpack(HpackError),
}

// === impl PeerError ===

impl PeerError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether the client is gone: end of stream, or a socket error that means the same.
    pub fn is_disconnect(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        match self {
            Self::Closed { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected
            ),
            _ => false,
        }
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Closed { wanted } => write!(f, "wanted {wanted}, but the client closed"),
            Self::Unexpected { wanted, got } => write!(f, "wanted {wanted}, got {got}"),
            Self::TimedOut { wanted, after } => {
                write!(f, "wanted {wanted}, nothing came within {after:?}")
            }
            Self::Hpack(why) => write!(f, "the client's header block is malformed: {why}"),
        }
    }
}

impl error::Error for PeerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Hpack(why) => Some(why),
            _ => None,
        }
    }
}

impl From<HpackError> for PeerError {
    fn from(why: HpackError) -> Self {
        Self::Hpack(why)
    }
}
