//! Backends that are there and say nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use balancer_channel::Channel;
use balancer_testpeer::{Backend, Blackhole, Server};
use tonic::Code;

use crate::{
    backends::{ROUND_ROBIN, backends, end, impatient, to},
    child::Process,
    load::{Load, Pace},
    report::{Size, row},
};

/// The shortest that gRPC allows.
const KEEPALIVE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(100);

/// A tail that nobody minds on a busy machine.
const NEXT_TO_NOTHING: Duration = Duration::from_millis(10);

/// Row 20.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
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

/// Row 19.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn one_of_three_swallows_everything() {
    let seconds = Size::asked().of(3, 20, 60);
    let servers = backends(3, Duration::ZERO).await;
    let hole = Blackhole::new().expect("a free port");
    let good = [servers[0].addr(), servers[1].addr()];
    let (healthy, with) = (
        [good[0], good[1], servers[2].addr()],
        [good[0], hole.addr(), good[1]],
    );
    // At the same time: what the machine does meanwhile is done to both.
    let (healthy, with) = tokio::join!(tail(&healthy, seconds), tail(&with, seconds));
    // Twice next to nothing is next to nothing too.
    let bound = (2 * healthy).max(NEXT_TO_NOTHING);
    let measured = format!("{with:.1?}, without {healthy:.1?}, {seconds} s each");
    row("19", measured, with <= bound);
}

/// What 99.9 % of RPCs do not take longer than; none may fail. Default settings: the first RPCs are
/// not held until everybody has been tried.
async fn tail(addresses: &[SocketAddr], seconds: usize) -> Duration {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let channel = Channel::builder(format!("ipv4:{}", list.join(",")))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .build()
        .expect("a channel");
    let mut tally = Load::run(&channel, Pace::per_second(500), 500 * seconds).await;
    end(channel).await;
    assert_eq!(tally.failed.len(), 0, "{}", tally.shown());
    tally.took.sort_unstable();
    tally.took[tally.took.len() * 999 / 1000]
}
