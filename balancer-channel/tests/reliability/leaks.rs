//! What is left of channels that are gone.

use std::{fs, time::Duration};

use balancer_channel::Channel;
use balancer_testpeer::Server;

use crate::{
    load::within,
    report::{Size, row, skip},
    support::{Kind, cut::Cut, of_all_kinds, rpc, text},
};

/// Row 8.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn of_a_thousand_channels() {
    if !fs::exists("/proc/self/status").is_ok_and(|exists| exists) {
        return skip("8", "descriptors and memory are counted by Linux only");
    }
    let channels = Size::asked().of(100, 1_000, 1_000);
    let hello = text("hello");
    // What is allocated once, by the runtime, the allocator and the servers' first connections.
    for n in 0..channels.min(200) {
        one(n, &hello).await;
    }
    let before = (descriptors(), tasks(), resident());
    for n in 0..channels {
        one(n, &hello).await;
    }
    let settled = async {
        while descriptors() > before.0 || tasks() > before.1 {
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), settled).await;
    let fds = descriptors().saturating_sub(before.0);
    let tasks = tasks().saturating_sub(before.1);
    let kib = resident().saturating_sub(before.2) / 1024;
    let measured = format!("{fds} / {tasks} / {kib} KiB, of {channels} channels");
    row("8", measured, fds == 0 && tasks == 0 && kib <= 1024);
}

/// Opens a channel to a server of its own, calls, and closes or abandons it in one of four ways.
async fn one(n: usize, hello: &crate::support::Text) {
    let server: Server = Server::start(of_all_kinds("one")).await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr())).plaintext();
    let channel = channel.build().expect("a channel");
    let kind = Kind::ALL[n % 4];
    rpc(&channel, kind, hello).await.expect("served");
    match n / 4 % 4 {
        0 => channel.close().await,
        1 => drop(channel),
        ways => {
            // In the middle of an RPC.
            let cut = Cut {
                polls: 1,
                woken: ways == 2,
                eager: false,
            };
            let _ = cut.short(rpc(&channel, kind, hello)).await;
            drop(channel);
        }
    }
    let closed = server.until(|journal| journal.open() == 0);
    within("its connection must be closed", closed).await;
}

pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}
