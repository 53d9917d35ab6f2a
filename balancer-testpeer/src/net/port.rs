//! A port that stays ours while nothing listens on it.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::net::{TcpListener, TcpStream};

/// Holds a TCP port by a bound socket that never listens.
///
/// Without it a test that kills a server could find its port taken by another test before the
/// restart. A connect to a held port that nobody listens on is refused.
#[derive(Debug)]
pub(crate) struct Port {
    addr: SocketAddr,
    _hold: Socket,
}

// === impl Port ===

impl Port {
    /// Any free port of `ip`.
    pub(crate) fn reserve(ip: IpAddr) -> io::Result<Self> {
        let hold = bound(SocketAddr::new(ip, 0))?;
        let addr = hold.local_addr()?.as_socket().ok_or_else(not_inet)?;
        Ok(Self { addr, _hold: hold })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on the port; dropping the listener makes it refuse again.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.addr)?;
        socket.listen(1024)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket.into())
    }
}

/// A socket bound with SO_REUSEADDR, so that hold and listener can share the port, and so that
/// connections in TIME_WAIT do not stand in a restart's way.
pub(super) fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

pub(super) fn not_inet() -> io::Error {
    io::Error::other("an IP socket has an address that is not IP")
}

/// The next connection; never, without a listener.
pub(crate) async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client gave up in the queue, or descriptors ran out: the next one may do better.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
