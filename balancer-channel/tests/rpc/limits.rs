//! How large messages may be, and what else a method config says.

use std::time::Duration;

use balancer_api::Code as PolicyCode;
use balancer_channel::{ChannelBuilder, WaitForReady};
use balancer_testpeer::Answer;
use tonic::{Code, Request, Status};

use crate::{
    stage::{Stage, built},
    support::{any_answer, echo, text},
};

/// What an echo of `bytes` ends with, and how many requests the server has seen of it. Field and
/// length take some bytes more: three here.
async fn echoed(
    bytes: usize,
    method: &str,
    limits: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Result<(), Status>, usize, Vec<PolicyCode>) {
    let stage = Stage::new([vec![Answer::Echo]]);
    let channel = built(limits(stage.builder(method)));
    let response = echo(&channel, text(&"x".repeat(bytes))).await;
    let heard = stage.end(channel).await;
    (response.map(drop), stage.seen().len(), heard.dones)
}

fn assert_exhausted(result: Result<(), Status>, message: &str) {
    let status = result.expect_err("too large");
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, message)
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_request_that_is_too_large_is_not_sent() {
    let config = r#""maxRequestMessageBytes":203"#;
    let (result, sent, _) = echoed(200, config, |builder| builder).await;
    result.expect("just within");
    assert_eq!(sent, 1);

    let (result, sent, dones) = echoed(201, config, |builder| builder).await;
    assert_exhausted(result, "a request message of 204 bytes; the limit is 203");
    assert_eq!(sent, 0);
    assert_eq!(dones, [PolicyCode::ResourceExhausted]);

    // Not even where the policy would have it tried again.
    let retried = format!(
        r#"{config},"retryPolicy":{{"maxAttempts":3,"initialBackoff":"1s","maxBackoff":"1s",
        "backoffMultiplier":1,"retryableStatusCodes":["RESOURCE_EXHAUSTED"]}}"#
    );
    let (result, sent, dones) = echoed(201, &retried, |builder| builder).await;
    assert_exhausted(result, "a request message of 204 bytes; the limit is 203");
    assert_eq!((sent, dones.len()), (0, 1));
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_response_that_is_too_large_ends_its_rpc() {
    let config = r#""maxResponseMessageBytes":203"#;
    let (result, ..) = echoed(200, config, |builder| builder).await;
    result.expect("just within");
    let (result, sent, dones) = echoed(201, config, |builder| builder).await;
    assert_exhausted(result, "a response message of 204 bytes; the limit is 203");
    assert_eq!(sent, 1);
    assert_eq!(dones, [PolicyCode::ResourceExhausted]);
}

/// Without a word from application or config; and neither a config nor a client may say more than the
/// application has.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_response_message_has_at_most_4_mib_unless_the_application_says_otherwise() {
    const MOST: usize = 4 << 20;
    for (bytes, allowed, config, limit) in [
        (MOST, None, "", None),
        (MOST + 1, None, "", Some(MOST)),
        (
            MOST + 1,
            None,
            r#""maxResponseMessageBytes":9000000"#,
            Some(MOST),
        ),
        (
            MOST,
            None,
            r#""maxResponseMessageBytes":4000000"#,
            Some(4_000_000),
        ),
        (MOST + 1, Some(5 << 20), "", None),
        ((5 << 20) + 1, Some(5 << 20), "", Some(5 << 20)),
        (6 << 20, Some(u32::MAX), "", None),
    ] {
        let stage = Stage::new([vec![Answer::ok(vec![0; bytes])]]);
        let config = match config {
            "" => r#""waitForReady":true"#,
            config => config,
        };
        let mut builder = stage.builder(config);
        if let Some(allowed) = allowed {
            builder = builder.max_response_message_bytes(allowed);
        }
        let channel = built(builder);
        let answer = any_answer(&channel).await;
        match limit {
            None => assert_eq!(answer.expect("within").len(), bytes + 5),
            Some(limit) => assert_exhausted(
                answer.map(drop),
                &format!("a response message of {bytes} bytes; the limit is {limit}"),
            ),
        }
        stage.end(channel).await;
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_smaller_limit_counts() {
    let config = r#""maxRequestMessageBytes":1000,"maxResponseMessageBytes":1000"#;
    let less = |builder: ChannelBuilder| builder.max_request_message_bytes(100);
    let (result, ..) = echoed(500, config, less).await;
    assert_exhausted(result, "a request message of 503 bytes; the limit is 100");
    let less = |builder: ChannelBuilder| builder.max_response_message_bytes(100);
    let (result, ..) = echoed(500, config, less).await;
    assert_exhausted(result, "a response message of 503 bytes; the limit is 100");
    let more = |builder: ChannelBuilder| {
        builder
            .max_request_message_bytes(5000)
            .max_response_message_bytes(5000)
    };
    let (result, ..) = echoed(1500, config, more).await;
    assert_exhausted(result, "a request message of 1503 bytes; the limit is 1000");
    let (result, ..) = echoed(500, config, more).await;
    result.expect("within both");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_limit_of_nothing_lets_empty_messages_pass() {
    let config = r#""maxRequestMessageBytes":0,"maxResponseMessageBytes":0"#;
    let (result, ..) = echoed(0, config, |builder| builder).await;
    result.expect("empty");
    let (result, ..) = echoed(1, config, |builder| builder).await;
    assert_exhausted(result, "a request message of 3 bytes; the limit is 0");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_shorter_timeout_counts() {
    for (asked, configured, counts) in [(100, 300, 100), (300, 100, 100)] {
        let stage = Stage::new([vec![Answer::Never]]);
        let channel = built(stage.builder(&format!(r#""timeout":"0.{configured}s""#)));
        let mut request = Request::new(text("x"));
        request.set_timeout(Duration::from_millis(asked));
        let started = tokio::time::Instant::now();
        let status = echo(&channel, request).await.expect_err("nobody answers");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let took = started.elapsed().as_millis();
        assert!(
            (counts..counts + 3).contains(&took),
            "{took} ms must be {counts}"
        );
        stage.end(channel).await;
    }
}

/// Not even where somebody could take it at once, nor when somebody comes who can.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_rpc_whose_time_is_over_is_never_picked_for() {
    let stage = Stage::new([vec![Answer::Echo]]);
    let late = || {
        let mut request = Request::new(text("too late"));
        request.set_timeout(Duration::ZERO);
        request.extensions_mut().insert(WaitForReady(true));
        request
    };
    let channel = built(stage.builder(r#""timeout":"100s""#));
    let status = echo(&channel, late()).await.expect_err("while it sleeps");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    channel.connect().await.expect("connected");
    let status = echo(&channel, late()).await.expect_err("while it is well");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let heard = stage.end(channel).await;
    assert_eq!((heard.picks.len(), stage.seen().len()), (0, 0));
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_deadline_says_that_it_waited_for_a_stream() {
    let stage = Stage::narrow(0);
    let channel = built(stage.builder(r#""timeout":"0.1s""#));
    let status = echo(&channel, text("x"))
        .await
        .expect_err("no stream is allowed");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "the deadline passed while waiting for a stream: 10.0.0.0:1 allows no more at a time"
    );
    let heard = stage.end(channel).await;
    assert_eq!(heard.dones, [PolicyCode::DeadlineExceeded]);
}
