//! Every interleaving of RPCs that want a stream, streams that end, and a connection that does.
//!
//! `transport/admission.rs`, `line.rs` and `rouse.rs` are compiled into this test with `loom`'s atomics
//! and mutexes in place of the real ones. A lost wake-up is a deadlock, which `loom` reports.
//!
//! `cargo test -p balancer-channel --features loom --test loom --release`; the environment variable
//! `BALANCER_LOOM_BOUND` says how many preemptions are explored (2).

#[path = "../../src/transport/admission.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "a part of a library, without the rest"
)]
mod admission;
#[path = "../../../balancer-channel-core/tests/loom/explore.rs"]
mod explore;
#[path = "../../src/transport/line.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "a part of a library, without the rest"
)]
mod line;
mod models;
#[path = "../../src/transport/rouse.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "a part of a library, without the rest"
)]
mod rouse;
mod sync;
mod wakes;
