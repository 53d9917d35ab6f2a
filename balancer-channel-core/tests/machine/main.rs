//! The SubConn's state machine, alone: every row of the state table, every wait, every race.
//!
//! The machine is private to the crate and pure, so it is compiled into this test as it is.

#[path = "../../src/machine.rs"]
mod machine;

mod addresses;
mod backoff;
mod growing;
mod racing;
mod random;
mod rig;
mod states;

// What `machine.rs` takes from its crate.
use balancer_channel_core::Backoff;
