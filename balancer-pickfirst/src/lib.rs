//! The pick_first load-balancing policy for gRPC.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]
