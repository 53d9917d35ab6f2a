//! An address whose SYNs are never answered.

use super::port::{bound, not_inet};
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

/// A listener whose accept queue is full and stays full.
///
/// Linux drops the SYN of every further connect, so the client hangs in `SYN_SENT` until it gives
/// up by itself, as with a machine that is gone or a firewall that drops.
#[derive(Debug)]
pub struct Blackhole {
    addr: SocketAddr,
    _listener: Socket,
    /// The one connection that a backlog of 0 lets through. It must never be accepted.
    _plug: TcpStream,
}

// === impl Blackhole ===

impl Blackhole {
    /// A blackhole on a free port of 127.0.0.1.
    ///
    /// # Blocking
    /// For one loopback connect.
    ///
    /// # Errors
    /// No port is free.
    pub fn new() -> io::Result<Self> {
        let listener = bound(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        listener.listen(0)?;
        let addr = listener.local_addr()?.as_socket().ok_or_else(not_inet)?;
        let plug = TcpStream::connect(addr)?;
        Ok(Self {
            addr,
            _listener: listener,
            _plug: plug,
        })
    }

    /// Where a connect hangs.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
