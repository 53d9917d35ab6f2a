//! A whole channel in memory: a clock and tasks that a test moves by hand, connections without
//! sockets, and policies that do what the test says.

mod env;
mod fixture;
mod log;
mod net;
mod puppet;
mod rpc;
mod sim;

#[allow(unused_imports, reason = "for the rig, which is no fixture")]
pub(crate) use self::fixture::leaves_nothing;
pub(crate) use self::{
    env::SimEnv,
    fixture::{Fixture, endpoints, unread},
    log::Log,
    net::{Answer, CallState, Wire},
    puppet::{Event, Flow, Puppet},
    rpc::Rpc,
    sim::{Sim, block_on},
};
