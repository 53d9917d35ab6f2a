//! Backends that are there and say nothing.

use std::time::{Duration, Instant};

use balancer_testpeer::{Backend, Server};
use tonic::Code;

use crate::{
    backends::{end, impatient, to},
    child::Process,
    load::{Load, Pace},
    report::row,
};

/// The shortest that gRPC allows.
const KEEPALIVE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(100);

/// Row 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a row of cargo xtask reliability"]
async fn a_stopped_process_is_given_up_by_keepalive() {
    let good = Server::start(Backend::new("good")).await.expect("a port");
    let stopped = Process::start("stopped", Duration::ZERO).await;
    let channel = to([good.addr(), stopped.addr])
        .keepalive(KEEPALIVE, TIMEOUT, false)
        .backoff(impatient());
    let channel = channel.build().expect("a channel");
    let load = Load::start(&channel, Pace::per_second(20));
    load.until("both must serve", |tally| tally.served.len() == 2)
        .await;
    let stopped_at = Instant::now();
    stopped.stop().await;
    load.until("what it was sent must fail", |tally| {
        !tally.failed.is_empty()
    })
    .await;
    let noticed = stopped_at.elapsed();
    load.until_more(100).await;
    stopped.resume().await;
    let before = load.tally().by("stopped");
    load.until("it must serve again", |tally| tally.by("stopped") > before)
        .await;
    let tally = load.finish().await;
    end(channel).await;

    println!("{}", tally.shown());
    let codes = tally.failed.iter().map(|failed| failed.status.code());
    assert!(codes.into_iter().all(|code| code == Code::Unavailable));
    let last = tally.failed.iter().map(|failed| failed.begun).max();
    let last = last.map_or(Duration::ZERO, |last| last.duration_since(stopped_at));
    let measured = format!(
        "last pick after {:.2} s, noticed after {:.2} s, {} RPCs failed",
        last.as_secs_f64(),
        noticed.as_secs_f64(),
        tally.failed.len(),
    );
    row("20", measured, last <= KEEPALIVE + TIMEOUT + SLACK);
}
