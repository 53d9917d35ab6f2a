//! Calls that policies make.

use std::time::Duration;

use balancer_api::{CallEvent, CallRequest, Code, Status};
use balancer_channel_core::Connection as _;
use balancer_testpeer::frame::code;
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;

use super::support::{pair_by_hand, pair_by_hand_with, soon};

fn show(event: Option<CallEvent>) -> String {
    event.map_or("nothing".to_owned(), |event| format!("{event:?}"))
}

#[tokio::test]
async fn a_watch_runs_both_ways() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-zone", "a".parse().expect("ASCII"));
    let request = CallRequest::new("/lb.Service/Watch")
        .with_headers(headers)
        .with_first_message(&b"first"[..])
        .with_timeout(Some(Duration::from_secs(9)));
    let mut call = connected.connection.start_call(request);
    let respond = async {
        let request = peer.next_request().await.expect("the call");
        assert_eq!(request.path(), "/lb.Service/Watch");
        assert_eq!(request.header(":authority"), Some("greeter.test"));
        assert_eq!(request.header("x-zone"), Some("a"));
        assert_eq!(request.header("te"), Some("trailers"));
        assert_eq!(request.header("user-agent"), Some("test"));
        assert_eq!(request.header("grpc-timeout"), Some("9000000u"));
        peer.reply_headers(request.stream).await.expect("send");
        request.stream
    };
    let (event, stream) = tokio::join!(call.events.next(), respond);
    assert!(matches!(event, Some(CallEvent::Headers(_))));
    assert_eq!(
        peer.message(stream).await.expect("open").expect("one")[..],
        *b"first"
    );
    call.sender.send_message(Bytes::from_static(b"second"));
    assert_eq!(
        peer.message(stream).await.expect("open").expect("one")[..],
        *b"second"
    );
    call.sender.close_send();
    assert_eq!(peer.message(stream).await.expect("open"), None);

    peer.reply_message(stream, b"").await.expect("send");
    peer.reply_message(stream, b"news").await.expect("send");
    peer.reply_trailers(stream, 5, "gone").await.expect("send");
    assert_eq!(show(call.events.next().await), "Message(0 bytes)");
    assert_eq!(show(call.events.next().await), "Message(4 bytes)");
    let Some(CallEvent::End { status, trailers }) = call.events.next().await else {
        panic!("the end must come")
    };
    assert_eq!(status, Status::new(Code::NotFound, "gone"));
    assert_eq!(trailers["grpc-status"], "5");
    assert!(call.events.next().await.is_none(), "and then nothing");
    assert_eq!(connected.connection.streams(), 0);
}

#[tokio::test]
async fn a_call_ends_with_its_connection() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut call = connected
        .connection
        .start_call(CallRequest::new("/lb.Service/Watch"));
    let respond = async {
        let stream = peer.next_request().await.expect("the call").stream;
        peer.reply_headers(stream).await.expect("send");
    };
    let (_, ()) = tokio::join!(call.events.next(), respond);
    peer.reset();
    let end = show(call.events.next().await);
    assert!(end.starts_with("End(UNAVAILABLE"), "{end}");

    let mut late = connected
        .connection
        .start_call(CallRequest::new("/lb.Service/Watch"));
    let end = show(late.events.next().await);
    assert!(end.starts_with("End(UNAVAILABLE"), "{end}");
    assert!(late.events.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_events_cancels() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut call = connected
        .connection
        .start_call(CallRequest::new("/lb.Service/Watch"));
    let respond = async {
        let stream = peer.next_request().await.expect("the call").stream;
        peer.reply_headers(stream).await.expect("send");
        stream
    };
    let (_, stream) = tokio::join!(call.events.next(), respond);
    drop(call.events);
    assert_eq!(
        peer.expect_reset(stream).await.expect("a reset"),
        code::CANCEL
    );
    call.sender.send_message(Bytes::from_static(b"to nobody"));
}

#[tokio::test]
async fn a_deadline_ends_the_call() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let request =
        CallRequest::new("/lb.Service/Probe").with_timeout(Some(Duration::from_millis(20)));
    let mut call = connected.connection.start_call(request);
    let (end, request) = tokio::join!(call.events.next(), peer.next_request());
    let end = show(end);
    assert!(end.starts_with("End(DEADLINE_EXCEEDED"), "{end}");
    let stream = request.expect("the call").stream;
    peer.expect_reset(stream).await.expect("a reset");
}

#[tokio::test]
async fn what_is_no_method_ends_at_once() {
    let (connected, _peer) = pair_by_hand_with(super::support::connector(), &[]).await;
    for method in ["no slash", "lb.Service/Watch", "*"] {
        let request = CallRequest::new(method);
        let mut call = connected.connection.start_call(request);
        let end = show(soon(call.events.next()).await);
        assert!(end.starts_with("End(INTERNAL"), "{method}: {end}");
    }
}
