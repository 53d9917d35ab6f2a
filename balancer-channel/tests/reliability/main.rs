//! Rows of the reliability scoreboard that need a channel and real sockets. Each is an ignored test
//! that prints `row`, its number, what was measured and the verdict, and fails when the goal is
//! missed.
//!
//! `cargo xtask reliability` runs them, each in a process of its own, and makes the table. How much is
//! measured is said by `BALANCER_RELIABILITY`: `ci` (the default), `short` or `full`.

#[path = "../support/mod.rs"]
mod support;

mod backends;
mod bad_peers;
mod cancellations;
mod child;
#[cfg(target_os = "linux")]
mod dead_ends;
mod fleet;
mod herd;
#[cfg(target_os = "linux")]
mod leaks;
mod load;
mod report;
#[cfg(target_os = "linux")]
mod soak;
mod stalls;
mod virtual_time;
