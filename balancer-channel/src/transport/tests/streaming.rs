//! Requests and responses that come piece by piece.

use std::{
    future::Future as _,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use balancer_api::{Code, Status};
use balancer_channel_core::Connection as _;
use balancer_testpeer::{Backend, Server, frame::code};
use bytes::Bytes;
use futures_util::poll;
use http_body_util::BodyExt as _;

use super::support::{
    Ends, call, connector, counting_connector, echo, framed, pair, pair_by_hand, pair_by_hand_with,
    read, serve_h2, soon, streaming, unary,
};
use crate::transport::{Connector, FailureKind, H2Options};

#[tokio::test]
async fn headers_come_before_the_first_message() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let (sender, request) = streaming();
    let rpc = connected.connection.send(request);
    let respond = async {
        let stream = peer
            .next_request()
            .await
            .expect("the head goes out alone")
            .stream;
        peer.reply_headers(stream).await.expect("send");
        stream
    };
    let (response, stream) = tokio::join!(rpc, respond);
    let ends = Ends::default();
    let response = response
        .expect("begun without a message")
        .into_http(ends.clone());

    // Nobody reads the response; the request flows all the same.
    sender.send(Ok(framed(b"one"))).expect("wanted");
    assert_eq!(
        peer.message(stream).await.expect("open").expect("one")[..],
        *b"one"
    );
    sender.send(Ok(framed(b"two"))).expect("wanted");
    assert_eq!(
        peer.message(stream).await.expect("open").expect("two")[..],
        *b"two"
    );
    drop(sender);
    assert_eq!(
        peer.message(stream).await.expect("open"),
        None,
        "half-closed"
    );

    peer.reply_message(stream, b"three").await.expect("send");
    peer.reply_trailers(stream, 0, "").await.expect("send");
    let body = response.into_body().collect().await.expect("whole");
    assert_eq!(body.to_bytes(), framed(b"three"));
    let end = ends.only();
    assert_eq!((end.status, end.sent, end.received), (None, 16, 10));
}

#[tokio::test]
async fn ping_pong() {
    let connected = pair(|socket| serve_h2(socket, h2::server::Builder::new(), echo)).await;
    let (sender, request) = streaming();
    sender.send(Ok(Bytes::from_static(b"0"))).expect("wanted");
    let response = connected.connection.send(request).await.expect("begun");
    let mut body = response.into_http(Ends::default()).into_body();
    for round in 0..100_u32 {
        let data = body
            .frame()
            .await
            .expect("open")
            .expect("no error")
            .into_data()
            .expect("data");
        assert_eq!(data, round.to_string().as_bytes());
        sender
            .send(Ok((round + 1).to_string().into()))
            .expect("wanted");
    }
    drop(sender);
    body.collect().await.expect("a good end");
}

#[tokio::test]
async fn large_bodies_cross() {
    let connected = pair(|socket| serve_h2(socket, h2::server::Builder::new(), echo)).await;
    let (sender, request) = streaming();
    tokio::spawn(async move {
        for at in 0..160_u8 {
            sender.send(Ok(vec![at; 64 << 10].into())).expect("wanted");
        }
    });
    let response = connected.connection.send(request).await.expect("begun");
    let ends = Ends::default();
    let (body, _) = soon(read(response, &ends)).await.expect("whole");
    assert_eq!(body.len(), 160 * (64 << 10));
    assert!(
        body.chunks(64 << 10)
            .zip(0_u8..)
            .all(|(chunk, at)| chunk == vec![at; 64 << 10])
    );
    let end = ends.only();
    assert_eq!(
        (end.sent, end.received),
        (body.len() as u64, body.len() as u64)
    );
}

#[tokio::test]
async fn a_slow_reader_holds_the_server_back() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let rpc = connected.connection.send(call(b"x"));
    let respond = async {
        let stream = peer.next_call().await.expect("the call").stream;
        peer.reply_headers(stream).await.expect("send");
        stream
    };
    let (response, stream) = tokio::join!(rpc, respond);
    let mut body = response
        .expect("begun")
        .into_http(Ends::default())
        .into_body();

    // The peer minds the windows: it cannot send more than one of them.
    let window = 1 << 20;
    let data = Bytes::from(vec![0; 4 << 20]);
    let mut sending = pin!(peer.reply_message(stream, &data));
    let mut read = 0;
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => { sent.expect("send"); break; }
            frame = body.frame() => {
                let data = frame.expect("open").expect("no error").into_data().expect("data");
                read += data.len();
            }
        }
    }
    assert!(
        read >= data.len() - window,
        "only what was read makes room: {read}"
    );
    drop(body);
}

#[tokio::test]
async fn a_server_that_takes_nothing_holds_the_request_back() {
    let server = Server::start(Backend::new("a").closed_windows())
        .await
        .expect("a port");
    let connected = connector()
        .connect(&server.addr().to_string(), None)
        .await
        .expect("ready");
    let (sender, mut request) = streaming();
    for _ in 0..4096 {
        sender.send(Ok(vec![0; 1000].into())).expect("wanted");
    }
    let pulled = Arc::new(AtomicUsize::new(0));
    let seen = pulled.clone();
    request.body.map(|body| {
        tonic::body::Body::new(body.map_frame(move |frame| {
            seen.fetch_add(1, SeqCst);
            frame
        }))
    });
    let mut rpc = Box::pin(connected.connection.send(request));
    assert!(poll!(&mut rpc).is_pending());
    server.until(|journal| journal.streams() == 1).await;
    for _ in 0..64 {
        assert!(poll!(&mut rpc).is_pending());
        // A task may do so much at a time and no more.
        tokio::task::yield_now().await;
    }
    let pulled = pulled.load(SeqCst);
    assert!(pulled < 1024, "the rest must stay where it is: {pulled} KB");

    // Others get on.
    let mut other = Box::pin(connected.connection.send(unary("")));
    assert!(poll!(&mut other).is_pending());
    server.until(|journal| journal.streams() == 2).await;

    drop(rpc);
    server.until(|journal| journal.resets() == 1).await;
    let resets = &server.journal().connections[0].resets;
    assert_eq!(resets[0], (1, code::CANCEL));
    assert!(sender.is_closed(), "the body is dropped with the RPC");
}

#[tokio::test]
async fn dropping_a_response_resets_the_stream() {
    let (connector, tasks) = counting_connector();
    let (connected, mut peer) = pair_by_hand_with(connector, &[]).await;
    let (sender, request) = streaming();
    let rpc = connected.connection.send(request);
    let respond = async {
        let stream = peer.next_request().await.expect("the head").stream;
        peer.reply_headers(stream).await.expect("send");
        stream
    };
    let (response, stream) = tokio::join!(rpc, respond);
    let ends = Ends::default();
    let response = response.expect("begun").into_http(ends.clone());
    assert_eq!(connected.connection.streams(), 1);

    drop(response);
    let end = ends.only();
    assert_eq!(end.status.expect("not OK").code(), Code::Cancelled);
    assert_eq!(
        peer.expect_reset(stream).await.expect("a reset"),
        code::CANCEL
    );
    soon(sender.closed()).await;
    while connected.connection.streams() > 0 {
        tokio::task::yield_now().await;
    }
    drop(connected);
    tasks.none().await;
}

/// Small answers come in one piece: they need no timer, and hold no place until somebody reads them.
#[tokio::test]
async fn a_response_that_is_all_there_is_over_before_it_is_read() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let connection = connected.connection;
    let mut rpc = Box::pin(connection.send(call(b"x")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_ok(stream, b"whole").await.expect("send");
    peer.send_ping([7; 8]).await.expect("send");
    // The client has read all of it.
    peer.expect_pong([7; 8]).await.expect("alive");

    let ends = Ends::default();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(3600);
    let response = std::future::poll_fn(|cx| {
        let response = std::task::ready!(rpc.as_mut().poll(cx)).expect("begun");
        Poll::Ready(response.into_http_until(deadline, ends.clone(), cx))
    })
    .await;
    let end = ends.only();
    assert_eq!((end.status, end.received, end.trailers), (None, 10, true));
    assert_eq!(connection.streams(), 0, "its place must be free");
    let deadlines = format!("{:?}", connection.shared().deadlines);
    assert!(deadlines.contains("waiting: 0"), "{deadlines}");

    let body = response.into_body().collect().await.expect("whole");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), framed(b"whole"));
}

/// What came in time is read whenever somebody likes; what did not come in time is not.
#[tokio::test]
async fn an_end_that_came_before_the_deadline_counts() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let connection = connected.connection;
    let mut rpc = Box::pin(connection.send(call(b"x")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_headers(stream).await.expect("send");
    let ends = Ends::default();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(200);
    let response = std::future::poll_fn(|cx| {
        let response = std::task::ready!(rpc.as_mut().poll(cx)).expect("begun");
        Poll::Ready(response.into_http_until(deadline, ends.clone(), cx))
    })
    .await;
    peer.reply_message(stream, b"in time").await.expect("send");
    peer.reply_trailers(stream, 0, "").await.expect("send");
    while connection.streams() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ends.only().status, None, "it was answered");
    let body = response.into_body().collect().await.expect("whole");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), framed(b"in time"));
}

#[tokio::test]
async fn an_early_answer_ends_the_request() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let (sender, request) = streaming();
    let rpc = connected.connection.send(request);
    let respond = async {
        let stream = peer.next_request().await.expect("the head").stream;
        peer.reply_headers(stream).await.expect("send");
        peer.reply_trailers(stream, 8, "enough")
            .await
            .expect("send");
        stream
    };
    let (response, stream) = tokio::join!(rpc, respond);
    let ends = Ends::default();
    let (_, trailers) = read(response.expect("begun"), &ends).await.expect("an end");
    assert_eq!(trailers["grpc-status"], "8");
    assert_eq!(
        ends.only().status,
        Some(Status::new(Code::ResourceExhausted, "enough"))
    );
    soon(sender.closed()).await;
    assert_eq!(
        peer.expect_reset(stream).await.expect("no more is sent"),
        code::CANCEL
    );
}

#[tokio::test]
async fn a_reset_ends_the_applications_body() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let (sender, request) = streaming();
    let rpc = connected.connection.send(request);
    let respond = async {
        let stream = peer.next_request().await.expect("the head").stream;
        peer.reply_headers(stream).await.expect("send");
        stream
    };
    let (response, stream) = tokio::join!(rpc, respond);
    let response = response.expect("begun").into_http(Ends::default());
    peer.send_reset(stream, code::INTERNAL_ERROR)
        .await
        .expect("send");
    // Though nobody reads the response.
    soon(sender.closed()).await;
    let status = response.into_body().collect().await.expect_err("reset");
    assert_eq!(status.code(), tonic::Code::Internal);
}

#[tokio::test]
async fn the_bodys_own_error_is_the_rpcs() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let (sender, request) = streaming();
    sender
        .send(Err(tonic::Status::data_loss("first")))
        .expect("wanted");
    let failure = connected
        .connection
        .send(request)
        .await
        .expect_err("nothing to send");
    assert_eq!(failure.status.message(), "first");

    let (sender, request) = streaming();
    sender.send(Ok(framed(b"x"))).expect("wanted");
    let mut rpc = Box::pin(connected.connection.send(request));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_request().await.expect("the head").stream;
    sender
        .send(Err(tonic::Status::data_loss("second")))
        .expect("wanted");
    let failure = rpc.await.expect_err("the body failed");
    assert_eq!(
        (failure.kind, failure.status.message()),
        (FailureKind::Local, "second")
    );
    assert_eq!(
        peer.expect_reset(stream).await.expect("a reset"),
        code::CANCEL
    );

    let (sender, request) = streaming();
    let rpc = connected.connection.send(request);
    let respond = async {
        let stream = peer.next_request().await.expect("the head").stream;
        peer.reply_headers(stream).await.expect("send");
    };
    let (response, ()) = tokio::join!(rpc, respond);
    sender
        .send(Err(tonic::Status::data_loss("third")))
        .expect("wanted");
    let ends = Ends::default();
    let status = read(response.expect("begun"), &ends)
        .await
        .expect_err("the body failed");
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::DataLoss, "third")
    );
    assert_eq!(
        ends.only().status,
        Some(Status::new(Code::DataLoss, "third"))
    );
    assert_eq!(connected.connection.streams(), 0);
}

#[tokio::test]
async fn a_chunk_that_no_window_holds_is_an_error() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let (messages, request) = streaming();
    messages
        .send(Ok(vec![0; 1 << 31].into()))
        .expect("it is read");
    drop(messages);
    let failure = connected.connection.send(request).await;
    let status = failure.expect_err("too large").status;
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "2147483648 bytes of a request in one piece; HTTP/2 takes at most 2147483647"
    );
    let stream = peer.next_request().await.expect("the head").stream;
    let why = peer.expect_reset(stream).await.expect("a reset");
    assert_eq!(why, code::CANCEL);
}

#[tokio::test]
async fn what_is_too_long_to_remember_is_not_given_back() {
    for (limit, back) in [(8, true), (7, false)] {
        let (connected, mut peer) = pair_by_hand(&[]).await;
        let (sender, mut request) = streaming();
        request.body.set_limit(limit);
        for part in ["abcd", "efgh"] {
            sender.send(Ok(part.into())).expect("wanted");
        }
        let mut rpc = Box::pin(connected.connection.send(request));
        assert!(poll!(&mut rpc).is_pending());
        let stream = peer.next_request().await.expect("the head").stream;
        assert!(poll!(&mut rpc).is_pending());
        peer.send_reset(stream, code::REFUSED_STREAM)
            .await
            .expect("send");
        let failure = rpc.await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Refused);
        assert_eq!(failure.request.is_some(), back, "limit {limit}");

        let Some(again) = failure.request else {
            continue;
        };
        sender.send(Ok("ijkl".into())).expect("still wanted");
        drop(sender);
        let mut rpc = Box::pin(connected.connection.send(*again));
        assert!(poll!(&mut rpc).is_pending());
        let stream = peer.next_request().await.expect("once more").stream;
        let whole = tokio::select! {
            biased;
            whole = peer.body(stream) => whole.expect("open"),
            _ = &mut rpc => panic!("nobody answered"),
        };
        assert_eq!(whole, "abcdefghijkl", "from the start, and on");
    }
}

/// Drops a call after each number of polls, at each stage of its life.
#[tokio::test]
async fn dropping_at_any_poll_leaves_nothing_behind() {
    let (connector, tasks) = counting_connector();
    let server = Server::start(Backend::new("a").max_concurrent_streams(1))
        .await
        .expect("a port");
    let connected = connector
        .connect(&server.addr().to_string(), None)
        .await
        .expect("ready");
    let connection = connected.connection.clone();
    let mut finished = false;
    let mut polls = 0;
    while !finished {
        let (sender, request) = streaming();
        sender.send(Ok(framed(b"x"))).expect("wanted");
        let ends = Ends::default();
        let mut whole = Box::pin({
            let (connection, ends) = (connection.clone(), ends.clone());
            async move {
                let response = connection.send(request).await.expect("begun");
                let mut body = response.into_http(ends).into_body();
                drop(sender);
                while let Some(frame) = body.frame().await {
                    frame.expect("no error");
                }
            }
        });
        for _ in 0..polls {
            if let Poll::Ready(()) = poll!(&mut whole) {
                finished = true;
                break;
            }
            tokio::time::timeout(
                std::time::Duration::from_millis(1),
                std::future::pending::<()>(),
            )
            .await
            .expect_err("a breath for the sockets");
        }
        drop(whole);
        assert!(
            ends.take().len() <= 1,
            "told at most once, after {polls} polls"
        );
        polls += 1;
        assert!(polls < 100, "it must end some time");

        // The permit must be free for the next.
        let next = soon(connection.send(call(b"next"))).await;
        let response = next.expect("admitted");
        read(response, &Ends::default()).await.expect("whole");
        soon(async {
            while connection.streams() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    drop((connection, connected, connector));
    tasks.none().await;
}

#[tokio::test]
async fn late_answers_to_cancelled_calls_are_harmless() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    for _ in 0..2000 {
        let mut rpc = Box::pin(connected.connection.send(call(b"x")));
        assert!(poll!(&mut rpc).is_pending());
        let stream = peer.next_call().await.expect("the call").stream;
        drop(rpc);
        peer.expect_reset(stream).await.expect("cancelled");
        let late = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "0"),
        ];
        peer.send_headers(stream, late, true)
            .await
            .expect("the connection must live on");
    }
    let mut rpc = Box::pin(connected.connection.send(call(b"x")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_ok(stream, b"fine").await.expect("send");
    read(rpc.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
}

#[tokio::test]
async fn windows_come_back_after_dropped_responses() {
    // Together the responses are four times what the connection's window holds.
    let narrow = Connector {
        options: H2Options {
            connection_window: 4 << 20,
            ..H2Options::default()
        },
        ..connector()
    };
    let (connected, mut peer) = pair_by_hand_with(narrow, &[]).await;
    let serve = async {
        for _ in 0..64 {
            let stream = peer.next_call().await.expect("the call").stream;
            peer.reply_headers(stream).await.expect("send");
            // The client drops it on the way.
            let _ = peer.reply_message(stream, &[0; 256 << 10]).await;
        }
        let stream = peer.next_call().await.expect("the last").stream;
        peer.reply_ok(stream, &[0; 4 << 20])
            .await
            .expect("there is room again");
    };
    let calls = async {
        for _ in 0..64 {
            let response = connected.connection.send(call(b"x")).await.expect("begun");
            let mut body = response.into_http(Ends::default()).into_body();
            body.frame().await.expect("open").expect("no error");
        }
        let response = connected.connection.send(call(b"x")).await.expect("begun");
        read(response, &Ends::default()).await.expect("whole").0
    };
    let ((), last) = soon(async { tokio::join!(serve, calls) }).await;
    assert_eq!(last.len(), (4 << 20) + 5);
}
