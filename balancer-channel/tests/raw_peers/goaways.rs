//! GOAWAY at awkward moments.

use std::{sync::Arc, time::Duration};

use balancer_api::ConnectivityState as State;
use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{
    Backend, Behaviour, Manners, Script, Server, faults,
    frame::{code, flag},
};
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::support::{any_answer, echo, pipes::piped, text};

/// Virtual time in which a bad peer is dialled at 0, 1, 2.6, 5.2, 9.3, 15.8, 26.3, 43.1 s and, if the
/// waits were drawn short, once more.
const MINUTE: Duration = Duration::from_secs(60);
const MOST_DIALS: usize = 9;

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn rpcs_above_the_last_stream_are_sent_again() {
    // Of twenty, the odd numbers 1 to 39, ten are answered.
    let first = faults::goaway_on_request(20, 19, code::NO_ERROR, "half");
    let script = Script::new()
        .on_connection(1, first)
        .otherwise(Backend::new("second"));
    let server = Arc::new(Server::in_memory(script));
    let channel = piped(std::slice::from_ref(&server))
        .build()
        .expect("a channel");
    channel.connect().await.expect("connected");
    let mut rpcs = JoinSet::new();
    for _ in 0..20 {
        let channel = channel.clone();
        rpcs.spawn(async move { any_answer(&channel).await });
    }
    let mut by_the_second = 0;
    while let Some(ended) = rpcs.join_next().await {
        let answer = ended.expect("no panic").expect("each must be answered");
        by_the_second += usize::from(!answer.ends_with(b"before the end"));
    }
    assert_eq!(by_the_second, 10, "half of them were not processed");
    end(channel, &server).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn two_are_one_loss() {
    let script = Script::new()
        .on_connection(1, faults::two_goaways(1))
        .otherwise(Backend::new("second"));
    let server = Arc::new(Server::in_memory(script));
    let channel = piped(std::slice::from_ref(&server))
        .build()
        .expect("a channel");
    let mut states = channel.states();
    let open = any_answer(&channel).await;
    open.expect("it was below the last stream");
    let next = any_answer(&channel).await;
    next.expect("on a new connection");
    assert_eq!(server.journal().accepted(), 2);
    end(channel, &server).await;
    let mut seen = Vec::new();
    while let Some(state) = states.next().await {
        seen.push(state);
    }
    let ready = seen.iter().filter(|state| **state == State::Ready).count();
    assert_eq!(ready, 2, "once for each connection: {seen:?}");
    assert!(
        !seen.contains(&State::TransientFailure),
        "a GOAWAY is no failure: {seen:?}"
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn what_was_above_the_last_stream_survives_the_close() {
    let (result, accepted) = goaway_and_close(0).await;
    result.expect("the server's application cannot have seen it");
    assert_eq!(accepted, 2);
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn what_may_have_been_seen_does_not() {
    let (result, _) = goaway_and_close(1).await;
    let status = result.expect_err("it may have been seen");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// What an RPC comes to whose connection says GOAWAY(last) and closes.
async fn goaway_and_close(last: u32) -> (Result<(), Status>, usize) {
    let script = Script::new()
        .on_connection(1, faults::goaway_then_close(last, code::NO_ERROR))
        .otherwise(Backend::new("second"));
    let server = Arc::new(Server::in_memory(script));
    let channel = piped(std::slice::from_ref(&server))
        .build()
        .expect("a channel");
    let result = any_answer(&channel).await.map(drop);
    let accepted = server.journal().accepted();
    end(channel, &server).await;
    (result, accepted)
}

/// On every connection: with the SETTINGS, and as soon as the client has answered them.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_storm_is_backed_off() {
    let later = Behaviour::new(|mut conn| async move {
        conn.handshake().await?;
        conn.expect_settings_ack().await?;
        conn.send_goaway(0, code::NO_ERROR, "go away").await?;
        conn.drain().await;
        Ok(())
    });
    for storm in [faults::goaway_at_once(code::NO_ERROR, "go away"), later] {
        // Silent after 300 connections, or a clock that only moves while all wait would stand still.
        let script = Script::new()
            .on_connections(1..=300, storm)
            .otherwise(faults::silence());
        let server = Arc::new(Server::in_memory(script));
        let channel = piped(std::slice::from_ref(&server))
            .build()
            .expect("a channel");
        let mut request = Request::new(text("hello"));
        request.extensions_mut().insert(WaitForReady(true));
        request.set_timeout(MINUTE);
        let status = echo(&channel, request).await.expect_err("nobody serves");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let dials = server.journal().accepted();
        assert!(
            (2..=MOST_DIALS).contains(&dials),
            "must be dialled, but not often: {dials}"
        );
        end(channel, &server).await;
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn too_many_pings_double_the_interval() {
    // The shortest interval there is, and one that is longer than its double.
    for seconds in [10, 30] {
        assert_doubled(Duration::from_secs(seconds)).await;
    }
}

async fn assert_doubled(interval: Duration) {
    let strict = Behaviour::new(|mut conn| async move {
        conn.set_patience(None);
        conn.handshake().await?;
        let call = conn.next_call().await?;
        // Its manners answer the ping that is read here.
        loop {
            match conn.read_frame().await? {
                Some(frame) if frame.as_ping().is_some() && !frame.has(flag::ACK) => break,
                Some(_) => {}
                None => return Ok(()),
            }
        }
        conn.send_goaway(call.stream, code::ENHANCE_YOUR_CALM, "too_many_pings")
            .await?;
        conn.reply_ok(call.stream, b"").await?;
        conn.drain().await;
        Ok(())
    });
    let silent = Backend::new("silent")
        .answer(balancer_testpeer::Answer::Never)
        .manners(Manners::default());
    let script = Script::new().on_connection(1, strict).otherwise(silent);
    let server = Arc::new(Server::in_memory(script));
    let channel = piped(std::slice::from_ref(&server))
        .keepalive(interval, Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    let first = tokio::time::timeout(MINUTE, echo(&channel, text("first"))).await;
    first
        .expect("must end")
        .expect("it was below the last stream");
    let mut request = Request::new(text("second"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(5 * MINUTE);
    let status = echo(&channel, request).await.expect_err("no answer comes");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let journal = server.journal();
    let pings = &journal.connections[1].pings;
    let waits: Vec<_> = pings.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(!waits.is_empty(), "it must still ping: {pings:?}");
    for wait in waits {
        assert!(wait >= 2 * interval, "not sooner: {wait:?}");
    }
    end(channel, &server).await;
}

async fn end(channel: Channel, server: &Server) {
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
    server.until(|journal| journal.open() == 0).await;
}
