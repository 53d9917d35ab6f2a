//! A bad peer beside a good one: it costs no RPC, and is not dialled more than the back-off allows.

use std::time::Duration;

use balancer_testpeer::{Answer, Backend, Behaviour, Server, faults, frame::code};
use tokio::time::Instant;

use crate::{
    backends::{end, to},
    load::{Load, Pace, Tally},
    report::row,
};

/// How long dials are counted.
const WATCHED: Duration = Duration::from_secs(5);

/// RPCs meanwhile.
const RPCS: usize = 2_000;

/// With exact back-off there are four: at 0, 1, 2.6 and 5.16 s, each ± 20 %.
const MOST_DIALS: usize = 5;

/// Row 40.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn a_peer_that_sends_settings_and_closes() {
    let (tally, dials) = beside_a_good_one(faults::settings_then_close()).await;
    judge("40", &tally, dials);
}

/// Row 41.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn a_peer_that_refuses_every_stream() {
    let refuses = Backend::new("bad").answer(Answer::Reset(code::REFUSED_STREAM));
    let (tally, dials) = beside_a_good_one(refuses).await;
    judge("41", &tally, dials);
}

fn judge(id: &str, tally: &Tally, dials: usize) {
    println!("{}", tally.shown());
    let failed = tally.failed.len();
    let measured = format!("{failed} of {} failed, {dials} dials in 5 s", tally.begun);
    let all = tally.ended() == RPCS;
    row(id, measured, all && failed == 0 && dials <= MOST_DIALS);
}

/// Makes the RPCs, and counts the dials of the bad peer's first 5 s.
async fn beside_a_good_one(bad: impl Into<Behaviour>) -> (Tally, usize) {
    let bad = Server::start(bad.into()).await.expect("a free port");
    let good = Server::start(Backend::new("good")).await;
    let good = good.expect("a free port");
    let channel = to([bad.addr(), good.addr()]).build().expect("a channel");
    channel.connect().await.expect("one of them is good");
    bad.until(|journal| journal.accepted() > 0).await;
    // A little slower than one in 2.5 ms, so that they are made while the dials are.
    let per_second = RPCS as u32 / (WATCHED.as_secs() as u32);
    let tally = Load::run(&channel, Pace::per_second(per_second), RPCS).await;
    let first = bad.journal().accept_times()[0];
    tokio::time::sleep_until(first + WATCHED).await;
    let times = bad.journal().accept_times();
    let dials = times.iter().filter(|at| **at <= first + WATCHED).count();
    println!("dials at {:?}", since(first, &times));
    end(channel).await;
    (tally, dials)
}

fn since(first: Instant, times: &[Instant]) -> Vec<Duration> {
    times.iter().map(|at| *at - first).collect()
}
