//! The balancer command: see, call and check gRPC load balancing.
fn main() {}
