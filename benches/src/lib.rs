//! Benchmarks of the workspace: contenders behind one interface, servers in another process.
//!
//! `cargo xtask bench` runs them; `cargo xtask bench --check` gates on instruction counts. The floor
//! is [`contenders::direct_h2`]: tonic's codec on the barest use of `h2`.

#![forbid(unsafe_code)]

pub mod caller;
pub mod client;
pub mod clock;
pub mod contenders;
pub mod crowd;
pub mod echo;
pub mod fleet;
pub mod load;
pub mod picks;
pub mod random;
pub mod waiting;

/// The snippets of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
