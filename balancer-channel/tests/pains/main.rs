//! The pains that bring users here, each over real sockets. The bars are exact; what a number may
//! be is said where it is asserted.
//!
//! `cargo xtask pains` runs the same scenarios beside tonic's own balanced channel and prints a
//! table.

mod contender;
#[path = "../support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;
mod load;
mod scenarios;
mod table;

use std::time::Duration;

use contender::Contender::Balancer;
use scenarios::REPLACEMENTS;
use tonic::{Code, Status};

/// Nothing that is said to happen at once takes this long, on a busy machine either.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The first back-off, 1 s, at its longest: gRPC's jitter is a fifth.
const FIRST_BACKOFF: Duration = Duration::from_millis(1_200);

/// What noticing a connection and answering over it may cost on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// grpc-rust#643, grpc-rust#2839: with tonic's own channel, one dead endpoint of eight fails every
/// tenth RPC, for ever.
#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_endpoint_fails_no_rpc_and_the_others_share_evenly() {
    let tally = scenarios::one_dead_of_eight(Balancer).await;
    assert_eq!(tally.failed.len(), 0, "no RPC may fail: {:?}", tally.failed);
    assert_eq!(tally.served.values().sum::<usize>(), 10_000, "none is lost");
    assert!(tally.is_even(7, 1), "must be even: {:?}", tally.served);
}

/// grpc-rust#1581: an idle channel does not look at its discovery, so that its first RPC goes to
/// endpoints that are long gone, and whoever feeds it hangs.
#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_replaced_while_idle_are_gone_for_the_first_rpc() {
    let replaced = scenarios::replaced_while_idle(Balancer).await;
    assert_eq!(
        replaced.taken, REPLACEMENTS,
        "must take every set without an RPC"
    );
    let first = replaced.first.expect("the newest set is up");
    assert_eq!(first, REPLACEMENTS.to_string(), "must go to the newest set");
}

/// A killed backend costs what was on its way there and nothing else; it is back in the rotation
/// within the back-off after its restart.
#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_fails_only_what_may_have_reached_it() {
    let killed = scenarios::one_killed_of_three(Balancer).await;
    assert!(
        killed.load.failed.len() <= killed.may_have_arrived,
        "{} RPCs failed, but only {} can have reached the dead server: {:?}",
        killed.load.failed.len(),
        killed.may_have_arrived,
        killed.load.failed
    );
    for (_, status) in &killed.load.failed {
        assert_eq!(status.code(), Code::Unavailable, "must say so: {status:?}");
    }
    assert!(
        killed.last_failure.is_none_or(|last| last < AT_ONCE),
        "must not go on failing: {:?} after the kill",
        killed.last_failure
    );
    assert!(
        killed.first_reply < FIRST_BACKOFF + SLACK,
        "must be back within the back-off: {:?}",
        killed.first_reply
    );
    assert_eq!(killed.after.failed.len(), 0, "all are up again");
    assert!(
        killed.after.is_even(3, 5),
        "must be even again: {:?}",
        killed.after.served
    );
}

/// With everything down, who does not want to wait is told at once, and why; who waits is served
/// as soon as one comes back.
#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn all_down_fails_fast_with_the_real_error_and_serves_who_waits() {
    let down = scenarios::all_down(Balancer).await;
    for (result, took) in [&down.from_the_start, &down.after_a_kill] {
        let status = result.as_ref().expect_err("nothing is up");
        assert_names_the_refusal(status);
        assert!(*took < AT_ONCE, "must fail at once, not after {took:?}");
    }
    let (result, took) = &down.waiting;
    let backend = result.as_ref().expect("must wait until one is back");
    assert_eq!(backend, "b2", "{} came back", down.who_came_back);
    assert!(
        *took < FIRST_BACKOFF + SLACK,
        "must be served within the back-off, not after {took:?}"
    );
}

/// A burst at the start does not all go to whoever connected first.
#[tokio::test(crate = "crate::harness", flavor = "multi_thread", worker_threads = 2)]
async fn a_warmed_up_burst_is_spread() {
    let tally = scenarios::burst_at_start(Balancer).await;
    assert_eq!(tally.failed.len(), 0, "no RPC may fail: {:?}", tally.failed);
    assert!(tally.is_even(8, 20), "must be spread: {:?}", tally.served);
}

/// The last real error: what the system said of the connection, and to whom.
fn assert_names_the_refusal(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let text = status.message();
    assert!(
        text.contains("refused") && text.contains("127.0.0.1:"),
        "must say who refused: {text}"
    );
}
