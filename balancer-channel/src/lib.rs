//! A gRPC channel for tonic clients with pluggable load balancing.
#![forbid(unsafe_code)]

#[allow(dead_code, unused_imports, reason = "the channel comes next")]
mod transport;

pub use transport::{TlsConfig, TlsConfigError};
