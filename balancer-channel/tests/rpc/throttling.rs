//! `retryThrottling`: when servers fail too often there are no further attempts.

use balancer_api::Endpoint;
use balancer_channel::{ManualResolver, Resolution};
use balancer_testpeer::Answer;

use crate::{
    stage::{Stage, built, unavailable},
    support::{echo, text},
};

const METHODS: &str = r#""methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,
    "initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1,
    "retryableStatusCodes":["UNAVAILABLE"]}}]"#;

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn no_attempt_is_made_below_half_of_the_tokens() {
    let answers = [
        vec![unavailable(); 3],
        vec![Answer::Echo; 3],
        vec![unavailable()],
    ]
    .concat();
    let stage = Stage::new([answers]);
    let throttling = r#""retryThrottling":{"maxTokens":6,"tokenRatio":0.5}"#;
    let channel = built(stage.builder_with(&format!("{METHODS},{throttling}")));
    let rpc = || echo(&channel, text("x"));
    rpc().await.expect_err("three failures leave half");
    assert_eq!(stage.seen().len(), 3);
    for _ in 0..3 {
        rpc().await.expect("served");
    }
    // 4.5 tokens: after one more failure it is 3.5, and after another no more than half.
    rpc().await.expect_err("fails");
    assert_eq!(stage.seen().len(), 6 + 2);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_wish_for_no_more_attempts_is_a_failure_too() {
    let no = [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "5"),
        ("grpc-retry-pushback-ms", "-1"),
    ];
    let no: Answer = balancer_testpeer::Response::new().trailers(no).into();
    let stage = Stage::new([vec![no, unavailable()]]);
    let throttling = r#""retryThrottling":{"maxTokens":4,"tokenRatio":1}"#;
    let channel = built(stage.builder_with(&format!("{METHODS},{throttling}")));
    echo(&channel, text("x")).await.expect_err("fails");
    echo(&channel, text("x")).await.expect_err("fails");
    assert_eq!(
        stage.seen().len(),
        2,
        "1 of 4 tokens went, and then another"
    );
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_count_outlives_a_config_that_says_the_same() {
    let stage = Stage::new([vec![unavailable()]]);
    let config = |throttling: &str, timeout: u32| {
        let methods = METHODS.replace(r#""name""#, &format!(r#""timeout":"{timeout}s","name""#));
        format!(r#"{{"loadBalancingConfig":[{{"listening":{{}}}}],{methods},{throttling}}}"#)
    };
    let resolution = |json: String| {
        Resolution::new([Endpoint::new([balancer_api::Address::new("10.0.0.0:1")])])
            .with_service_config(json)
    };
    let few = r#""retryThrottling":{"maxTokens":4,"tokenRatio":0.1}"#;
    let resolver = ManualResolver::silent();
    resolver.update(Ok(resolution(config(few, 60))));
    let channel = built(
        stage
            .builder(r#""waitForReady":true"#)
            .resolver(resolver.clone()),
    );
    let rpc = || async {
        let before = stage.seen().len();
        echo(&channel, text("x")).await.expect_err("fails");
        stage.seen().len() - before
    };
    assert_eq!(rpc().await, 2);
    assert_eq!(rpc().await, 1, "throttled");

    for (throttling, timeout, attempts) in [
        (few, 61, 1),
        (
            r#""retryThrottling":{"maxTokens":4,"tokenRatio":0.2}"#,
            62,
            2,
        ),
    ] {
        let json = config(throttling, timeout);
        resolver.update(Ok(resolution(json.clone())));
        // On one thread: the turn that takes a config over publishes it, too.
        while channel.snapshot().service_config.as_deref() != Some(json.as_str()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(rpc().await, attempts, "{throttling}");
    }
    stage.end(channel).await;
}
