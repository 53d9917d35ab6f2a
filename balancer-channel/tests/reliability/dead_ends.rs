//! Networks that end nowhere: a cable that is pulled, no route, no ports, no descriptors.
//!
//! Each happens to a child process, in network namespaces that end with it; nothing leaves the machine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{Backend, Server};
use tokio::{process::Command, time::Instant};
use tonic::{Code, Request};

use crate::{
    backends::{end, to},
    child::Process,
    report::{row, skip},
    support::{echo, starved, text},
};

/// Says in a child process what happens to it.
const PART: &str = "BALANCER_RELIABILITY_DEAD_END";

/// What a child says before what it has measured.
const MEASURED: &str = "measured: ";

/// In a network of the child's own.
const UNSHARE: &[&str] = &["unshare", "-rn", "sh", "-c"];

/// What the children are, below what they run, and what is done before.
const PARTS: [(&str, &[&str], &str); 4] = [
    ("half-open", UNSHARE, "ip link set lo up"),
    ("no route", UNSHARE, "ip link set lo up"),
    (
        "no ports",
        UNSHARE,
        "ip link set lo up && echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range",
    ),
    ("no descriptors", &["sh", "-c"], "ulimit -n 64"),
];

/// All that is needed of the machine.
const ABILITIES: &str = "ip link set lo up && ip link add va type veth peer name vb && \
    unshare -n true && test -w /proc/sys/net/ipv4/ip_local_port_range";

/// How long the kernel waits for acknowledgements, by default; and how long an attempt may take.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// The kernel looks when it sends again.
const KERNEL_SLACK: Duration = Duration::from_secs(2);

const KEEPALIVE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than any part takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

const HERE: &str = "10.77.0.1";
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const HERE_MAC: &str = "02:00:00:00:00:01";
const THERE_MAC: &str = "02:00:00:00:00:02";

/// Row 43.
#[tokio::test(crate = "crate::support::harness")]
#[ignore = "a row of cargo xtask reliability"]
async fn networks_that_end_nowhere() {
    let able = Command::new(UNSHARE[0])
        .args(&UNSHARE[1..])
        .arg(ABILITIES)
        .output()
        .await;
    let unable = match able {
        Err(error) => Some(format!("no unshare: {error}")),
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
    };
    if let Some(why) = unable {
        return skip("43", &format!("no network namespaces can be made: {why}"));
    }
    let children = PARTS.map(|(part, command, before)| child(part, command, before));
    let measured = futures_util::future::join_all(children).await;
    let failed = measured.iter().any(Result::is_err);
    let measured = measured.into_iter().map(|it| it.unwrap_or_else(|why| why));
    let measured: Vec<String> = measured.collect();
    row("43", measured.join("; "), !failed);
}

/// Runs a part in a child process: what it has measured, or what went wrong.
async fn child(part: &str, command: &[&str], before: &str) -> Result<String, String> {
    let script = format!("{before} && exec \"$0\" \"$@\"");
    let ran = Command::new(command[0])
        .args(&command[1..])
        .arg(script)
        .arg(std::env::current_exe().expect("the test's own program"))
        .args(["--exact", "dead_ends::a_part_of_row_43"])
        .args(["--ignored", "--nocapture"])
        .env(PART, part)
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(PATIENCE, ran).await;
    let ran = ran.map_err(|_| format!("{part}: no end within {PATIENCE:?}"))?;
    let ran = ran.map_err(|error| format!("{part}: {error}"))?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let measured = said.lines().find_map(|line| line.split_once(MEASURED));
    match measured {
        Some((_, measured)) if ran.status.success() => Ok(format!("{part}: {measured}")),
        _ => {
            println!("{part}: {said}{}", String::from_utf8_lossy(&ran.stderr));
            Err(format!("{part}: failed"))
        }
    }
}

/// Not a test: what the child processes run.
#[tokio::test(crate = "crate::support::harness")]
#[ignore = "started by row 43"]
async fn a_part_of_row_43() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let measured = match part.as_str() {
        "half-open" => half_open().await,
        "no route" => {
            no_route().await;
            "backed off, recovered".to_owned()
        }
        "no ports" => {
            starved::of_ports().await;
            "backed off, recovered".to_owned()
        }
        "no descriptors" => {
            starved::of_descriptors().await;
            "backed off, recovered".to_owned()
        }
        other => panic!("no part: {other}"),
    };
    println!("{MEASURED}{measured}");
}

/// Two networks and a cable. It is pulled while connections are up: nobody says goodbye.
async fn half_open() -> String {
    ip(&format!(
        "link add va address {HERE_MAC} type veth peer name vb address {THERE_MAC}"
    ))
    .await;
    // Known for good: a neighbour that is looked for in vain would be an error.
    let script = format!(
        "ip addr add {THERE}/24 dev vb && ip link set vb up && \
         ip neigh replace {HERE} lladdr {HERE_MAC} dev vb nud permanent"
    );
    let there = Process::start_beyond("there", IpAddr::V4(THERE), &script, async |pid| {
        ip(&format!("link set vb netns {pid}")).await;
        ip(&format!("addr add {HERE}/24 dev va")).await;
        ip("link set va up").await;
        ip(&format!(
            "neigh replace {THERE} lladdr {THERE_MAC} dev va nud permanent"
        ))
        .await;
    });
    let there = there.await;
    let by_default = to([there.addr]).build().expect("a channel");
    let with_pings = to([there.addr]).keepalive(KEEPALIVE, TIMEOUT, false);
    let with_pings = with_pings.build().expect("a channel");
    for channel in [&by_default, &with_pings] {
        echo(channel, text("hello")).await.expect("served");
    }

    cable(&there, "down").await;
    let (by_kernel, by_ping, in_vain) = tokio::join!(
        noticed(&by_default, "os error 110"),
        noticed(&with_pings, "keepalive ping timed out"),
        connected_in_vain(there.addr),
    );
    cable(&there, "up").await;
    for channel in [by_default, with_pings] {
        let mut request = Request::new(text("back again"));
        request.extensions_mut().insert(WaitForReady(true));
        request.set_timeout(Duration::from_secs(60));
        echo(&channel, request).await.expect("it recovers");
        end(channel).await;
    }
    let within = |took: Duration, least: Duration, slack: Duration| {
        assert!(took >= least, "{took:?} is less than {least:?}");
        assert!(took <= least + slack, "{took:?} is long after {least:?}");
    };
    within(by_kernel, GIVEN_UP, KERNEL_SLACK);
    within(by_ping, KEEPALIVE + TIMEOUT - SLACK, 2 * SLACK);
    within(in_vain, GIVEN_UP, SLACK);
    format!(
        "found after {:.1} s, with keepalive after {:.1} s, a new attempt ends after {:.1} s",
        by_kernel.as_secs_f64(),
        by_ping.as_secs_f64(),
        in_vain.as_secs_f64()
    )
}

/// How long an RPC without a deadline hangs.
async fn noticed(channel: &Channel, why: &str) -> Duration {
    let started = Instant::now();
    let status = echo(channel, text("is anybody there")).await;
    let status = status.expect_err("nobody answers");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains(why), "must say {why}: {status:?}");
    started.elapsed()
}

/// How long a new channel tries.
async fn connected_in_vain(addr: SocketAddr) -> Duration {
    let started = Instant::now();
    let channel = to([addr]).build().expect("a channel");
    let status = channel.connect().await.expect_err("nobody answers");
    let took = started.elapsed();
    assert!(status.message().contains("connect deadline"), "{status:?}");
    end(channel).await;
    took
}

/// The kernel says at once that there is no way.
async fn no_route() {
    let place = Ipv4Addr::new(127, 0, 0, 7);
    let server = Server::start_on(IpAddr::V4(place), Backend::new("good")).await;
    let server = server.expect("a port");
    let route = format!("unreachable {place}/32 table local");
    ip(&format!("route add {route}")).await;
    let release = || {
        let words = format!("route del {route}");
        let done = std::process::Command::new("ip")
            .args(words.split(' '))
            .status();
        assert!(done.expect("there is an ip").success(), "ip {words}");
    };
    starved::fails_then_recovers(&server, "os error 113", release).await;
}

/// The far end of the cable.
async fn cable(there: &Process, state: &str) {
    let pid = there.id().to_string();
    let done = Command::new("nsenter")
        .args(["-t", &pid, "-n", "ip", "link", "set", "vb", state])
        .status()
        .await;
    assert!(done.expect("there is an nsenter").success(), "vb {state}");
}

async fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().await;
    assert!(done.expect("there is an ip").success(), "ip {words}");
}
