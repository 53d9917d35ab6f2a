//! `retryPolicy`: what is tried again, when, and how it looks to server and policy.

use std::time::Duration;

use balancer_api::Code as PolicyCode;
use balancer_channel::Channel;
use balancer_testpeer::{Answer, frame::code};
use tonic::{Code, IntoRequest, Request, Status};

use crate::{
    stage::{Stage, built, millis, pushing_back, unavailable},
    support::{Text, echo, text},
};

const POLICY: &str = r#""retryPolicy":{"maxAttempts":4,"initialBackoff":"1s","maxBackoff":"3s",
    "backoffMultiplier":3,"retryableStatusCodes":["UNAVAILABLE","ABORTED"]}"#;

async fn ask(channel: &Channel, request: impl IntoRequest<Text>) -> Result<String, Status> {
    let response = echo(channel, request).await?;
    Ok(response.into_inner().text)
}

/// Whether each wait is four to six fifths of its figure. The millisecond is the timer's.
fn assert_waits(waits: &[Duration], around: &[u64]) {
    assert_eq!(waits.len(), around.len(), "{waits:?}");
    for (wait, around) in waits.iter().zip(around) {
        let bounds = millis(around * 8 / 10)..=millis(around * 12 / 10 + 2);
        assert!(bounds.contains(wait), "{waits:?} must be around {around:?}");
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_failure_is_tried_again_elsewhere_with_growing_waits() {
    let stage = Stage::new([
        vec![unavailable(), unavailable(), Answer::Echo],
        vec![Answer::trailers_only(10, "lost a race")],
    ]);
    let channel = built(stage.builder(POLICY));
    let answer = ask(&channel, text("hello"))
        .await
        .expect("the fourth is served");
    assert_eq!(answer, "hello");

    let seen = stage.seen();
    let servers: Vec<_> = seen.iter().map(|seen| seen.server).collect();
    assert_eq!(servers, [0, 1, 0, 0], "avoids what was tried, while it can");
    let previous: Vec<_> = seen.iter().map(|seen| seen.previous.as_deref()).collect();
    assert_eq!(previous, [None, Some("1"), Some("2"), Some("3")]);
    let heard = stage.end(channel).await;
    assert_eq!(heard.picks, [(0, 0), (1, 1), (2, 2), (3, 2)]);
    assert_eq!(
        heard.dones,
        [
            PolicyCode::Unavailable,
            PolicyCode::Aborted,
            PolicyCode::Unavailable,
            PolicyCode::Ok
        ]
    );
    // The third would be 9 s, were there no greatest wait.
    assert_waits(&stage.waits(), &[1000, 3000, 3000]);
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_waits_are_drawn_anew_each_time() {
    let stage = Stage::new([vec![unavailable()]]);
    let channel = built(stage.builder(POLICY));
    let mut first_waits = Vec::new();
    for _ in 0..20 {
        let before = stage.seen().len();
        ask(&channel, text("x")).await.expect_err("never served");
        first_waits.push(stage.waits()[before]);
    }
    assert_waits(&first_waits, &[1000; 20]);
    let shortest = first_waits.iter().min().expect("twenty");
    let longest = first_waits.iter().max().expect("twenty");
    // Twenty draws within a quarter of the range: once in 10^10 runs.
    assert!(*longest - *shortest > millis(100), "{first_waits:?}");
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn attempts_come_to_an_end_and_the_last_failure_is_the_result() {
    for (asked, made) in [(2, 2), (5, 5), (9, 5)] {
        let answers = (1..=9).map(|n| Answer::trailers_only(14, &format!("failure {n}")));
        let stage = Stage::new([answers.collect::<Vec<_>>()]);
        let policy = POLICY.replace(r#""maxAttempts":4"#, &format!(r#""maxAttempts":{asked}"#));
        let channel = built(stage.builder(&policy));
        let status = ask(&channel, text("x")).await.expect_err("never served");
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            format!("failure {made}"),
            "asked for {asked}"
        );
        assert_eq!(stage.seen().len(), made);
        stage.end(channel).await;
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn some_failures_are_not_tried_again() {
    let headers_first = Answer::status(14, "after headers");
    let cases = [
        (Answer::trailers_only(5, "no such thing"), Code::NotFound, 1),
        // The application has seen the headers by then.
        (headers_first, Code::Unavailable, 1),
        (Answer::Reset(code::CANCEL), Code::Cancelled, 1),
        // A proxy's words for UNAVAILABLE; and no response at all can be tried again.
        (Answer::http_status(503), Code::Unavailable, 4),
        (Answer::Reset(code::REFUSED_STREAM), Code::Unavailable, 5),
    ];
    for (answer, code, made) in cases {
        let stage = Stage::new([vec![answer.clone()]]);
        let channel = built(stage.builder(POLICY));
        let status = ask(&channel, text("x")).await.expect_err("never served");
        assert_eq!(
            (status.code(), stage.seen().len()),
            (code, made),
            "{answer:?}"
        );
        let heard = stage.end(channel).await;
        assert_eq!(heard.dones.len(), made);
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn transparent_retries_are_not_counted() {
    let refused = Answer::Reset(code::REFUSED_STREAM);
    let stage = Stage::new([vec![refused, unavailable(), Answer::Echo]]);
    let twice = POLICY.replace(r#""maxAttempts":4"#, r#""maxAttempts":2"#);
    let channel = built(stage.builder(&twice));
    ask(&channel, text("x"))
        .await
        .expect("the second attempt is served");
    let previous: Vec<_> = stage.seen().into_iter().map(|seen| seen.previous).collect();
    assert_eq!(previous, [None, None, Some("1".to_owned())]);
    let heard = stage.end(channel).await;
    assert_eq!(heard.picks, [(0, 0), (1, 1), (2, 1)], "a policy counts all");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_server_may_set_the_wait_and_the_policys_waits_start_anew() {
    let stage = Stage::new([vec![
        unavailable(),
        pushing_back("7000"),
        unavailable(),
        Answer::Echo,
    ]]);
    let channel = built(stage.builder(POLICY));
    ask(&channel, text("x")).await.expect("served at last");
    let waits = stage.waits();
    assert_waits(&[waits[0], waits[2]], &[1000, 1000]);
    let pushed = waits[1];
    assert!(
        (millis(7000)..=millis(7002)).contains(&pushed),
        "{waits:?} must have no jitter"
    );
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_server_may_forbid_another_attempt() {
    for no in ["-1", "soon", "1.5"] {
        let stage = Stage::new([vec![pushing_back(no), Answer::Echo]]);
        let channel = built(stage.builder(POLICY));
        let status = ask(&channel, text("x"))
            .await
            .expect_err("no other attempt");
        assert_eq!(status.message(), "pushed back", "{no:?}");
        assert_eq!(stage.seen().len(), 1, "{no:?}");
        stage.end(channel).await;
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_deadline_spans_all_attempts() {
    let stage = Stage::new([vec![unavailable()]]);
    let channel = built(stage.builder(POLICY));
    let mut request = Request::new(text("x"));
    // Less than the two shortest waits.
    request.set_timeout(millis(2300));
    let started = tokio::time::Instant::now();
    let status = ask(&channel, request).await.expect_err("never served");
    let took = started.elapsed();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!((millis(2300)..millis(2310)).contains(&took), "{took:?}");
    let message = status.message();
    assert!(
        message.contains("before another attempt"),
        "{message:?} must say what it waited for"
    );
    assert!(
        message.contains("attempt 2 failed with"),
        "{message:?} must say what came before"
    );
    assert!(message.contains("not now"), "{message:?}");

    let seen = stage.seen();
    assert_eq!(seen.len(), 2, "the third would be too late");
    let left = seen[1].timeout.as_deref().expect("a timeout");
    let left: u64 = left.trim_end_matches('u').parse().expect("microseconds");
    assert!(
        (1_090_000..1_510_000).contains(&left),
        "{left} must be what is left"
    );
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_rpc_between_attempts_ends_with_the_channel_or_its_future() {
    let stage = Stage::new([vec![unavailable()]]);
    let channel = built(stage.builder(POLICY));
    let mut rpc = Box::pin(ask(&channel, text("x")));
    tokio::select! {
        _ = &mut rpc => panic!("it has waits before it"),
        () = tokio::time::sleep(millis(400)) => {}
    }
    assert_eq!(stage.seen().len(), 1);
    drop(rpc);
    tokio::time::sleep(millis(5000)).await;
    assert_eq!(stage.seen().len(), 1, "nobody wants another attempt");

    let rpc = ask(&channel, text("x"));
    let started = tokio::time::Instant::now();
    let close = async {
        tokio::time::sleep(millis(400)).await;
        channel.close().await;
    };
    let (result, ()) = tokio::join!(rpc, close);
    let status = result.expect_err("the channel is closed");
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    assert!(started.elapsed() < millis(500), "at once");
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_stream_of_requests_is_sent_from_its_start_again() {
    let stage = Stage::new([vec![unavailable().early(), Answer::Echo]]);
    let channel = built(stage.builder(POLICY));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    for word in ["one", "two"] {
        sender.send(text(word)).expect("wanted");
    }
    let words = crate::support::echo_stream(&channel, receiver);
    let later = async {
        // Before, between and after the attempts.
        tokio::time::sleep(millis(300)).await;
        sender.send(text("three")).expect("wanted");
        tokio::time::sleep(millis(2000)).await;
        sender.send(text("four")).expect("wanted");
        drop(sender);
    };
    let (words, ()) = tokio::join!(words, later);
    assert_eq!(words.expect("served"), ["one", "two", "three", "four"]);
    assert_eq!(stage.seen().len(), 2);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn what_a_policy_drops_is_not_tried_again() {
    let hedged = r#""hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"1s",
        "nonFatalStatusCodes":["UNAVAILABLE"]}"#;
    for method in [POLICY, hedged] {
        let stage = Stage::new([vec![Answer::Echo]]);
        let channel = built(stage.builder(method));
        stage.drop_rpcs();
        let status = ask(&channel, text("x")).await.expect_err("dropped");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "shed")
        );
        assert_eq!(stage.seen().len(), 0);
        let heard = stage.end(channel).await;
        assert_eq!(heard.drops, 1, "{method}");
    }
}
