//! A fleet under load whose members are drained, restarted, killed, or dead from the start.

use std::{sync::Arc, time::Duration};

use balancer_testpeer::{Backend, Refused, Relay, Server};
use tonic::Code;

use crate::{
    backends::{backends, end, impatient, to},
    child::Process,
    load::{Load, Pace, Tally, within},
    report::{Size, row},
    support::counted::{self, Counts},
};

/// What an answer takes: long enough for RPCs to be under way whatever happens to their server.
const WORK: Duration = Duration::from_millis(10);

/// Row 3.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn each_of_three_is_drained_again_and_again() {
    let times = Size::asked().of(3, 100, 100);
    let servers = backends(3, WORK).await;
    let tally = restarts(&servers, times).await;
    let measured = format!(
        "{} of {} failed, {} drains",
        tally.failed.len(),
        tally.begun,
        times * servers.len(),
    );
    println!("{}", tally.shown());
    row("3", measured, tally.failed.is_empty());
}

/// Row 4.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn ten_are_restarted_one_after_the_other() {
    let times = Size::asked().of(1, 5, 20);
    let servers = backends(10, WORK).await;
    let tally = restarts(&servers, times).await;
    let measured = format!(
        "{} of {} failed, {} rounds of 10",
        tally.failed.len(),
        tally.begun,
        times,
    );
    println!("{}", tally.shown());
    row("4", measured, tally.failed.is_empty());
}

/// Under 2,000 RPC/s each server in turn is drained as a good one is and comes back on its port.
async fn restarts(servers: &[Server], times: usize) -> Tally {
    let channel = to(servers.iter().map(Server::addr)).backoff(impatient());
    let channel = channel.build().expect("a channel");
    let load = Load::start(&channel, Pace::per_second(2_000));
    let all = servers.len();
    load.until("each backend must serve", |t| t.served.len() == all)
        .await;
    for _ in 0..times {
        for server in servers {
            server.drain().await;
            let connections = server.journal().accepted();
            server.restart().await.expect("the port is still ours");
            // Answers of before the drain may still be on their way: a new connection has to carry
            // an RPC before the next server is drained.
            let serves = server.until(|journal| {
                let new = &journal.connections[connections..];
                new.iter().any(|connection| !connection.streams.is_empty())
            });
            within("it must serve again", serves).await;
        }
    }
    let tally = load.finish().await;
    end(channel).await;
    assert_eq!(tally.ended(), tally.begun, "no RPC may be forgotten");
    tally
}

/// Rows 1 and 2.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn one_of_three_is_killed_again_and_again() {
    let size = Size::asked();
    let (kills, rate) = (size.of(3, 20, 20), size.of(1_000, 2_000, 5_000));
    // From one kill to the next: a million in all where it is asked for.
    let rpcs = size.of(2_000, 2_000, 50_000);
    let servers = [
        Server::start(Backend::new("b0")).await.expect("a port"),
        Server::start(Backend::new("b1")).await.expect("a port"),
    ];
    let mut victim = Process::start("b2", WORK).await;
    // It outlives the server, and knows what the client's socket took.
    let relay = Relay::to(victim.addr).await.expect("a free port");
    let addresses = [servers[0].addr(), servers[1].addr(), relay.addr()];
    let channel = to(addresses).backoff(impatient());
    let channel = channel.build().expect("a channel");
    let load = Load::start(&channel, Pace::per_second(rate));
    let (mut never_taken, mut too_many, mut lost) = (0, 0, 0);
    for _ in 0..kills {
        let before = load.tally();
        let seen = relay.streams().len();
        load.until("the victim must serve", |tally| {
            tally.by("b2") > before.by("b2") + 100
        })
        .await;
        relay.stop_listening().await;
        victim.kill().await;
        // What is under way ends soon: nothing here takes longer than `WORK`.
        load.until_more(rpcs).await;
        let after = load.tally();
        let failed = after.failed.len() - before.failed.len();
        // The connection took the HEADERS of so many RPCs whose answers never came.
        let answered = after.by("b2") - before.by("b2");
        let under_way = relay.streams().len() - seen - answered;
        println!("{answered} answered, {under_way} were under way, {failed} failed");
        never_taken += failed.saturating_sub(under_way);
        too_many += usize::from(failed > under_way);
        lost += failed;

        victim = Process::start("b2", WORK).await;
        relay.redirect(victim.addr);
        relay.start_listening().await.expect("still ours");
    }
    let tally = load.finish().await;
    end(channel).await;
    println!("{}", tally.shown());
    assert_eq!(tally.failed.len(), lost, "nothing fails but by a kill");
    let codes = tally.failed.iter().map(|failed| failed.status.code());
    assert!(codes.into_iter().all(|code| code == Code::Unavailable));
    let measured = format!("{never_taken} of {}, {kills} kills", tally.begun);
    let first = std::panic::catch_unwind(|| row("1", measured, never_taken == 0));
    let measured = format!("{lost} failed in {kills} kills, {too_many} times too many");
    row("2", measured, too_many == 0);
    first.expect("row 1");
}

/// Row 5.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn half_the_backends_are_dead() {
    let rpcs = Size::asked().of(5_000, 100_000, 1_000_000);
    let live = backends(4, Duration::ZERO).await;
    let dead = [(); 4].map(|()| Refused::new().expect("a free port"));
    let addresses = live.iter().zip(&dead);
    let addresses = addresses.flat_map(|(live, dead)| [live.addr(), dead.addr()]);
    let counts = Arc::new(Counts::default());
    let channel = to(addresses)
        .policy(counts.policy())
        .default_service_config(counted::CONFIG);
    let channel = channel.build().expect("a channel");
    let tally = Load::run(&channel, Pace::per_second(4_000), rpcs).await;
    end(channel).await;
    println!("{}", tally.shown());
    assert_eq!(counts.deviations(), 0, "each end is told once");
    let wasted = counts.picks() - counts.sent().min(rpcs as u64);
    let failed = tally.failed.len();
    let measured = format!("{wasted} / {failed} of {rpcs}");
    row("5", measured, wasted == 0 && failed == 0);
}
