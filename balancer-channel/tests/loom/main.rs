//! Every interleaving of RPCs that want a stream, streams that end, and a connection that does.
//!
//! `transport/admission.rs` is compiled into this test with `loom`'s atomics and mutexes in place of
//! the real ones. A lost wake-up is a deadlock, which `loom` reports.
//!
//! `cargo test -p balancer-channel --features loom --test loom --release`

#[path = "../../src/transport/admission.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "a part of a library, without the rest"
)]
mod admission;
mod models;
mod sync;
