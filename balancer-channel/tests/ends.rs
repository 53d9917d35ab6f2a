//! How RPCs end that do not end well, and what the policy hears of it: deadlines that come late,
//! channels that close under a stream, runtimes that go away.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Code as PolicyCode, DoneInfo, OnDone, Pick, PickError, PickOptions, Picker, Timestamp,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_channel::{Channel, ChannelBuilder, WaitForReady};
use balancer_testpeer::{Conn, Peer, frame::code};
use http_body_util::BodyExt;
use support::{echo, text};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, body::Body};
use tower::ServiceExt;

/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[test]
fn an_rpc_outlives_the_runtime_of_its_channel() {
    let home = tokio::runtime::Runtime::new().expect("a runtime");
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

#[tokio::test]
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
#[tokio::test]
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
#[tokio::test]
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
#[tokio::test]
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
#[tokio::test]
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

#[tokio::test]
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
    let mut request = http::Request::post("/test.Echo/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let request = request.body(Body::empty()).expect("a request");
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
