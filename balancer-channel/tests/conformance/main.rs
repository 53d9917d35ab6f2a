//! The kit's suite for channels, over the whole channel: HTTP/2 to servers without sockets, under a
//! paused clock.

mod rig;

#[path = "../support/mod.rs"]
mod support;

balancer_testkit::channel_conformance!(rig::Rig::new);
