//! Every interleaving of those who publish pickers and those who wait for them.
//!
//! `picker_cell.rs` is compiled into this test with `loom`'s atomics and mutexes in place of the
//! real ones, and a mutex in place of `arc-swap`: what is proved is our protocol of generations,
//! waiters and idleness, not `arc-swap` itself. A lost wake-up is a deadlock, which `loom` reports.
//!
//! `cargo test -p balancer-channel-core --features loom --test loom --release`

#[path = "../../src/picker_cell.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "parts of a library, without the rest"
)]
mod picker_cell;
mod sync;

mod models;
