//! Load-balancing policies by name, and the gRPC service config.
#![forbid(unsafe_code)]
