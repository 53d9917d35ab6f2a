//! MAX_CONCURRENT_STREAMS: who waits, and for what.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
};

use balancer_api::Status;
use balancer_channel_core::Connection as _;
use balancer_testpeer::{
    Backend, Server,
    frame::{code, setting},
};
use futures_util::poll;

use super::support::{
    Ends, call, connector, framed, pair_by_hand, pair_by_hand_beside, read, soon,
};
use crate::transport::{Exchange, FailureKind};

const MCS: u16 = setting::MAX_CONCURRENT_STREAMS;

#[tokio::test]
async fn one_at_a_time_in_order() {
    let (connected, mut peer) = pair_by_hand(&[(MCS, 1)]).await;
    let mut rpcs: Vec<_> = (0..3_u8)
        .map(|at| Box::pin(connected.connection.send(call(&[at]))))
        .collect();
    for rpc in &mut rpcs {
        assert!(poll!(rpc).is_pending());
    }
    assert_eq!(
        (
            connected.connection.streams(),
            connected.connection.waiting()
        ),
        (1, 2)
    );

    for (at, mut rpc) in (0_u8..).zip(rpcs) {
        assert!(poll!(&mut rpc).is_pending());
        let request = peer.next_call().await.expect("in turn");
        assert_eq!(
            request.message().expect("whole")[..],
            [at],
            "must go in order"
        );
        peer.reply_ok(request.stream, b"").await.expect("send");
        read(rpc.await.expect("begun"), &Ends::default())
            .await
            .expect("whole");
    }
    assert_eq!(
        (
            connected.connection.streams(),
            connected.connection.waiting()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn none_at_all_until_the_limit_is_raised() {
    let (connected, mut peer) = pair_by_hand(&[(MCS, 0)]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    assert_eq!(
        (
            connected.connection.streams(),
            connected.connection.waiting()
        ),
        (0, 1)
    );

    peer.send_settings(&[(MCS, 2)]).await.expect("send");
    let answer = async {
        let request = peer.next_call().await.expect("at last");
        peer.reply_ok(request.stream, b"").await.expect("send");
    };
    let (response, ()) = tokio::join!(rpc, answer);
    read(response.expect("begun"), &Ends::default())
        .await
        .expect("whole");
}

#[tokio::test]
async fn a_limit_below_what_is_open_holds_the_next_back() {
    let (connected, mut peer) = pair_by_hand(&[(MCS, 2)]).await;
    let mut a = Box::pin(connected.connection.send(call(b"a")));
    let mut b = Box::pin(connected.connection.send(call(b"b")));
    assert!(poll!(&mut a).is_pending() && poll!(&mut b).is_pending());
    let first = peer.next_call().await.expect("a").stream;
    let second = peer.next_call().await.expect("b").stream;
    peer.send_settings(&[(MCS, 1)]).await.expect("send");
    peer.expect_settings_ack().await.expect("in force");
    peer.expect_settings_ack().await.expect("in force");

    let mut c = Box::pin(connected.connection.send(call(b"c")));
    assert!(poll!(&mut c).is_pending());
    peer.reply_ok(first, b"").await.expect("send");
    read(a.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert!(poll!(&mut c).is_pending());
    assert_eq!(
        connected.connection.waiting(),
        1,
        "one is open, and one is the limit"
    );
    peer.reply_ok(second, b"").await.expect("send");
    read(b.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert!(poll!(&mut c).is_pending());
    assert_eq!(connected.connection.waiting(), 0, "its turn");
    peer.next_call().await.expect("c");
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_no_hole() {
    let (connected, mut peer) = pair_by_hand(&[(MCS, 1)]).await;
    let connection = connected.connection;
    let mut open = Box::pin(connection.send(call(b"open")));
    let mut gone = Box::pin(connection.send(call(b"gone")));
    let mut granted = Box::pin(connection.send(call(b"granted and gone")));
    let mut last = Box::pin(connection.send(call(b"last")));
    for rpc in [&mut open, &mut gone, &mut granted, &mut last] {
        assert!(poll!(rpc).is_pending());
    }
    drop(gone);
    assert_eq!(connection.waiting(), 2);
    drop(open);
    // The permit is now that of one that will never look.
    assert_eq!((connection.streams(), connection.waiting()), (1, 1));
    drop(granted);
    assert!(poll!(&mut last).is_pending());
    // The first stream was opened and cancelled; those between never were.
    let last = loop {
        let request = peer.next_request().await.expect("a request");
        match request.stream {
            1 => {}
            stream => break stream,
        }
    };
    assert_eq!(last, 3, "no stream may be opened for those who gave up");
    assert_eq!(peer.body(last).await.expect("open"), framed(b"last"));
}

#[tokio::test]
async fn those_who_wait_go_elsewhere_at_a_goaway() {
    let (connected, mut peer) = pair_by_hand(&[(MCS, 0)]).await;
    let rpc = connected.connection.send(call(b"a"));
    let goaway = peer.send_goaway(balancer_testpeer::MAX_STREAM, code::NO_ERROR, "");
    let (failure, sent) = tokio::join!(rpc, goaway);
    sent.expect("send");
    let failure = failure.expect_err("no stream was open");
    assert_eq!(failure.kind, FailureKind::NotSent);
    assert!(failure.request.is_some());
    assert!(
        failure
            .status
            .message()
            .ends_with("server sent GOAWAY NO_ERROR")
    );
}

#[tokio::test]
async fn those_who_wait_go_elsewhere_at_a_loss() {
    let (connected, peer) = pair_by_hand(&[(MCS, 0)]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"a")));
    assert!(poll!(&mut rpc).is_pending());
    peer.reset();
    let failure = rpc.await.expect_err("no stream was open");
    assert_eq!(failure.kind, FailureKind::NotSent);
    assert!(failure.request.is_some());
}

/// The one that ends is not the last: nobody is sent away, nor to the end of the queue.
#[tokio::test]
async fn those_who_wait_keep_their_place_when_one_of_two_ends() {
    let (first, mut first_peer) = pair_by_hand(&[(MCS, 1)]).await;
    let (second, mut second_peer) = pair_by_hand_beside(&first.connection, &[(MCS, 1)]).await;
    let mut here = Box::pin(first.connection.send(call(b"here")));
    let mut there = Box::pin(second.connection.send(call(b"there")));
    assert!(poll!(&mut here).is_pending() && poll!(&mut there).is_pending());
    let open = second_peer.next_call().await.expect("there").stream;
    let mut rpc = Exchange::new(first.connection.clone());
    let mut moving = call(b"rpc");
    let mut poll_rpc = async || poll_fn(|cx| Poll::Ready(rpc.poll(&mut moving, cx))).await;
    assert!(poll_rpc().await.is_pending());

    let last = balancer_testpeer::MAX_STREAM;
    let goaway = first_peer.send_goaway(last, code::NO_ERROR, "");
    goaway.await.expect("sent");
    first.lost.await;
    assert!(poll_rpc().await.is_pending(), "it waits on");
    assert_eq!(second.connection.queued(), 1, "where it was");
    second_peer.reply_ok(open, b"").await.expect("sent");
    let answered = there.await.expect("begun");
    read(answered, &Ends::default()).await.expect("whole");
    assert!(poll_rpc().await.is_pending());
    let request = second_peer.next_call().await.expect("in its turn");
    assert_eq!(request.message().expect("whole")[..], *b"rpc");
    assert!(poll!(&mut here).is_pending(), "a GOAWAY ends no stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_through_a_narrow_door() {
    for limit in [1, 2, 7, 100] {
        let server = Server::start(Backend::new("a").max_concurrent_streams(limit))
            .await
            .expect("a port");
        let connected = connector()
            .connect(&server.addr().to_string(), None)
            .await
            .expect("ready");
        let rpcs: Vec<_> = (0..500)
            .map(|_| {
                let connection = connected.connection.clone();
                tokio::spawn(async move {
                    let response = connection.send(call(b"x")).await.expect("begun");
                    read(response, &Ends::default()).await.expect("whole");
                })
            })
            .collect();
        for rpc in rpcs {
            soon(rpc).await.expect("no panic");
        }
        let peak = server.journal().connections[0].peak_streams;
        assert!(
            peak <= limit as usize,
            "limit {limit}, but {peak} were open"
        );
        assert_eq!(
            (
                connected.connection.streams(),
                connected.connection.waiting()
            ),
            (0, 0)
        );
    }
}

/// A policy's call is the connection's own: it ends with it, and a stream that another connection has
/// free is none for it. An RPC takes that one.
#[tokio::test]
async fn a_policy_s_call_stays_where_it_was_started() {
    let (first, mut first_peer) = pair_by_hand(&[(MCS, 1)]).await;
    let (second, mut second_peer) = pair_by_hand_beside(&first.connection, &[(MCS, 1)]).await;
    let mut held = Box::pin(first.connection.send(call(b"held")));
    assert!(poll!(&mut held).is_pending());
    let request = first_peer.next_call().await.expect("the first");

    let told = Arc::new(AtomicBool::new(false));
    let news = told.clone();
    let news = Box::new(move || news.store(true, SeqCst));
    first.connection.when_crowded(news);
    let mut pinned = Box::pin(first.connection.send(call(b"pinned")));
    assert!(poll!(&mut pinned).is_pending());
    assert_eq!(
        (first.connection.waiting(), second.connection.streams()),
        (1, 0)
    );
    assert_eq!(
        first.connection.queued(),
        0,
        "another connection is no use to it"
    );
    assert!(!told.load(SeqCst), "nobody who could go elsewhere waits");

    // It holds up nobody who can.
    let mut rpc = Exchange::new(first.connection.clone());
    let mut moving = call(b"rpc");
    let mut poll_rpc = async || poll_fn(|cx| Poll::Ready(rpc.poll(&mut moving, cx))).await;
    assert!(poll_rpc().await.is_pending());
    let elsewhere = second_peer.next_call().await.expect("the RPC");
    assert_eq!(elsewhere.message().expect("whole")[..], *b"rpc");
    assert!(!told.load(SeqCst));

    first_peer
        .reply_ok(request.stream, b"")
        .await
        .expect("sent");
    read(held.await.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert!(poll!(&mut pinned).is_pending());
    let request = first_peer.next_call().await.expect("in its turn");
    assert_eq!(request.message().expect("whole")[..], *b"pinned");
    let mut late = Box::pin(first.connection.send(call(b"late")));
    assert!(poll!(&mut late).is_pending());
    first.connection.abort(Status::unavailable("lost"));
    let failure = late.await.expect_err("its connection is lost");
    assert_eq!(failure.kind, FailureKind::NotSent);
    assert!(!second.connection.is_lost());
}
