//! The balancer command: see, call and check gRPC load balancing.
#![forbid(unsafe_code)]

fn main() {}
