//! A real gRPC server on loopback that can be killed and restarted.

use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tonic::{body::Body, codegen::BoxFuture};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower_service::Service;

/// A gRPC server on a port of 127.0.0.1 that the system chose: tonic's health service over hyper.
///
/// It can be killed as a crash kills a process: the listener goes and every connection is reset,
/// with no goodbye. It can then be restarted on the same port, which is kept for it meanwhile.
/// Dropping it kills it.
///
/// ```
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # runtime.block_on(async {
/// use balancer_cli::Backend;
///
/// let mut backend = Backend::start().await?;
/// println!("balancer call {} --plaintext", backend.addr());
/// backend.kill().await;
/// backend.restart().await?;
/// # Ok::<(), std::io::Error>(()) })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Backend {
    addr: SocketAddr,
    /// Keeps the port while nothing listens on it.
    _hold: Socket,
    work: Duration,
    served: Arc<Served>,
    running: Option<Running>,
}

/// What a backend has seen, over restarts too.
#[derive(Debug, Default)]
struct Served {
    begun: AtomicU64,
    ended: AtomicU64,
}

struct Running {
    stop: oneshot::Sender<()>,
    acceptor: JoinHandle<()>,
}

/// tonic's service, with some work before it and counts around it.
#[derive(Clone)]
struct Worker {
    health: HealthServer<HealthService>,
    work: Duration,
    served: Arc<Served>,
}

/// An RPC that has begun; dropped when it has been answered, or never will be.
struct UnderWay(Arc<Served>);

// === impl Backend ===

impl Backend {
    /// A backend that answers at once.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(Duration::ZERO).await
    }

    /// A backend that takes `work` for each RPC, as one with something to do would.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_with(work: Duration) -> io::Result<Self> {
        let hold = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = hold.local_addr()?.as_socket();
        let mut backend = Self {
            addr: addr
                .ok_or_else(|| io::Error::other("an IP socket has an address that is not"))?,
            _hold: hold,
            work,
            served: Arc::default(),
            running: None,
        };
        backend.restart().await?;
        Ok(backend)
    }

    /// Where it listens, or would.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many RPCs have reached it.
    pub fn begun(&self) -> u64 {
        self.served.begun.load(Ordering::Relaxed)
    }

    /// How many RPCs it has begun and neither answered nor been told to forget.
    pub fn in_flight(&self) -> u64 {
        // Ended first: what begins meanwhile must not make the difference negative.
        let ended = self.served.ended.load(Ordering::Relaxed);
        self.begun().saturating_sub(ended)
    }

    /// Dies at once: nobody listens any more, and every connection has been reset. Answers how many
    /// RPCs it had begun and not answered.
    pub async fn kill(&mut self) -> u64 {
        let Some(running) = self.running.take() else {
            return 0;
        };
        let in_flight = self.in_flight();
        // An error: the acceptor is gone already.
        let _ = running.stop.send(());
        let _ = running.acceptor.await;
        in_flight
    }

    /// Listens again on the same port; does nothing if it never stopped.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn restart(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let socket = bound(self.addr)?;
        socket.listen(1024)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket.into())?;
        let worker = Worker {
            health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new())),
            work: self.work,
            served: self.served.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        self.running = Some(Running {
            stop,
            acceptor: tokio::spawn(accept(listener, worker, stopped)),
        });
        Ok(())
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("addr", &self.addr)
            .field("runs", &self.running.is_some())
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

/// Serves until it is told to stop; then every connection is reset.
async fn accept(listener: TcpListener, worker: Worker, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // An error: the backend was dropped.
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, worker.clone()))),
                // The client gave up in the queue, or descriptors ran out: the next may do better.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, worker: Worker) {
    // Without lingering, closing sends a reset in place of a goodbye. A client that has gone away
    // in good order is past caring.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(worker);
    // How a client ends a connection is its own affair.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A socket that shares its port with the one that holds it, and with what is left of connections
/// that were there before.
fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

// === impl Worker ===

impl Service<http::Request<hyper::body::Incoming>> for Worker {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let mut health = self.health.clone();
        let under_way = UnderWay::begin(&self.served);
        let work = self.work;
        Box::pin(async move {
            if !work.is_zero() {
                tokio::time::sleep(work).await;
            }
            let response = health.call(request).await;
            drop(under_way);
            response
        })
    }
}

// === impl UnderWay ===

impl UnderWay {
    fn begin(served: &Arc<Served>) -> Self {
        served.begun.fetch_add(1, Ordering::Relaxed);
        Self(served.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
