//! How a connection ends, and what becomes of its streams.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use balancer_api::{Code, Status};
use balancer_channel_core::Connection as _;
use balancer_testpeer::{
    MAX_STREAM,
    frame::{Frame, code, setting},
};
use futures_util::{FutureExt, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Code as TonicCode;

use super::support::{
    Ends, call, counting_connector, framed, pair_by_hand, pair_by_hand_with, read, soon, streaming,
};
use crate::transport::{FailureKind, H2Options, KeepaliveOptions};

#[tokio::test]
async fn a_graceful_goaway_is_news_at_once_and_open_streams_finish() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;

    peer.send_goaway(MAX_STREAM, code::NO_ERROR, "")
        .await
        .expect("send");
    let lost = soon(connected.lost).await;
    assert!(
        lost.status
            .message()
            .ends_with("server sent GOAWAY NO_ERROR"),
        "{}",
        lost.status
    );
    assert!(!lost.too_many_pings);

    let failure = connected
        .connection
        .send(call(b"b"))
        .await
        .expect_err("no new streams");
    assert_eq!(failure.kind, FailureKind::NotSent);
    let again = failure.request.expect("given back");
    assert_eq!(again.head.headers()["x-id"], "7", "as it was");

    peer.reply_ok(stream, b"done").await.expect("send");
    let (body, _) = read(rpc.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert_eq!(body, framed(b"done"), "the open stream must finish");
    connected.connection.drained().await;
    peer.expect_closed()
        .await
        .expect("the client closes when the last stream has ended");
}

#[tokio::test]
async fn a_goaway_refuses_the_streams_above_it() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut low = Box::pin(connected.connection.send(call(b"low")));
    let mut high = Box::pin(connected.connection.send(call(b"high")));
    assert!(poll!(&mut low).is_pending() && poll!(&mut high).is_pending());
    let stream = peer.next_call().await.expect("low").stream;
    peer.next_call().await.expect("high");

    peer.send_goaway(stream, code::NO_ERROR, "")
        .await
        .expect("send");
    let failure = high.await.expect_err("it was above");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.status.code(), TonicCode::Unavailable);
    let (other, mut elsewhere) = pair_by_hand(&[]).await;
    let mut again = Box::pin(other.connection.send(*failure.request.expect("given back")));
    assert!(poll!(&mut again).is_pending());
    let request = elsewhere.next_call().await.expect("once more");
    assert_eq!(
        request.body,
        framed(b"high"),
        "the body must be sent from its start"
    );
    assert_eq!(request.header("x-id"), Some("7"));

    peer.reply_ok(stream, b"ok").await.expect("send");
    read(low.await.expect("begun"), &Ends::default())
        .await
        .expect("it was not above");
}

#[tokio::test]
async fn too_many_pings_are_told() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    peer.send_goaway(0, code::ENHANCE_YOUR_CALM, "too_many_pings")
        .await
        .expect("send");
    let lost = connected.lost.await;
    assert!(lost.too_many_pings);
    let wanted = "server sent GOAWAY ENHANCE_YOUR_CALM \"too_many_pings\"";
    assert!(lost.status.message().ends_with(wanted), "{}", lost.status);
}

#[tokio::test]
async fn a_reset_connection_fails_what_it_may_have_delivered() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    peer.next_call().await.expect("the call");
    peer.reset();

    let failure = rpc.await.expect_err("the connection is gone");
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(failure.request.is_none(), "must not run twice");
    assert_eq!(failure.status.code(), TonicCode::Unavailable);
    assert!(
        failure
            .status
            .message()
            .contains("connection reset by peer"),
        "{}",
        failure.status
    );
    let lost = connected.lost.await;
    assert!(
        lost.status.message().contains("connection reset by peer"),
        "{}",
        lost.status
    );
    connected.connection.drained().await;
}

#[tokio::test]
async fn a_peer_that_closes_is_named() {
    let (connected, peer) = pair_by_hand(&[]).await;
    peer.close().await;
    let lost = connected.lost.await;
    assert!(
        lost.status
            .message()
            .ends_with("connection closed by the peer"),
        "{}",
        lost.status
    );
    let failure = connected
        .connection
        .send(call(b"a"))
        .await
        .expect_err("too late");
    assert_eq!(failure.kind, FailureKind::NotSent);
}

#[tokio::test]
async fn what_the_socket_never_took_was_not_sent() {
    // A pipe of one byte: the headers of the RPC do not get through it.
    let (io, server) = tokio::io::duplex(64);
    let setup = super::support::setup();
    let handshake = crate::transport::H2Connection::handshake(io, setup);
    let mut peer = balancer_testpeer::Conn::over(server);
    let (connected, settings) = tokio::join!(handshake, peer.handshake());
    let (connected, _) = (connected.expect("ready"), settings.expect("SETTINGS"));
    peer.expect_settings_ack().await.expect("acknowledged");

    let mut request = call(b"a");
    let long = http::HeaderValue::try_from("v".repeat(4000)).expect("ASCII");
    request.head.headers_mut().insert("x-long", long);
    let mut rpc = Box::pin(connected.connection.send(request));
    assert!(poll!(&mut rpc).is_pending());
    tokio::task::yield_now().await;
    drop(peer);

    let failure = rpc.await.expect_err("the connection is gone");
    assert_eq!(failure.kind, FailureKind::NotSent, "{}", failure.status);
    assert!(failure.request.is_some());
}

/// A pipe whose writing end can be broken while its reading end still has something to say.
struct HalfBroken {
    pipe: tokio::io::DuplexStream,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for HalfBroken {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for HalfBroken {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut this.pipe).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_the_peer_said_before_it_closed_is_heard() {
    let (pipe, server) = tokio::io::duplex(1 << 16);
    let broken = Arc::new(AtomicBool::new(false));
    let io = HalfBroken {
        pipe,
        broken: broken.clone(),
    };
    let handshake = crate::transport::H2Connection::handshake(io, super::support::setup());
    let mut peer = balancer_testpeer::Conn::over(server);
    let (connected, settings) = tokio::join!(handshake, peer.handshake());
    let (connected, _) = (connected.expect("ready"), settings.expect("SETTINGS"));
    let mut answered = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut answered).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;

    // The next write fails, and the peer's last words come after that.
    broken.store(true, Ordering::SeqCst);
    let mut late = Box::pin(connected.connection.send(call(b"b")));
    assert!(poll!(&mut late).is_pending());
    tokio::task::yield_now().await;
    peer.reply_ok(stream, b"bye").await.expect("send");
    peer.send_goaway(stream, code::NO_ERROR, "")
        .await
        .expect("send");
    drop(peer);

    let failure = late.await.expect_err("it did not get through");
    assert_eq!(failure.kind, FailureKind::NotSent);
    let (body, _) = read(answered.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert_eq!(body, framed(b"bye"));
    assert!(
        connected
            .lost
            .await
            .status
            .message()
            .ends_with("server sent GOAWAY NO_ERROR")
    );
    connected.connection.drained().await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_given_up() {
    let (pipe, server) = tokio::io::duplex(1 << 16);
    let broken = Arc::new(AtomicBool::new(false));
    let io = HalfBroken {
        pipe,
        broken: broken.clone(),
    };
    let handshake = crate::transport::H2Connection::handshake(io, super::support::setup());
    let mut peer = balancer_testpeer::Conn::over(server);
    let (connected, settings) = tokio::join!(handshake, peer.handshake());
    let (connected, _) = (connected.expect("ready"), settings.expect("SETTINGS"));
    broken.store(true, Ordering::SeqCst);
    let rpc = connected.connection.send(call(b"a"));
    let failure = soon(rpc).await.expect_err("nothing gets through");
    assert_eq!(failure.kind, FailureKind::NotSent);
    assert!(
        connected
            .lost
            .await
            .status
            .message()
            .ends_with("broken pipe")
    );
    connected.connection.drained().await;
    drop(peer);
}

#[tokio::test]
async fn dropping_the_last_handle_says_goodbye() {
    let (connector, tasks) = counting_connector();
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    drop(connected);
    let goaway = peer.expect_goaway().await.expect("a graceful end");
    assert_eq!(goaway.code, code::NO_ERROR);
    peer.expect_closed().await.expect("closed");
    tasks.none().await;
}

#[tokio::test]
async fn an_open_stream_is_a_handle() {
    let (connector, tasks) = counting_connector();
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    drop(connected);
    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_ok(stream, b"x").await.expect("send");
    read(rpc.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    peer.expect_closed()
        .await
        .expect("closed after the last stream");
    tasks.none().await;
}

#[tokio::test]
async fn close_lets_open_streams_finish() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    connected.connection.close();
    let failure = connected
        .connection
        .send(call(b"b"))
        .await
        .expect_err("closed");
    assert_eq!(failure.kind, FailureKind::NotSent);

    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_ok(stream, b"x").await.expect("send");
    read(rpc.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    peer.expect_closed()
        .await
        .expect("closed though the handle is still there");
    connected.connection.drained().await;
}

#[tokio::test]
async fn abort_ends_every_stream_with_its_status() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut waiting = Box::pin(connected.connection.send(call(b"a")));
    let mut reading = Box::pin(connected.connection.send(call(b"b")));
    assert!(poll!(&mut waiting).is_pending() && poll!(&mut reading).is_pending());
    peer.next_call().await.expect("a");
    let stream = peer.next_call().await.expect("b").stream;
    peer.reply_headers(stream).await.expect("send");
    let ends = Ends::default();
    let response = reading.await.expect("begun");

    connected
        .connection
        .abort(Status::new(Code::Cancelled, "channel closed"));
    let failure = waiting.await.expect_err("aborted");
    assert_eq!(
        (
            failure.kind,
            failure.status.code(),
            failure.status.message()
        ),
        (FailureKind::Failed, TonicCode::Cancelled, "channel closed")
    );
    let status = read(response, &ends).await.expect_err("aborted");
    assert_eq!(status.message(), "channel closed");
    assert_eq!(
        ends.only().status,
        Some(Status::new(Code::Cancelled, "channel closed"))
    );
    connected.connection.drained().await;
    peer.expect_closed().await.expect("closed at once");
}

#[tokio::test]
async fn a_peer_that_does_not_read_cannot_keep_a_dropped_connection() {
    let (connector, tasks) = counting_connector();
    let window = (setting::INITIAL_WINDOW_SIZE, i32::MAX as u32);
    let (connected, mut peer) = pair_by_hand_with(connector, &[window]).await;
    let more = Frame::window_update(0, 1 << 30);
    peer.send(more).await.expect("sent");
    peer.send_ping([7; 8]).await.expect("sent");
    peer.expect_pong([7; 8]).await.expect("the window is open");
    // More than the socket holds, to a peer that reads nothing.
    let (sender, request) = streaming();
    for _ in 0..256 {
        sender
            .send(Ok(vec![0; 65_000].into()))
            .expect("the body is there");
    }
    let mut rpc = Box::pin(connected.connection.send(request));
    for _ in 0..1_000 {
        assert!(poll!(&mut rpc).is_pending());
        tokio::task::yield_now().await;
    }
    drop((rpc, connected));
    tasks.none().await;
    drop(peer);
}

#[tokio::test]
async fn streams_identifiers_do_not_run_out() {
    let (mut connector, _) = counting_connector();
    connector.options = H2Options {
        last_stream_id: 2,
        ..H2Options::default()
    };
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    let mut first = Box::pin(connected.connection.send(call(b"1")));
    assert!(poll!(&mut first).is_pending());
    let stream = peer.next_call().await.expect("1").stream;
    assert!(poll!(&mut first).is_pending());
    let mut lost = connected.lost;
    assert!((&mut lost).now_or_never().is_none());
    let mut last = Box::pin(connected.connection.send(call(b"2")));
    assert!(poll!(&mut last).is_pending());
    peer.next_call().await.expect("2");
    let lost = soon(lost).await;
    assert!(
        lost.status
            .message()
            .ends_with("stream identifiers used up"),
        "{}",
        lost.status
    );
    peer.reply_ok(stream, b"x").await.expect("send");
    read(first.await.expect("begun"), &Ends::default())
        .await
        .expect("open ones finish");
}

fn with_keepalive(without_streams: bool) -> (crate::transport::Connector, super::support::Tasks) {
    let (mut connector, tasks) = counting_connector();
    connector.options.keepalive = Some(KeepaliveOptions {
        time: std::time::Duration::from_millis(20),
        timeout: std::time::Duration::from_millis(20),
        without_streams,
    });
    (connector, tasks)
}

#[tokio::test]
async fn keepalive_asks_and_hears() {
    let (connector, _) = with_keepalive(true);
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    for _ in 0..3 {
        // The peer answers by itself.
        peer.expect_ping().await.expect("a ping");
    }
    assert!(
        connected.lost.now_or_never().is_none(),
        "a peer that answers is alive"
    );
}

#[tokio::test]
async fn keepalive_drops_a_silent_peer() {
    let (connector, tasks) = with_keepalive(false);
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    peer.set_manners(balancer_testpeer::Manners::deaf_to_pings());
    let rpc = connected.connection.send(call(b"a"));
    let (failure, ping) = soon(async { tokio::join!(rpc, peer.expect_ping()) }).await;
    ping.expect("asked first");
    let failure = failure.expect_err("the peer is silent");
    assert_eq!(failure.status.code(), TonicCode::Unavailable);
    assert!(
        failure
            .status
            .message()
            .ends_with("keepalive ping timed out"),
        "{}",
        failure.status
    );
    assert!(
        connected
            .lost
            .await
            .status
            .message()
            .ends_with("keepalive ping timed out")
    );
    drop(connected.connection);
    tasks.none().await;
}

#[tokio::test]
async fn keepalive_sleeps_without_streams() {
    let (connector, _) = with_keepalive(false);
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    let quiet = std::time::Duration::from_millis(100);
    tokio::time::timeout(quiet, peer.expect_ping())
        .await
        .expect_err("must not ping");
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    peer.expect_ping()
        .await
        .expect("a ping, now that there is a stream");
}
