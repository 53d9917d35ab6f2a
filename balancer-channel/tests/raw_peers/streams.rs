//! Streams that are refused, held back, or never answered.

use std::{sync::Arc, time::Duration};

use balancer_api::ConnectivityState;
use balancer_channel::Channel;
use balancer_testpeer::{
    Answer, Backend, Manners, Peer, Response, Server,
    frame::{Frame, code, setting},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request};

use crate::support::{Kind, echo, pipes::piped, rpc, text};

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_refused_one_is_tried_once_more_and_no_more() {
    let backend = Backend::new("full").answer(Answer::Reset(code::REFUSED_STREAM));
    let server = Arc::new(Server::in_memory(backend));
    let channel = piped(std::slice::from_ref(&server))
        .build()
        .expect("a channel");
    for n in 1..=3 {
        let status = echo(&channel, text("hello")).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(server.journal().streams(), 2 * n, "once more, no more");
    }
    assert_eq!(channel.state(false), ConnectivityState::Ready);
    assert_eq!(server.journal().accepted(), 1, "the connection is good");
    end(channel, &server).await;
}

/// However few streams the server allows, every RPC of a crowd has its turn, and the limit holds.
#[tokio::test(crate = "crate::support::harness")]
async fn a_crowd_gets_through_any_door() {
    for limit in [1, 2, 7, 100] {
        let backend = Backend::new("narrow").max_concurrent_streams(limit);
        let server = Server::start(backend).await.expect("a port");
        let channel = Channel::builder(format!("ipv4:{}", server.addr()))
            .plaintext()
            .build()
            .expect("a channel");
        let mut rpcs = JoinSet::new();
        for n in 0..1_000 {
            let channel = channel.clone();
            // Some kinds hold their place longer than others.
            let kind = [Kind::Unary, Kind::Bidirectional][n % 2];
            rpcs.spawn(async move { rpc(&channel, kind, &text("hello")).await });
        }
        let all = async {
            while let Some(ended) = rpcs.join_next().await {
                ended.expect("no panic").expect("each must be answered");
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(20), all).await;
        all.unwrap_or_else(|_| panic!("limit {limit}: nobody may be forgotten"));
        let peak = server.journal().connections[0].peak_streams;
        assert!(peak <= limit as usize, "{peak} at once, {limit} allowed");
        end(channel, &server).await;
    }
}

/// Kernel and peer take every octet, and nothing comes back.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_peer_that_hears_nothing_is_given_up_by_keepalive() {
    let deaf = Backend::new("deaf")
        .answer(Answer::Never)
        .manners(Manners::deaf_to_pings());
    let servers = [
        Arc::new(Server::in_memory(deaf)),
        Arc::new(Server::in_memory(Backend::new("good"))),
    ];
    let channel = piped(&servers)
        .keepalive(Duration::from_secs(10), Duration::from_secs(5), false)
        .warm_up(Duration::from_secs(1))
        .build()
        .expect("a channel");
    let started = Instant::now();
    let (a, b) = tokio::join!(echo(&channel, text("a")), echo(&channel, text("b")));
    let status = match (a, b) {
        (Err(status), Ok(_)) | (Ok(_), Err(status)) => status,
        both => panic!("one of the two must fail: {both:?}"),
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(15) && took <= Duration::from_millis(15_100),
        "10 s until the ping, 5 s for its answer: {took:?}"
    );
    echo(&channel, text("c"))
        .await
        .expect("nobody goes there now");
    end(channel, &servers[0]).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn nobody_pings_without_need() {
    let server = Arc::new(Server::in_memory(Backend::new("quiet")));
    let channel = piped(std::slice::from_ref(&server))
        .keepalive(Duration::from_secs(10), Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    echo(&channel, text("hello")).await.expect("served");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(server.journal().pings(), 0, "nobody waits for anything");
    assert_eq!(server.journal().accepted(), 1);
    end(channel, &server).await;

    // With a stream open: not more often than every ten seconds.
    let server = Arc::new(Server::in_memory(
        Backend::new("slow").answer(Answer::Never),
    ));
    let channel = piped(std::slice::from_ref(&server))
        .keepalive(Duration::from_secs(1), Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    let mut request = Request::new(text("hello"));
    request.set_timeout(Duration::from_secs(100));
    let status = echo(&channel, request).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let pings = server.journal().pings();
    assert!((9..=10).contains(&pings), "one in 10 s: {pings}");
    end(channel, &server).await;
}

/// As long as there is means never, whichever of the two it is said of.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_longest_times_are_kept() {
    const LONG: Duration = Duration::from_secs(20);
    for (time, timeout) in [(Duration::MAX, LONG), (LONG, Duration::MAX)] {
        let slow = Answer::Echo.after(Duration::from_secs(100));
        let slow = Backend::new("slow")
            .answer(slow)
            .manners(Manners::deaf_to_pings());
        let server = Arc::new(Server::in_memory(slow));
        let channel = piped(std::slice::from_ref(&server))
            .keepalive(time, timeout, true)
            .build()
            .expect("a channel");
        echo(&channel, text("hello")).await.expect("served");
        end(channel, &server).await;
    }
}

/// The server takes nothing of one request. Another on the same connection goes through, and the
/// first obeys its deadline, or its caller who gives up.
#[tokio::test(crate = "crate::support::harness")]
async fn a_request_that_is_stuck_holds_nobody_up() {
    let mut peer = Peer::listen().await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", peer.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    let large = text(&"x".repeat(1 << 20));
    let stuck = |timeout| {
        let mut request = Request::new(large.clone());
        request.set_timeout(timeout);
        let channel = channel.clone();
        tokio::spawn(async move { echo(&channel, request).await })
    };
    let deadline = stuck(Duration::from_secs(2));
    let mut conn = peer.accept().await.expect("a connection");
    conn.set_manners(Manners::closed_windows());
    conn.set_patience(Some(Duration::from_secs(10)));
    let shut = [(setting::INITIAL_WINDOW_SIZE, 0)];
    conn.handshake_with(&shut).await.expect("a handshake");
    let first = conn.next_request().await.expect("its headers").stream;
    let given_up = stuck(Duration::from_secs(600));
    let second = conn.next_request().await.expect("its headers").stream;

    let small = tokio::spawn({
        let channel = channel.clone();
        async move { echo(&channel, text("small")).await }
    });
    let third = conn.next_request().await.expect("its headers").stream;
    conn.send(Frame::window_update(third, 100))
        .await
        .expect("sent");
    let message = conn.message(third).await.expect("its body");
    let message = message.expect("a message");
    conn.reply_ok(third, &message).await.expect("sent");
    let answer = small.await.expect("no panic").expect("answered");
    assert_eq!(answer.get_ref().text, "small");

    given_up.abort();
    let reset = conn.expect_reset(second).await.expect("given up");
    assert_eq!(reset, code::CANCEL);
    let reset = conn.expect_reset(first).await.expect("too late");
    assert_eq!(reset, code::CANCEL);
    let status = deadline.await.expect("no panic").expect_err("stuck");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    drop(conn);
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_response_that_nobody_reads_holds_nobody_up() {
    let large = prost::Message::encode_to_vec(&text(&"x".repeat(1 << 20)));
    let mut many = Response::grpc();
    for _ in 0..16 {
        many = many.message(&large);
    }
    let many = Answer::from(many.status(0, ""));
    let backend = Backend::new("generous").answers(move |request| match request.path() {
        "/test.Echo/Many" => many.clone(),
        _ => Answer::Echo,
    });
    let server = Server::start(backend).await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    // The server sends what the windows allow, and no more.
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("always");
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Many");
        let codec =
            tonic_prost::ProstCodec::<crate::support::Text, crate::support::Text>::default();
        let response = client
            .server_streaming(Request::new(text("all")), path, codec)
            .await;
        unread.push(response.expect("it begins"));
    }
    for n in 0..100 {
        let mut request = Request::new(text("small"));
        request.set_timeout(Duration::from_secs(10));
        let answer = echo(&channel, request).await;
        answer.unwrap_or_else(|status| panic!("RPC {n} must be answered: {status:?}"));
    }
    assert_eq!(server.journal().accepted(), 1, "all on one connection");
    drop(unread);
    end(channel, &server).await;
}

async fn end(channel: Channel, server: &Server) {
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
    server.until(|journal| journal.open() == 0).await;
}
