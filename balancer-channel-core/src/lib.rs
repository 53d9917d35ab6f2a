//! The gRPC channel without a runtime: pick loop, waiting RPCs and SubConn state machines.

#![forbid(unsafe_code)]

pub mod env;
