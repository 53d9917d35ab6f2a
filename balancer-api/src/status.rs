//! gRPC status codes and a light status: what went wrong, without a transport's types.

use std::{borrow::Cow, fmt, sync::Arc};

/// A gRPC status code.
///
/// ```
/// use balancer_api::Code;
/// assert_eq!(Code::from_i32(14), Code::Unavailable);
/// assert_eq!(Code::Unavailable.as_str(), "UNAVAILABLE");
/// assert_eq!(Code::from_name("UNAVAILABLE"), Some(Code::Unavailable));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(
    missing_docs,
    reason = "the seventeen codes of the gRPC specification, by its names"
)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A code and a message for people: why an RPC, a connection or a call ended.
///
/// Cheap to clone: the message is shared.
///
/// ```
/// use balancer_api::{Code, Status};
/// let status = Status::new(Code::Unavailable, "127.0.0.1:1: connection refused");
/// assert_eq!(status.to_string(), "UNAVAILABLE: 127.0.0.1:1: connection refused");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    code: Code,
    message: Arc<str>,
}

const ALL: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

// === impl Code ===

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Code; 17] = ALL;

    /// The code of a number; a number outside 0..=16 is [`Code::Unknown`], as gRPC asks.
    pub fn from_i32(n: i32) -> Self {
        usize::try_from(n)
            .ok()
            .and_then(|i| ALL.get(i).copied())
            .unwrap_or(Self::Unknown)
    }

    /// The code of a name such as `UNAVAILABLE`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.into_iter()
            .find(|code| code.as_str().eq_ignore_ascii_case(name))
    }

    /// The name as gRPC writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Whether the control plane (a picker, a resolver, call credentials) may give an RPC this
    /// code. gRFC A54: the others are for servers, and a channel rewrites them to INTERNAL.
    pub const fn is_allowed_from_control_plane(self) -> bool {
        !matches!(
            self,
            Self::Ok
                | Self::InvalidArgument
                | Self::NotFound
                | Self::AlreadyExists
                | Self::FailedPrecondition
                | Self::Aborted
                | Self::OutOfRange
                | Self::DataLoss
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl Status ===

impl Status {
    /// A status of `code` with `message`.
    pub fn new<'a>(code: Code, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            code,
            message: Arc::from(message.into()),
        }
    }

    /// UNAVAILABLE with `message`.
    pub fn unavailable<'a>(message: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Why, as a code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Why, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// This status as an RPC may see it when it comes from the control plane (gRFC A54): a code
    /// that only servers may use becomes INTERNAL, with the original in the message.
    ///
    /// ```
    /// use balancer_api::{Code, Status};
    /// let shown = Status::new(Code::NotFound, "no such zone").restricted_to_control_plane();
    /// assert_eq!(shown.code(), Code::Internal);
    /// assert!(shown.message().contains("NOT_FOUND") && shown.message().contains("no such zone"));
    /// ```
    #[must_use]
    pub fn restricted_to_control_plane(&self) -> Self {
        if self.code.is_allowed_from_control_plane() {
            return self.clone();
        }
        Self::new(
            Code::Internal,
            format!(
                "control plane used code {}, which is for servers: {}",
                self.code, self.message
            ),
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.code, self.message)
        }
    }
}

impl std::error::Error for Status {}
