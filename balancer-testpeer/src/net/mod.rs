//! Sockets: ports that stay ours, addresses that refuse, addresses that never answer.

mod blackhole;
mod hoard;
mod port;
mod refused;
mod transport;

pub use blackhole::Blackhole;
pub use hoard::FdHoard;
pub use refused::Refused;
pub use transport::Io;

pub(crate) use port::{Port, accept};
pub(crate) use transport::{Ends, Transport};

/// How a TCP connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As the kernel ends the sockets of a process that died: FIN, or RST where something the
    /// client sent was still unread.
    Close,
    /// RST always: the client reads a connection reset.
    Reset,
}
