//! How RPCs end that do not end well, and what the policy hears of it: deadlines that come late,
//! channels that close under a stream, runtimes that go away.

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Code as PolicyCode, DoneInfo, OnDone, Pick, PickError, PickOptions, Picker, Timestamp,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_channel::{Channel, ChannelBuilder, WaitForReady};
use balancer_testpeer::{Behaviour, Conn, Peer, Script, Server, frame::code};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::{echo, pipes::piped, text};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, body::Body};
use tower::ServiceExt;

/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(crate = "crate::support::harness")]
async fn a_config_that_comes_after_the_first_pick_shortens_the_deadline() {
    let mut peer = Peer::listen().await.expect("a free port");
    let timeout = r#"{"methodConfig":[{"name":[{}],"timeout":"0.3s"}]}"#;
    let channel = built(to(&peer).default_service_config(timeout));
    let mut request = Request::new(text("is nobody there"));
    request.set_timeout(Duration::from_secs(60));
    let rpc = within(echo(&channel, request));
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        conn.next_call().await.expect("an RPC");
        conn
    };
    let (status, _silent) = tokio::join!(rpc, server);
    let status = status.expect_err("nobody answers");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    within(channel.close()).await;
}

#[tokio::test(crate = "crate::support::harness")]
async fn close_ends_the_rpcs_on_a_connection_that_was_told_to_go_away() {
    let mut peer = Peer::listen().await.expect("a free port");
    let channel = built(to(&peer));
    let (mut body, mut conn) = stream(&channel, &mut peer, None).await;
    conn.send_goaway(1, code::NO_ERROR, "").await.expect("sent");
    // The channel has given the connection up when it dials anew, or is at rest.
    within(channel.wait_for_state_change(balancer_api::ConnectivityState::Ready)).await;

    within(channel.close()).await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
    let status = last(&mut body).await.expect_err("must be cancelled");
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_graceful_close_ends_them_too_when_the_time_is_over() {
    let mut peer = Peer::listen().await.expect("a free port");
    let channel = built(to(&peer));
    let (mut body, mut conn) = stream(&channel, &mut peer, None).await;
    conn.send_goaway(1, code::NO_ERROR, "").await.expect("sent");
    within(channel.wait_for_state_change(balancer_api::ConnectivityState::Ready)).await;

    within(channel.close_gracefully(Duration::from_millis(50))).await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
    let status = last(&mut body).await.expect_err("must be cancelled");
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
}

/// Whoever asked for the end does not wait for it: a select that went another way.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_close_that_nobody_waits_for_ends_all_the_same() {
    for limit in [None, Some(Duration::from_secs(1))] {
        let went_away = Behaviour::new(|mut conn| async move {
            conn.set_patience(None);
            conn.handshake().await?;
            let call = conn.next_call().await?;
            conn.reply_headers(call.stream).await?;
            conn.send_goaway(call.stream, code::NO_ERROR, "").await?;
            conn.drain().await;
            Ok(())
        });
        let server = Script::new().on_connection(1, went_away);
        let server = Arc::new(Server::in_memory(server));
        let channel = built(piped(std::slice::from_ref(&server)));
        let request = channel.clone().oneshot(watch(None, Body::empty()));
        let mut body = request.await.expect("it begins").into_body();
        // The connection is no SubConn's any more.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let started = tokio::time::Instant::now();
        match limit {
            None => assert!(channel.close().now_or_never().is_none(), "it has to wait"),
            Some(limit) => {
                let closing = channel.close_gracefully(limit).now_or_never();
                assert!(closing.is_none(), "an RPC is in flight");
            }
        }
        let status = last(&mut body).await.expect_err("must be cancelled");
        assert_eq!(status.code(), Code::Cancelled, "{status:?}");
        assert_eq!(
            started.elapsed().as_secs(),
            limit.unwrap_or_default().as_secs()
        );
        within(channel.close()).await;
        assert_eq!(channel.task_count(), 0, "nothing may be left");
    }
}

/// The response has begun, so that no caller polls the request any more.
#[tokio::test(crate = "crate::support::harness")]
async fn a_request_that_panics_behind_its_response_ends_the_rpc() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let (begun, waits) = tokio::sync::oneshot::channel::<()>();
    let request = futures_util::stream::once(async move {
        let _ = waits.await;
        panic!("the test says so")
    });
    let request =
        request.map(|never: Infallible| -> Result<Frame<Bytes>, Status> { match never {} });
    let request = Body::new(StreamBody::new(request));
    let rpc = channel.clone().oneshot(watch(None, request));
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        let stream = conn.next_request().await.expect("an RPC").stream;
        conn.reply_headers(stream).await.expect("sent");
        (conn, stream)
    };
    let (response, (mut conn, stream)) = tokio::join!(within(rpc), server);
    let mut body = response.expect("headers").into_body();
    begun.send(()).expect("it waits");
    let status = last(&mut body).await.expect_err("must be cancelled");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Internal, "the body of the request panicked")
    );
    let end = within(told.recv()).await.expect("told");
    assert_eq!((end.code, end.sent), (PolicyCode::Internal, false));
    let reset = within(async {
        loop {
            let frame = conn.read_frame().await.expect("open").expect("a frame");
            if frame.stream == stream {
                break frame.as_rst_stream();
            }
        }
    });
    assert_eq!(reset.await, Some(code::CANCEL), "the server hears of it");
    within(channel.close()).await;
}

#[test]
fn an_rpc_outlives_the_runtime_of_its_channel() {
    // Leaks: the runtime ends before its channel, and takes everything along.
    let home = tokio::runtime::Runtime::new().expect("a runtime");
    // Leaks: no channel is built on this one.
    let away = tokio::runtime::Runtime::new().expect("a runtime");
    let peer = home.block_on(Peer::listen()).expect("a free port");
    let channel = home.block_on(async { built(to(&peer)) });
    let mut request = http::Request::new(Body::empty());
    request.extensions_mut().insert(WaitForReady(true));
    let timeout = http::HeaderValue::from_static("60S");
    request.headers_mut().insert("grpc-timeout", timeout);
    // Nobody accepts: the RPC waits for a connection, and for its deadline.
    let mut rpc = Box::pin(channel.clone().oneshot(request));
    let first = away.block_on(async { futures_util::poll!(&mut rpc) });
    assert!(first.is_pending(), "nobody has accepted");

    drop(home);
    let status = away.block_on(within(rpc)).expect_err("nobody is left");
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    away.block_on(within(channel.close()));
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_response_that_runs_out_of_time_is_no_cancellation_to_the_policy() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let (mut body, _conn) = stream(&channel, &mut peer, Some("300m")).await;
    let status = last(&mut body).await.expect_err("must end");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let end = within(told.recv()).await.expect("an end");
    assert_eq!(end.code, PolicyCode::DeadlineExceeded);
    channel.close().await;
    assert_eq!(told.try_recv().ok(), None, "must be told once");
}

/// Its caller keeps the response and does something else: with a message in it, and without.
#[tokio::test(crate = "crate::support::harness")]
async fn a_response_that_nobody_reads_ends_in_time() {
    for message in [None, Some("unread")] {
        let mut peer = Peer::listen().await.expect("a free port");
        let (channel, mut told) = observed(&peer);
        let (mut body, mut conn) = stream(&channel, &mut peer, Some("300m")).await;
        if let Some(message) = message {
            conn.reply_message(1, message).await.expect("sent");
        }
        let reset = within(conn.expect_reset(1)).await.expect("a reset");
        assert_eq!(reset, code::CANCEL);
        let end = within(told.recv()).await.expect("an end");
        assert_eq!(end.code, PolicyCode::DeadlineExceeded);
        assert_eq!(streams(&channel), 0, "its place must be free");

        let status = last(&mut body).await.expect_err("must have ended");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let after = within(body.frame()).await;
        assert!(after.is_none(), "must stay at its end: {after:?}");
        drop(body);
        within(channel.close()).await;
        assert_eq!(told.try_recv().ok(), None, "must be told once");
        assert_eq!(channel.task_count(), 0, "nothing may be left");
    }
}

/// The server takes nothing of the request, and its response has begun; nobody reads that.
#[tokio::test(crate = "crate::support::harness")]
async fn a_request_that_is_stuck_ends_in_time_when_nobody_reads_its_response() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let (messages, receiver) = tokio::sync::mpsc::channel::<Result<_, Status>>(64);
    for _ in 0..64 {
        let message = http_body::Frame::data(bytes::Bytes::from(vec![0; 16 * 1024]));
        messages.try_send(Ok(message)).expect("there is room");
    }
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let request = http::Request::post("/test.Echo/Stream")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m")
        .body(Body::new(http_body_util::StreamBody::new(receiver)))
        .expect("a request");
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.set_manners(balancer_testpeer::Manners::closed_windows());
        conn.handshake().await.expect("a handshake");
        let call = conn.next_request().await.expect("an RPC");
        conn.reply_headers(call.stream).await.expect("sent");
        conn
    };
    let (response, mut conn) = tokio::join!(within(channel.clone().oneshot(request)), server);
    let mut body = response.expect("headers").into_body();

    let reset = within(conn.expect_reset(1)).await.expect("a reset");
    assert_eq!(reset, code::CANCEL);
    let end = within(told.recv()).await.expect("an end");
    assert_eq!(end.code, PolicyCode::DeadlineExceeded);
    // The application's stream is let go of.
    within(messages.closed()).await;
    let status = last(&mut body).await.expect_err("must have ended");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    within(channel.close()).await;
    assert_eq!(told.try_recv().ok(), None, "must be told once");
    assert_eq!(channel.task_count(), 0, "nothing may be left");
}

/// The policy hears of it when it happens; what had come is still there for the reader.
#[tokio::test(crate = "crate::support::harness")]
async fn an_unread_response_ends_with_its_connection() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let (mut body, mut conn) = stream(&channel, &mut peer, Some("60S")).await;
    conn.reply_message(1, "the first").await.expect("sent");
    conn.close().await;
    let end = within(told.recv()).await.expect("an end");
    assert_eq!(end.code, PolicyCode::Unavailable);

    let first = within(body.frame()).await.expect("a frame").expect("data");
    assert_eq!(first.data_ref().expect("data")[5..], *b"the first");
    let status = last(&mut body).await.expect_err("must have ended");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    within(channel.close()).await;
    assert_eq!(told.try_recv().ok(), None, "must be told once");
}

/// Closing waits for nobody who holds a response.
#[tokio::test(crate = "crate::support::harness")]
async fn an_unread_response_ends_with_its_channel() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let (mut body, _conn) = stream(&channel, &mut peer, Some("60S")).await;
    within(channel.close()).await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
    let end = within(told.recv()).await.expect("an end");
    assert_eq!(end.code, PolicyCode::Cancelled);
    let status = last(&mut body).await.expect_err("must have ended");
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    assert_eq!(told.try_recv().ok(), None, "must be told once");
}

#[tokio::test(crate = "crate::support::harness")]
async fn the_end_of_a_dropped_rpc_has_a_time() {
    let mut peer = Peer::listen().await.expect("a free port");
    let (channel, mut told) = observed(&peer);
    let rpc = echo(&channel, Request::new(text("never mind")));
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        conn.next_call().await.expect("an RPC");
        conn
    };
    let _conn = tokio::select! {
        _ = rpc => panic!("nobody answers"),
        conn = server => conn,
    };
    let end = within(told.recv()).await.expect("an end");
    assert_eq!(end.code, PolicyCode::Cancelled);
    assert!(end.sent, "the server has seen it");
    assert!(end.at > Timestamp::ZERO, "must have the channel's time");
    channel.close().await;
    assert_eq!(told.try_recv().ok(), None, "must be told once");
}

fn to(peer: &Peer) -> ChannelBuilder {
    Channel::builder(format!("ipv4:{}", peer.addr())).plaintext()
}

fn built(builder: ChannelBuilder) -> Channel {
    builder.build().expect("a channel")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.expect("must not hang")
}

/// An RPC whose response has begun and does not end.
async fn stream(channel: &Channel, peer: &mut Peer, timeout: Option<&'static str>) -> (Body, Conn) {
    let request = watch(timeout, Body::empty());
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        let call = conn.next_call().await.expect("an RPC");
        conn.reply_headers(call.stream).await.expect("sent");
        conn
    };
    let (response, conn) = tokio::join!(within(channel.clone().oneshot(request)), server);
    (response.expect("headers").into_body(), conn)
}

fn watch(timeout: Option<&'static str>, body: Body) -> http::Request<Body> {
    let mut request = http::Request::post("/test.Echo/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(body).expect("a request")
}

fn streams(channel: &Channel) -> usize {
    let sub_conns = channel.snapshot().sub_conns;
    sub_conns.iter().map(|sub_conn| sub_conn.streams).sum()
}

/// What a response without messages ends with.
async fn last(body: &mut Body) -> Result<(), Status> {
    match within(body.frame()).await {
        Some(Err(status)) => Err(status),
        _ => Ok(()),
    }
}

// --- a policy that hears how RPCs end ---

/// What was told of an RPC.
#[derive(Debug, PartialEq)]
struct End {
    code: PolicyCode,
    sent: bool,
    at: Timestamp,
}

struct Ear(Mutex<mpsc::UnboundedSender<End>>);

struct Listening(Arc<Ear>);

struct ListeningPicker(ReadySet, Arc<Ear>);

fn observed(peer: &Peer) -> (Channel, mpsc::UnboundedReceiver<End>) {
    let (tell, told) = mpsc::unbounded_channel();
    let ear = Arc::new(Ear(Mutex::new(tell)));
    let policy = BaseBuilder::new("listening", move || Listening(ear.clone()));
    let config = r#"{"loadBalancingConfig":[{"listening":{}}]}"#;
    let builder = to(peer).policy(Arc::new(policy));
    (built(builder.default_service_config(config)), told)
}

impl PickerBuilder for Listening {
    type Data = ();

    fn data(&mut self, _: &balancer_api::Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(ListeningPicker(ready.clone(), self.0.clone()))
    }
}

impl Picker for ListeningPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let chosen = self.0.get(0).ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(chosen.sub_conn()).on_done(self.1.clone(), 0))
    }
}

impl OnDone for Ear {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        let end = End {
            code: info
                .err()
                .map_or(PolicyCode::Ok, balancer_api::Status::code),
            sent: info.bytes_sent(),
            at: info.now(),
        };
        // The test may be over.
        let _ = self.0.lock().expect("never poisoned").send(end);
    }
}
