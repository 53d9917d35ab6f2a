//! A listener that a test drives by hand, one connection at a time.

use crate::{
    Conn, Journal, PeerError,
    journal::Journals,
    net::{Ends, Port, Transport},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpListener, time::timeout};

/// How long a hand-driven connection waits before it fails the test with a sentence.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listening socket whose connections the test takes itself.
///
/// For a server that looks after itself, see [`Server`](crate::Server).
#[derive(Debug)]
pub struct Peer {
    port: Port,
    listener: TcpListener,
    journals: Journals,
}

// === impl Peer ===

impl Peer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port is free.
    pub async fn listen() -> io::Result<Self> {
        Self::listen_on(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Listens on a free port of another loopback address.
    ///
    /// # Errors
    /// No port is free, or the address is not this machine's.
    pub async fn listen_on(ip: IpAddr) -> io::Result<Self> {
        let port = Port::reserve(ip)?;
        let listener = port.listen()?;
        Ok(Self {
            port,
            listener,
            journals: Journals::default(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The next connection, with a patience of 30 s.
    ///
    /// # Errors
    /// The listener failed, or nobody connected for 30 s.
    pub async fn accept(&mut self) -> Result<Conn, PeerError> {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted
            .map_err(|_| PeerError::TimedOut {
                wanted: "a connection".into(),
                after: PATIENCE,
            })?
            .map_err(PeerError::io("accepting"))?;
        let transport = Transport::tcp(stream, Ends::default());
        let mut conn = Conn::new(transport, self.journals.open());
        conn.set_patience(Some(PATIENCE));
        Ok(conn)
    }

    /// What has been seen so far.
    pub fn journal(&self) -> Journal {
        self.journals.snapshot()
    }
}
