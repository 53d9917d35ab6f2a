//! A process that has nothing left to connect with, or nowhere to connect to.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_api::{Dialer, Io};
use balancer_channel::{Backoff, Channel, WaitForReady};
use balancer_testpeer::{Backend, FdHoard, Server};
use tokio_util::compat::TokioAsyncReadCompatExt;
use tonic::{Code, Request};

use super::{echo, text};

/// The first back-off.
const SHORT: Duration = Duration::from_millis(300);

/// There are no descriptors left.
pub(crate) async fn of_descriptors() {
    let server = Server::start(Backend::new("good")).await.expect("a port");
    let mut hoard = FdHoard::take_all_but(0).expect("descriptors");
    fails_then_recovers(&server, "os error 24", || hoard.release(usize::MAX)).await;
}

/// There are no ports left, of which there were few.
#[cfg(target_os = "linux")]
pub(crate) async fn of_ports() {
    let server = Server::start(Backend::new("good")).await.expect("a port");
    let mut taken = Vec::new();
    while let Ok(socket) = std::net::TcpStream::connect(server.addr()) {
        taken.push(socket);
        assert!(taken.len() < 100, "there are only a few");
    }
    // Their ends, and nobody waits for stray octets of theirs.
    let release = || {
        for socket in taken.drain(..) {
            let socket = socket2_of(socket);
            drop(socket);
        }
    };
    fails_then_recovers(&server, "os error 99", release).await;
}

/// A socket that is reset when it is dropped, so that its port is free at once.
#[cfg(target_os = "linux")]
fn socket2_of(socket: std::net::TcpStream) -> socket2::Socket {
    let socket = socket2::Socket::from(socket);
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("a socket's option");
    socket
}

/// The attempts fail with `why` and are backed off, until `release` makes them possible.
pub(crate) async fn fails_then_recovers(server: &Server, why: &str, release: impl FnOnce()) {
    let dials = Arc::new(AtomicUsize::new(0));
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .dialer(Arc::new(Counting(dials.clone())))
        .backoff(Backoff::default().with_initial(SHORT))
        .build()
        .expect("a channel");
    for _ in 0..1_000 {
        let status = echo(&channel, text("hello")).await;
        let status = status.expect_err("there is nothing to connect with");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains(why), "must say {why}: {status:?}");
    }
    let spun = dials.load(Ordering::SeqCst);
    assert!(spun <= 5, "RPCs must not dial: {spun}");
    release();
    let mut request = Request::new(text("hello"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(Duration::from_secs(30));
    echo(&channel, request)
        .await
        .expect("it recovers by itself");
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

/// Dials TCP, and counts.
struct Counting(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Dialer for Counting {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let socket = tokio::net::TcpStream::connect(addr).await?;
        Ok(Box::new(socket.compat()))
    }
}
