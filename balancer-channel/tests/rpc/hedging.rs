//! `hedgingPolicy`: attempts side by side, of which one wins.

use std::time::Duration;

use balancer_api::Code as PolicyCode;
use balancer_channel::Channel;
use balancer_testpeer::Answer;
use tonic::{Code, IntoRequest, Request, Response, Status};

use crate::{
    stage::{Stage, built, millis, pushing_back, unavailable},
    support::{Text, text},
};

/// Longer than anything here takes: a hang must fail.
const PATIENCE: Duration = Duration::from_secs(60);

async fn echo(
    channel: &Channel,
    request: impl IntoRequest<Text>,
) -> Result<Response<Text>, Status> {
    let rpc = crate::support::echo(channel, request);
    let ended = tokio::time::timeout(PATIENCE, rpc).await;
    ended.expect("must end")
}

const THREE: &str = r#""hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"0.1s",
    "nonFatalStatusCodes":["UNAVAILABLE","ABORTED"]}"#;

/// When each request came after the first, in milliseconds.
fn times(stage: &Stage) -> Vec<u128> {
    let seen = stage.seen();
    let first = seen[0].at;
    seen.iter()
        .map(|seen| (seen.at - first).as_millis())
        .collect()
}

/// Whether times are as expected, but for the millisecond of the timer.
fn assert_times(stage: &Stage, expected: &[u128]) {
    let times = times(stage);
    let close = |(time, wanted): (&u128, &u128)| (*wanted..=wanted + 3).contains(time);
    assert!(
        times.len() == expected.len() && times.iter().zip(expected).all(close),
        "{times:?} must be {expected:?}"
    );
}

/// Waits until the attempt at this server has been cancelled.
async fn was_reset(stage: &Stage, server: usize) {
    let reset = stage.servers[server].until(|journal| journal.resets() == 1);
    let reset = tokio::time::timeout(PATIENCE, reset).await;
    reset.unwrap_or_else(|_| panic!("server {server} must hear of it"));
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_first_answer_wins_and_the_others_are_cancelled() {
    let stage = Stage::new([
        vec![Answer::Never],
        vec![Answer::Echo.after(millis(220))],
        vec![Answer::Echo.after(millis(500))],
    ]);
    let channel = built(stage.builder(THREE));
    let response = echo(&channel, text("hello"))
        .await
        .expect("the second answers");
    assert_eq!(crate::support::backend(&response), "1");
    assert_times(&stage, &[0, 100, 200]);
    let previous: Vec<_> = stage.seen().into_iter().map(|seen| seen.previous).collect();
    assert_eq!(previous, [None, Some("1".to_owned()), Some("2".to_owned())]);

    for loser in [0, 2] {
        was_reset(&stage, loser).await;
    }
    let heard = stage.end(channel).await;
    assert_eq!(
        heard.picks,
        [(0, 0), (1, 1), (2, 2)],
        "each avoids the others"
    );
    let mut dones = heard.dones;
    dones.sort();
    assert_eq!(
        dones,
        [PolicyCode::Ok, PolicyCode::Cancelled, PolicyCode::Cancelled]
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_answer_in_time_needs_no_hedge() {
    let stage = Stage::new([vec![Answer::Echo.after(millis(50))]]);
    let channel = built(stage.builder(THREE));
    echo(&channel, text("x")).await.expect("served");
    tokio::time::sleep(millis(1000)).await;
    assert_eq!(stage.seen().len(), 1);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn without_a_delay_all_are_sent_at_once() {
    let stage = Stage::new([vec![Answer::Never], vec![Answer::Never], vec![Answer::Echo]]);
    let at_once = THREE.replace("0.1s", "0s");
    let channel = built(stage.builder(&at_once));
    echo(&channel, text("x")).await.expect("served");
    assert_times(&stage, &[0, 0, 0]);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_failure_that_is_not_fatal_sends_the_next_at_once() {
    let stage = Stage::new([
        vec![unavailable().after(millis(30))],
        vec![Answer::trailers_only(10, "lost a race")],
        vec![Answer::Echo.after(millis(5))],
    ]);
    let channel = built(stage.builder(THREE));
    echo(&channel, text("x"))
        .await
        .expect("the third is served");
    assert_times(&stage, &[0, 30, 30]);
    let heard = stage.end(channel).await;
    assert_eq!(
        heard.dones,
        [PolicyCode::Unavailable, PolicyCode::Aborted, PolicyCode::Ok]
    );
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_last_failure_is_the_result_when_all_fail() {
    let stage = Stage::new([
        vec![Answer::trailers_only(14, "slow to fail").after(millis(300))],
        vec![Answer::trailers_only(14, "fails")],
        vec![Answer::trailers_only(14, "fails, too")],
    ]);
    let channel = built(stage.builder(THREE));
    let status = echo(&channel, text("x")).await.expect_err("nobody serves");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "slow to fail")
    );
    assert_times(&stage, &[0, 100, 100]);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_fatal_failure_is_the_result_at_once() {
    let stage = Stage::new([
        vec![Answer::Never],
        vec![Answer::trailers_only(5, "no such thing")],
    ]);
    let channel = built(stage.builder(THREE));
    let status = echo(&channel, text("x")).await.expect_err("fatal");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "no such thing")
    );
    assert_times(&stage, &[0, 100]);
    was_reset(&stage, 0).await;
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_server_may_put_the_next_attempt_off_or_forbid_it() {
    let stage = Stage::new([vec![pushing_back("1700")], vec![Answer::Echo]]);
    let channel = built(stage.builder(THREE));
    echo(&channel, text("x")).await.expect("served");
    assert_times(&stage, &[0, 1700]);
    stage.end(channel).await;

    let stage = Stage::new([
        vec![Answer::Echo.after(millis(400))],
        vec![pushing_back("-1")],
    ]);
    let channel = built(stage.builder(THREE));
    let response = echo(&channel, text("x")).await.expect("the first goes on");
    assert_eq!(crate::support::backend(&response), "0");
    assert_times(&stage, &[0, 100]);
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn hedges_are_throttled() {
    let answers = vec![
        unavailable(),
        unavailable(),
        Answer::Echo.after(millis(500)),
    ];
    let stage = Stage::new([answers]);
    let channel = built(stage.builder_with(&format!(
        r#""methodConfig":[{{"name":[{{}}],{THREE}}}],
        "retryThrottling":{{"maxTokens":4,"tokenRatio":0.1}}"#
    )));
    echo(&channel, text("x"))
        .await
        .expect_err("two failures leave half of the tokens");
    assert_eq!(stage.seen().len(), 2);
    echo(&channel, text("x")).await.expect("slow, but served");
    assert_eq!(stage.seen().len(), 3, "no hedge beside the slow one");
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_request_too_large_to_remember_goes_on_once() {
    let stage = Stage::new([vec![Answer::Never], vec![Answer::Echo]]);
    let channel = built(stage.builder(THREE).replay_buffer(100, 1 << 20));
    let mut request = Request::new(text(&"x".repeat(200)));
    request.set_timeout(millis(1000));
    let status = echo(&channel, request)
        .await
        .expect_err("the only attempt hangs");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(stage.seen().len(), 1);
    let heard = stage.end(channel).await;
    assert_eq!(heard.dones, [PolicyCode::DeadlineExceeded]);
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_stream_of_requests_reaches_every_attempt() {
    let stage = Stage::new([vec![Answer::Never], vec![Answer::Echo]]);
    let channel = built(stage.builder(THREE));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    sender.send(text("one")).expect("wanted");
    let words = crate::support::echo_stream(&channel, receiver);
    let later = async {
        tokio::time::sleep(millis(50)).await;
        sender.send(text("two")).expect("wanted");
        tokio::time::sleep(millis(500)).await;
        sender.send(text("three")).expect("wanted");
        drop(sender);
    };
    let both = async { tokio::join!(words, later) };
    let ended = tokio::time::timeout(PATIENCE, both).await;
    let (words, ()) = ended.expect("must end");
    assert_eq!(words.expect("served"), ["one", "two", "three"]);
    assert_eq!(
        stage.seen().len(),
        2,
        "the winner is known before the third"
    );
    stage.end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_dropped_rpc_ends_all_its_attempts() {
    let stage = Stage::new([
        vec![Answer::Never],
        vec![Answer::Never],
        vec![Answer::Never],
    ]);
    let channel = built(stage.builder(THREE));
    tokio::select! {
        _ = echo(&channel, text("x")) => panic!("nobody answers"),
        () = tokio::time::sleep(millis(150)) => {}
    }
    for server in [0, 1] {
        was_reset(&stage, server).await;
    }
    tokio::time::sleep(millis(1000)).await;
    assert_eq!(stage.seen().len(), 2, "nobody wants a third");
    let heard = stage.end(channel).await;
    assert_eq!(heard.dones, [PolicyCode::Cancelled; 2]);
}
