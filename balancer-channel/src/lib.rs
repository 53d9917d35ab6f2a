//! A gRPC channel for tonic clients with pluggable load balancing.
#![forbid(unsafe_code)]
