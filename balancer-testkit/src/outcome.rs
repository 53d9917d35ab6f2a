//! What a pick came to, readable and comparable.

use std::{fmt, sync::Arc};

use balancer_api::{Code, PickError};

/// What a pick came to.
///
/// Compares with a text: the name of the SubConn, the address that it is connected to, or the word
/// `queue`, `fail`, `drop`.
///
/// ```
/// use balancer_testkit::Outcome;
/// assert_eq!(Outcome::Queue, "queue");
/// assert_eq!(Outcome::Fail("refused".into()), "fail");
/// assert_eq!(Outcome::Fail("refused".into()).to_string(), "fail (refused)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A SubConn of this channel.
    SubConn {
        /// Its name: its addresses joined by `+`.
        name: Arc<str>,
        /// The address that it is connected to, when it is.
        address: Option<Arc<str>>,
    },
    /// Wait for the next picker ([`PickError::NoSubConnAvailable`]).
    Queue,
    /// [`PickError::TransientFailure`], with its text.
    Fail(Arc<str>),
    /// [`PickError::Failed`], with its text.
    Failed(Arc<str>),
    /// [`PickError::Drop`], with its status.
    Drop(Code, Arc<str>),
    /// A SubConn that is not of this channel.
    Stranger,
    /// The picker panicked with this message.
    Panicked(Arc<str>),
    /// The policy has published no picker yet.
    NoPicker,
}

// === impl Outcome ===

impl Outcome {
    /// The name of the SubConn that was picked.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::SubConn { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The text of a failure.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Fail(text) | Self::Failed(text) | Self::Drop(_, text) | Self::Panicked(text) => {
                Some(text)
            }
            _ => None,
        }
    }

    /// Whether the RPC waits for another picker.
    pub fn is_queue(&self) -> bool {
        *self == Self::Queue
    }

    /// Whether an RPC that fails fast fails.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Fail(_) | Self::Failed(_) | Self::Drop(..))
    }

    pub(crate) fn of_error(error: PickError) -> Self {
        match error {
            PickError::NoSubConnAvailable => Self::Queue,
            PickError::TransientFailure(text) => Self::Fail(text.unwrap_or_else(|| "".into())),
            PickError::Failed(text) => Self::Failed(text),
            PickError::Drop(status) => Self::Drop(status.code(), status.message().into()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SubConn { name, .. } => f.write_str(name),
            Self::Queue => f.write_str("queue"),
            Self::Fail(text) if text.is_empty() => f.write_str("fail"),
            Self::Fail(text) => write!(f, "fail ({text})"),
            Self::Failed(text) => write!(f, "fail, also when waiting for ready ({text})"),
            Self::Drop(code, text) => write!(f, "drop with {code} ({text})"),
            Self::Stranger => f.write_str("a SubConn of another channel"),
            Self::Panicked(text) => write!(f, "panic ({text})"),
            Self::NoPicker => f.write_str("no picker"),
        }
    }
}

impl PartialEq<&str> for Outcome {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for Outcome {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<str> for Outcome {
    fn eq(&self, other: &str) -> bool {
        match self {
            Self::SubConn { name, address } => {
                &**name == other || address.as_deref() == Some(other)
            }
            Self::Queue => other == "queue",
            Self::Fail(_) => other == "fail",
            Self::Failed(_) => other == "failed",
            Self::Drop(..) => other == "drop",
            Self::Stranger => other == "stranger",
            Self::Panicked(_) => other == "panic",
            Self::NoPicker => other == "no picker",
        }
    }
}
