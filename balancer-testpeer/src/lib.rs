//! A scriptable HTTP/2 peer that writes frames by hand, for tests.
#![forbid(unsafe_code)]

pub mod faults;
pub mod frame;
pub mod grpc;
pub mod hpack;

mod backend;
mod conn;
mod error;
mod headers;
mod journal;
mod net;
mod peer;
mod script;
mod server;

pub use backend::{Answer, Backend, MakeFrames, Response};
pub use conn::{Conn, Event, MAX_STREAM, Manners, Request};
pub use error::PeerError;
pub use headers::Headers;
pub use journal::{ConnectionRecord, Journal};
pub use net::{Blackhole, Ending, FdHoard, Io, Refused};
pub use peer::Peer;
pub use script::{Behaviour, Script};
pub use server::Server;
