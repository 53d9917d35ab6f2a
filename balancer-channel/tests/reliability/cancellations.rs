//! RPCs of every kind, dropped at random.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use balancer_channel::Channel;
use balancer_testpeer::Server;
use tokio::task::JoinSet;

use crate::{
    backends::{end, to},
    load::within,
    report::{Size, row},
    support::{
        Kind,
        counted::{self, Counts},
        cut::{Cut, Cutting},
        of_all_kinds, rpc, text,
    },
};

/// RPCs at a time.
const WIDTH: usize = 32;

/// RPCs of each kind whose polls are counted first.
const MEASURED: usize = 500;

#[derive(Default)]
struct Tally {
    cancelled: AtomicU64,
    ended: AtomicU64,
}

/// Row 6.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn at_random_polls() {
    let wanted = Size::asked().of(5_000, 100_000, 1_000_000);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut servers = Vec::new();
    for name in ["b0", "b1", "b2"] {
        let server = Server::start(of_all_kinds(name)).await;
        servers.push(server.expect("a free port"));
    }
    let counts = Arc::new(Counts::default());
    let channel = to(servers.iter().map(Server::addr))
        .policy(counts.policy())
        .default_service_config(counted::CONFIG)
        .build()
        .expect("a channel");

    let mut usual = Vec::new();
    for kind in Kind::ALL {
        for eager in [false, true] {
            usual.push((kind, eager, measure(&channel, kind, eager).await));
        }
    }
    println!("(kind, eager, polls) of RPCs that are left alone: {usual:?}");
    let (picks, sent) = (counts.picks(), counts.sent());

    let tally = Arc::new(Tally::default());
    let mut workers = JoinSet::new();
    for worker in 0..WIDTH as u64 {
        let random = fastrand::Rng::with_seed(seed ^ (worker << 32));
        let work = cancelling(
            channel.clone(),
            usual.clone(),
            random,
            tally.clone(),
            wanted,
        );
        workers.spawn(work);
    }
    while let Some(ended) = workers.join_next().await {
        ended.expect("an RPC must not panic");
    }
    let (cancelled, ended) = (
        tally.cancelled.load(Ordering::SeqCst),
        tally.ended.load(Ordering::SeqCst),
    );
    let sent = counts.sent() - sent - ended;
    // What was cancelled has left its connection, which serves as before.
    within("no stream may be left open", no_streams(&channel)).await;
    let last = rpc(&channel, Kind::Unary, &text("after all that")).await;
    last.expect("the channel must live on");
    end(channel).await;

    let picks = counts.picks() - picks;
    println!("{picks} picks, {ended} RPCs ended first");
    assert_eq!(counts.picks(), counts.dones(), "as many ends as picks");
    let off = counts.deviations();
    let measured = format!("{off} of {cancelled}, {sent} of them after HEADERS had left");
    row("6", measured, off == 0 && sent * 2 >= cancelled);
}

/// How many polls an RPC of this kind takes: what nine of ten do not exceed.
async fn measure(channel: &Channel, kind: Kind, eager: bool) -> usize {
    let cut = Cut {
        eager,
        ..Cut::NEVER
    };
    let mut rpcs = JoinSet::new();
    let mut polls = Vec::new();
    for _ in 0..MEASURED {
        let channel = channel.clone();
        rpcs.spawn(async move {
            let hello = text("hello");
            match cut.short(rpc(&channel, kind, &hello)).await {
                Cutting::Ended(result, polls) => {
                    result.expect("nobody cancels it");
                    polls
                }
                Cutting::Dropped => unreachable!("never"),
            }
        });
        if rpcs.len() == WIDTH {
            polls.extend(rpcs.join_next().await.map(|polls| polls.expect("no panic")));
        }
    }
    polls.extend(rpcs.join_all().await);
    polls.sort_unstable();
    polls[polls.len() * 9 / 10]
}

/// Makes RPCs until enough have been cancelled, of all workers together.
async fn cancelling(
    channel: Channel,
    usual: Vec<(Kind, bool, usize)>,
    mut random: fastrand::Rng,
    tally: Arc<Tally>,
    wanted: u64,
) {
    let hello = text("hello");
    while tally.cancelled.load(Ordering::Relaxed) < wanted {
        let (kind, eager, polls) = usual[random.usize(..usual.len())];
        let cut = Cut {
            polls: random.usize(..polls),
            woken: random.bool(),
            eager,
        };
        match cut.short(rpc(&channel, kind, &hello)).await {
            Cutting::Dropped => tally.cancelled.fetch_add(1, Ordering::Relaxed),
            Cutting::Ended(result, _) => {
                result.expect("nobody cancels it");
                tally.ended.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

async fn no_streams(channel: &Channel) {
    let open = || -> usize {
        let sub_conns = channel.snapshot().sub_conns;
        sub_conns.iter().map(|sub_conn| sub_conn.streams).sum()
    };
    while open() > 0 {
        tokio::task::yield_now().await;
    }
}
