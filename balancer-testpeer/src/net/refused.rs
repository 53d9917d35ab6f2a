//! An address that refuses connections.

use super::port::Port;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// A loopback address nothing listens on, and nothing else can listen on while this lives.
///
/// ```
/// use balancer_testpeer::Refused;
///
/// let nobody = Refused::new()?;
/// let error = std::net::TcpStream::connect(nobody.addr()).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Refused(Port);

// === impl Refused ===

impl Refused {
    /// Reserves a port of 127.0.0.1.
    ///
    /// # Errors
    /// No port is free.
    pub fn new() -> io::Result<Self> {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    /// Reserves a port of another loopback address.
    ///
    /// # Errors
    /// No port is free, or the address is not this machine's.
    pub fn on(ip: IpAddr) -> io::Result<Self> {
        Port::reserve(ip).map(Self)
    }

    /// Where to connect in vain.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }
}
