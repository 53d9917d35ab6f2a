//! Client health checking (gRFC A17) where peers end what they have just begun: the answer to a watch is
//! none to an RPC, and shows nobody that the peer serves.

use std::{sync::Arc, time::Duration};

use balancer_channel::WaitForReady;
use balancer_testpeer::{Behaviour, Script, Server, faults, frame::code};
use tonic::{Code, Request, Status};

use crate::support::{echo, pipes::piped, text};

const CHECKED: &str = r#"{
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "store"}
}"#;

/// In which an address that only fails is dialled nine times at most.
const MINUTE: Duration = Duration::from_secs(60);
const MOST_DIALS: usize = 9;

const SERVING: &[u8] = &[8, 1];
const NOT_SERVING: &[u8] = &[8, 2];

/// How an RPC ends that would wait for a minute, and how often the peer is dialled meanwhile.
async fn rpc_against(peer: Behaviour) -> (Result<(), Status>, usize) {
    // Silent after 300 connections, or a clock that only moves while all wait would stand still.
    let script = Script::new()
        .on_connections(1..=300, peer)
        .otherwise(faults::silence());
    let server = Arc::new(Server::in_memory(script));
    let channel = piped(std::slice::from_ref(&server))
        .default_service_config(CHECKED)
        .build()
        .expect("a channel");
    let mut request = Request::new(text("hello"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(MINUTE);
    let ended = echo(&channel, request).await.map(drop);
    let dials = server.journal().accepted();
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
    (ended, dials)
}

fn assert_backed_off((ended, dials): (Result<(), Status>, usize)) {
    let status = ended.expect_err("nobody serves");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!((2..=MOST_DIALS).contains(&dials), "dialled {dials} times");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_goaway_storm_behind_them_is_backed_off() {
    assert_backed_off(
        rpc_against(Behaviour::new(|mut conn| async move {
            conn.handshake().await?;
            let watch = conn.next_call().await?;
            conn.reply_trailers_only(watch.stream, 12, "no such service")
                .await?;
            conn.send_goaway(watch.stream, code::NO_ERROR, "go away")
                .await?;
            conn.drain().await;
            Ok(())
        }))
        .await,
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_backend_that_is_never_healthy_and_closes_is_backed_off() {
    for open_for in [Duration::ZERO, Duration::from_millis(1_500)] {
        assert_backed_off(
            rpc_against(Behaviour::new(move |mut conn| async move {
                conn.handshake().await?;
                let watch = conn.next_call().await?;
                conn.reply_ok(watch.stream, NOT_SERVING).await?;
                tokio::time::sleep(open_for).await;
                conn.close().await;
                Ok(())
            }))
            .await,
        );
    }
}

/// Headers for a stream that nobody has opened break the protocol, and are no answer.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_peer_that_answers_what_nobody_asked_is_backed_off() {
    assert_backed_off(
        rpc_against(Behaviour::new(|mut conn| async move {
            conn.handshake().await?;
            conn.next_call().await?;
            conn.reply_headers(41).await?;
            conn.drain().await;
            Ok(())
        }))
        .await,
    );
}

/// The answer to an RPC counts beside a watch: the next connection is made at once.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_answer_to_an_rpc_beside_them_counts() {
    let peer = Behaviour::new(|mut conn| async move {
        conn.handshake().await?;
        let watch = conn.next_call().await?;
        conn.reply_headers(watch.stream).await?;
        conn.reply_message(watch.stream, SERVING).await?;
        let rpc = conn.next_call().await?;
        conn.reply_ok(rpc.stream, b"").await?;
        conn.send_goaway(rpc.stream, code::NO_ERROR, "").await?;
        conn.close().await;
        Ok(())
    });
    let server = Arc::new(Server::in_memory(peer));
    let channel = piped(std::slice::from_ref(&server))
        .default_service_config(CHECKED)
        .build()
        .expect("a channel");
    let started = tokio::time::Instant::now();
    for _ in 0..50 {
        echo(&channel, text("hello")).await.expect("served");
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "no connection of fifty may wait for a back-off: {:?}",
        started.elapsed()
    );
    channel.close().await;
    // The last loss may have led to another one.
    assert!((50..=51).contains(&server.journal().accepted()));
}
