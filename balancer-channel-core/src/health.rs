//! The two messages of `grpc.health.v1.Health/Watch`, and what an answer means.

use std::fmt;

use bytes::Bytes;
use prost::Message;

/// The method that is called.
pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What a backend says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Serving,
    /// Anything else, by its number.
    Not(i32),
    /// Not even a message of the protocol.
    Unreadable,
}

/// The request for `service`.
pub(crate) fn request(service: &str) -> Bytes {
    let service = service.to_owned();
    HealthCheckRequest { service }.encode_to_vec().into()
}

/// Reads an answer.
pub(crate) fn read(message: &Bytes) -> Answer {
    match HealthCheckResponse::decode(message.clone()) {
        Ok(HealthCheckResponse { status: 1 }) => Answer::Serving,
        Ok(HealthCheckResponse { status }) => Answer::Not(status),
        Err(_) => Answer::Unreadable,
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("SERVING"),
            Self::Not(0) => f.write_str("UNKNOWN"),
            Self::Not(2) => f.write_str("NOT_SERVING"),
            Self::Not(3) => f.write_str("SERVICE_UNKNOWN"),
            Self::Not(other) => write!(f, "{other}, which is no status"),
            Self::Unreadable => f.write_str("something that is no HealthCheckResponse"),
        }
    }
}
