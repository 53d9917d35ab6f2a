//! Servers on loopback, requests, and a hook that writes down what it is told.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use balancer_api::{AuthInfo, SecurityLevel, Status};
use balancer_channel_core::Connected;
use balancer_testpeer::{Conn, Peer};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    uri::{Authority, Scheme},
};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::mpsc,
};
use tokio_util::task::TaskTracker;

use crate::transport::{
    Connector, EndHook, H2Connection, H2Options, Line, ReplayBudget, RpcEnd, RpcRequest,
    RpcResponse, Security, Setup, Spawn, WeakConnection,
};

/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// What must happen soon, or it never does.
pub(super) async fn soon<F: Future>(what: F) -> F::Output {
    let happened = tokio::time::timeout(PATIENCE, what).await;
    happened.expect("must not hang")
}

/// A listener on a free port.
pub(super) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    (listener, address)
}

/// A plaintext connector with tokio's own tasks.
pub(super) fn connector() -> Connector {
    Connector {
        security: Security::Plaintext,
        dialer: None,
        user_timeout: None,
        authority: Authority::from_static("greeter.test"),
        user_agent: HeaderValue::from_static("test"),
        options: H2Options::default(),
        replay: ReplayBudget::new(ReplayBudget::DEFAULT_MAX),
        spawn: Spawn {
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            kept: Arc::default(),
        },
        sockets: crate::ledger::Count::default(),
    }
}

/// One connection to a server whose side of it is `serve`.
pub(super) async fn pair<F, Fut>(serve: F) -> Connected<H2Connection>
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    pair_with(connector(), serve)
        .await
        .expect("the server is there")
}

pub(super) async fn pair_with<F, Fut>(
    connector: Connector,
    serve: F,
) -> Result<Connected<H2Connection>, Status>
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve(socket).await;
    });
    connector.connect(&address, None).await
}

/// A connection and the other end of it, frame by frame; the peer's SETTINGS are `settings`.
pub(super) async fn pair_by_hand(settings: &[(u16, u32)]) -> (Connected<H2Connection>, Conn) {
    pair_by_hand_with(connector(), settings).await
}

pub(super) async fn pair_by_hand_with(
    connector: Connector,
    settings: &[(u16, u32)],
) -> (Connected<H2Connection>, Conn) {
    pair_by_hand_in(Arc::default(), connector, settings).await
}

/// One more connection for those who wait at `first`.
pub(super) async fn pair_by_hand_beside(
    first: &H2Connection,
    settings: &[(u16, u32)],
) -> (Connected<H2Connection>, Conn) {
    pair_by_hand_in(first.setup().line.clone(), connector(), settings).await
}

async fn pair_by_hand_in(
    line: Arc<Line<WeakConnection>>,
    connector: Connector,
    settings: &[(u16, u32)],
) -> (Connected<H2Connection>, Conn) {
    let mut peer = Peer::listen().await.expect("a port");
    let address = peer.addr().to_string();
    let accept = async {
        let mut conn = peer.accept().await.expect("accept");
        conn.set_patience(Some(PATIENCE));
        conn.handshake_with(settings)
            .await
            .expect("the client's SETTINGS");
        conn
    };
    let connecting = Arc::new(connector).connect_in(line, &address, None);
    let (connected, conn) = tokio::join!(connecting, accept);
    (connected.expect("the peer is there"), conn)
}

/// What a handshake over a stream of the test's needs.
pub(super) fn setup() -> Setup {
    Setup {
        line: Arc::default(),
        peer: "pipe".into(),
        scheme: Scheme::HTTP,
        auth: AuthInfo::new("plaintext", SecurityLevel::None),
        connector: Arc::new(connector()),
    }
}

/// A connector whose tasks are counted: the count of those that run.
pub(super) fn counting_connector() -> (Connector, Tasks) {
    let connector = connector();
    let tasks = Tasks(connector.spawn.tasks.clone());
    (connector, tasks)
}

/// The tasks of a connector that run.
#[derive(Clone, Debug)]
pub(super) struct Tasks(TaskTracker);

impl Tasks {
    /// Waits until no task runs.
    pub(super) async fn none(&self) {
        let started = std::time::Instant::now();
        while !self.0.is_empty() {
            assert!(started.elapsed() < PATIENCE, "a task must not be left");
            tokio::task::yield_now().await;
        }
    }
}

/// An `h2` server that runs `answer` for each request, at the same time.
pub(super) async fn serve_h2<F, Fut>(socket: TcpStream, builder: h2::server::Builder, answer: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

/// Sends the request body back, and OK.
pub(super) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let Ok(mut stream) = respond.send_response(ok_head(), false) else {
        return;
    };
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control()
            .release_capacity(chunk.len())
            .expect("it was received");
        if send_all(&mut stream, chunk).await.is_err() {
            return;
        }
    }
    let _ = stream.send_trailers(ok_trailers());
}

/// Sends `data` as fast as the client takes it.
pub(super) async fn send_all(
    stream: &mut h2::SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(capacity)) => {
                stream.send_data(data.split_to(capacity.min(data.len())), false)?;
            }
            Some(Err(error)) => return Err(error),
            None => return Err(h2::Reason::CANCEL.into()),
        }
    }
    Ok(())
}

pub(super) fn ok_head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}

pub(super) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

/// One message with its prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    balancer_testpeer::grpc::message(message)
}

/// A request whose body, one message, is all there.
pub(super) fn call(message: &[u8]) -> RpcRequest {
    unary(framed(message))
}

/// A request with a body that is all there.
pub(super) fn unary(message: impl Into<Bytes>) -> RpcRequest {
    RpcRequest::new(
        head(),
        tonic::body::Body::new(http_body_util::Full::new(message.into())),
    )
}

/// A request whose body comes piece by piece.
pub(super) fn streaming() -> (
    mpsc::UnboundedSender<Result<Bytes, tonic::Status>>,
    RpcRequest,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        sender,
        RpcRequest::new(head(), tonic::body::Body::new(Pieces(receiver))),
    )
}

pub(super) fn head() -> Request<()> {
    Request::post("http://greeter.test/greet.Greeter/Hello")
        .version(http::Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("x-id", "7")
        .body(())
        .expect("a valid request")
}

struct Pieces(mpsc::UnboundedReceiver<Result<Bytes, tonic::Status>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.get_mut()
            .0
            .poll_recv(cx)
            .map(|item| item.map(|piece| piece.map(Frame::data)))
    }
}

/// What a hook was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Arc<Mutex<Vec<End>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) status: Option<Status>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) trailers: bool,
}

impl Ends {
    pub(super) fn take(&self) -> Vec<End> {
        std::mem::take(&mut self.0.lock().expect("no test panics with it"))
    }

    /// The only end that was told.
    pub(super) fn only(&self) -> End {
        let ends = self.take();
        assert_eq!(ends.len(), 1, "must be told exactly once: {ends:?}");
        ends.into_iter().next().expect("one")
    }
}

impl EndHook for Ends {
    fn on_end(self, end: &RpcEnd<'_>) {
        self.0.lock().expect("no test panics with it").push(End {
            status: end.status.cloned(),
            sent: end.bytes_sent,
            received: end.bytes_received,
            trailers: end.trailers.is_some(),
        });
    }
}

/// Reads a response to its end.
pub(super) async fn read(
    response: RpcResponse,
    ends: &Ends,
) -> Result<(Bytes, HeaderMap), tonic::Status> {
    let body = response
        .into_http(ends.clone())
        .into_body()
        .collect()
        .await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok((body.to_bytes(), trailers))
}
