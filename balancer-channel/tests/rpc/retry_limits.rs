//! How much of a request is remembered for further attempts.

use balancer_channel::ChannelBuilder;
use balancer_testpeer::Answer;
use tonic::Code;

use crate::{
    stage::{Stage, built, unavailable},
    support::{echo, text},
};

const POLICY: &str = r#""retryPolicy":{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s",
    "backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}"#;

/// How often a request of `bytes` is sent that fails the first time.
async fn sent(bytes: usize, limits: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> usize {
    let stage = Stage::new([vec![Answer::trailers_only(14, "not now"), Answer::Echo]]);
    let channel = built(limits(stage.builder(POLICY)));
    match echo(&channel, text(&"x".repeat(bytes))).await {
        Ok(response) => assert_eq!(response.into_inner().text.len(), bytes),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
    }
    stage.end(channel).await;
    stage.seen().len()
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_request_that_is_too_large_to_remember_is_sent_once() {
    assert_eq!(sent(250_000, |builder| builder).await, 2);
    assert_eq!(sent(270_000, |builder| builder).await, 1);
    let more = |builder: ChannelBuilder| builder.replay_buffer(300_000, 16 << 20);
    assert_eq!(
        sent(270_000, more).await,
        2,
        "it is for the application to say"
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn all_requests_of_a_channel_have_a_limit_together() {
    let little = |builder: ChannelBuilder| builder.replay_buffer(1 << 20, 40_000);
    assert_eq!(sent(39_000, little).await, 2);
    assert_eq!(sent(41_000, little).await, 1);

    // Three of 15,000 bytes are not counted; of two with 30,000 the second has no room.
    let stage = Stage::new([vec![Answer::trailers_only(14, "not now")]]);
    let channel = built(stage.builder(POLICY).replay_buffer(1 << 20, 40_000));
    let small = text(&"x".repeat(15_000));
    let rpc = |text| echo(&channel, text);
    let _ = tokio::join!(rpc(small.clone()), rpc(small.clone()), rpc(small));
    assert_eq!(stage.seen().len(), 6);
    let large = text(&"x".repeat(30_000));
    let _ = tokio::join!(rpc(large.clone()), rpc(large.clone()));
    assert_eq!(stage.seen().len(), 6 + 3);
    let _ = rpc(large).await;
    assert_eq!(stage.seen().len(), 9 + 2, "what was taken is given back");
    stage.end(channel).await;
}

/// The application wants none: what the config says of them does not count, the transparent ones do.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_application_may_do_without() {
    let policies = [
        r#""retryPolicy":{"maxAttempts":3,"initialBackoff":"1s","maxBackoff":"1s",
            "backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}"#,
        r#""hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"0s",
            "nonFatalStatusCodes":["UNAVAILABLE"]}"#,
    ];
    for policy in policies {
        let refused = Answer::Reset(balancer_testpeer::frame::code::REFUSED_STREAM);
        let stage = Stage::new([vec![refused, unavailable()]]);
        let channel = built(stage.builder(policy).retries(false));
        echo(&channel, text("x")).await.expect_err("it is busy");
        let previous = stage.seen().into_iter().map(|seen| seen.previous);
        assert_eq!(previous.collect::<Vec<_>>(), [None, None]);
        stage.end(channel).await;
    }
}
