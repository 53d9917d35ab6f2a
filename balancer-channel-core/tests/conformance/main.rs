//! The kit's suite for channels, over a whole channel in memory.
//!
//! The core only picks: sending, deadlines and retries are its user's, and so is the choice of a
//! policy from a service config. Laws that need them are tried where those are.

#[path = "../support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the channel's other tests use the rest"
)]
mod support;

mod rig;

balancer_testkit::channel_conformance!(rig::Rig::new, without Rpcs, ServiceConfigs);
