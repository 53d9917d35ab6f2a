//! A scripted ClientConn and the laws that every gRPC load-balancing policy must keep.
#![forbid(unsafe_code)]
