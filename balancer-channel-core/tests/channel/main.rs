//! The channel's contract, held against a whole channel in memory.

#[path = "../support/mod.rs"]
mod support;

#[path = "../../../balancer-channel/tests/seeing/scribe.rs"]
#[allow(dead_code, reason = "not every line of it is for these tests")]
mod scribe;

mod calls;
mod close;
mod costs;
mod health;
mod idle;
mod panics;
mod picks;
mod refreshing;
mod resolving;
mod serial;
mod sub_conns;
mod switch;
mod threads;
mod warm_up;
