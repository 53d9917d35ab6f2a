//! The log: why nothing connects, who said goodbye, what RPCs wait for; and nothing of what goes well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use balancer_api::Endpoint;
use balancer_channel::{Channel, ManualResolver, Resolution, WaitForReady};
use balancer_testpeer::{Answer, Backend, Ending, Manners, Peer, Refused, Server, frame::code};
use tonic::Request;
use tracing::Level;

use crate::{
    scribe::Log,
    support::{echo, pipes::piped, text},
};

/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.expect("must not hang")
}

#[tokio::test(crate = "crate::support::harness")]
async fn why_nothing_connects() {
    let log = Log::of(Level::INFO);
    let nobody = Refused::new().expect("a port");
    let target = format!("ipv4:{}", nobody.addr());
    let channel = Channel::builder(&target).plaintext().build();
    let channel = channel.expect("a channel");
    within(channel.connect()).await.expect_err("refused");
    let words = ["SubConn state", "TRANSIENT_FAILURE", "refused", "os error"];
    let line = log.line(&words);
    // What it says of the target would not do: it is on every line.
    let place = format!("UNAVAILABLE: {}: ", nobody.addr());
    assert!(line.starts_with("INFO [channel"), "{line}");
    assert!(line.contains(&format!("target_name={target}")), "{line}");
    assert!(line.contains(&place), "{line}");
    within(channel.close()).await;
}

/// Each attempt, also where another address is tried next, and also where it succeeds.
#[tokio::test(crate = "crate::support::harness")]
async fn every_attempt_to_connect() {
    let log = Log::of(Level::DEBUG);
    let nobody = Refused::new().expect("a port").addr();
    let server = Server::start(Backend::new("a")).await.expect("a port");
    let target = format!("ipv4:{nobody},{}", server.addr());
    let channel = Channel::builder(target).plaintext().build();
    let channel = channel.expect("a channel");
    within(echo(&channel, text("hello"))).await.expect("served");
    // The target, with all addresses, is on every line.
    let [failed, ready] = [nobody, server.addr()].map(|it| format!("address={it}"));
    log.line(&["an attempt to connect failed", &failed, "refused"]);
    log.line(&["SubConn state", "READY", &ready]);
    log.line(&["channel state", "READY"]);
    log.line(&["the resolver answered", "endpoints=2"]);
    within(channel.close()).await;
}

/// With its code, and what it says: escaped and cut, since a peer can write what it likes.
#[tokio::test(crate = "crate::support::harness")]
async fn a_goodbye() {
    let log = Log::of(Level::INFO);
    let mut peer = Peer::listen().await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", peer.addr())).plaintext();
    let channel = channel.build().expect("a channel");
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        conn
    };
    let (connected, mut conn) = tokio::join!(within(channel.connect()), server);
    connected.expect("connected");
    let ready = balancer_api::ConnectivityState::Ready;
    let text = format!("\x1b[31mred\n{}", "x".repeat(10_000));
    conn.send_goaway(0, code::ENHANCE_YOUR_CALM, &text)
        .await
        .expect("sent");
    within(channel.wait_for_state_change(ready)).await;
    let line = log.line(&["takes no more RPCs", "GOAWAY ENHANCE_YOUR_CALM"]);
    assert!(line.contains(r"\x1b[31mred\n"), "must be escaped: {line}");
    assert!(line.len() < 1_000, "must be cut: {} bytes", line.len());
    within(channel.close()).await;
}

/// And what becomes of it: the resolver is asked, and the wait is told.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_peer_that_fell_silent() {
    let log = Log::of(Level::DEBUG);
    let deaf = Backend::new("deaf")
        .answer(Answer::Never)
        .manners(Manners::deaf_to_pings());
    let server = Arc::new(Server::in_memory(deaf));
    let channel = piped(std::slice::from_ref(&server))
        .keepalive(Duration::from_secs(10), Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    echo(&channel, text("hello")).await.expect_err("deaf");
    log.line(&["INFO", "takes no more RPCs", "keepalive ping timed out"]);
    log.line(&["the resolver is to be asked again"]);
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_change_of_policy() {
    let log = Log::of(Level::INFO);
    let server = Arc::new(Server::in_memory(Backend::new("a")));
    let resolver = ManualResolver::silent();
    let to = |policy: &str| {
        let endpoints = [Endpoint::from("10.0.0.0:1")];
        let json = format!(r#"{{"loadBalancingConfig":[{{"{policy}":{{}}}}]}}"#);
        Ok(Resolution::new(endpoints).with_service_config(json))
    };
    let channel = piped(std::slice::from_ref(&server)).resolver(resolver.clone());
    let channel = channel.build().expect("a channel");
    resolver.update(to("pick_first"));
    channel.connect().await.expect("connected");
    resolver.update(to("round_robin"));
    while channel.snapshot().policy.as_deref() != Some("round_robin") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    log.line(&["policy switch begins", "from=pick_first", "round_robin"]);
    log.line(&["policy switch to=round_robin", "state=READY"]);
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn what_rpcs_wait_for() {
    let log = Log::of(Level::DEBUG);
    let silent = Arc::new(Server::in_memory(balancer_testpeer::faults::silence()));
    let channel = piped(std::slice::from_ref(&silent));
    let channel = channel.build().expect("a channel");
    let mut request = Request::new(text("anybody"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(Duration::from_secs(30));
    echo(&channel, request).await.expect_err("nobody answers");
    // First for the connection, then, after its deadline of 20 s, for another one.
    log.line(&["an RPC has waited", "/test.Echo/Unary", "waited=20s"]);
    let line = log.line(&["an RPC has waited", "waited=10s", "no HTTP/2 connection"]);
    assert!(line.starts_with("DEBUG"), "{line}");
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn retries_and_their_end() {
    let log = Log::of(Level::DEBUG);
    let fails = Arc::new(AtomicBool::new(true));
    let backend = Backend::new("busy").answers({
        let fails = fails.clone();
        move |_| match fails.load(Ordering::SeqCst) {
            true => Answer::trailers_only(14, "not now"),
            false => Answer::Echo,
        }
    });
    let server = Arc::new(Server::in_memory(backend));
    let config = r#"{"loadBalancingConfig":[{"round_robin":{}}],
        "methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"1s",
        "maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}],
        "retryThrottling":{"maxTokens":6,"tokenRatio":1}}"#;
    let channel = piped(std::slice::from_ref(&server)).default_service_config(config);
    let channel = channel.build().expect("a channel");
    for _ in 0..100 {
        echo(&channel, text("x")).await.expect_err("busy");
    }
    log.line(&["an RPC is tried again", "not now"]);
    log.line(&["INFO", "no more of them are tried again"]);
    let told = |lines: &[String]| {
        let about = |line: &&String| line.contains("no more of them are tried again");
        lines.iter().filter(about).count()
    };
    assert_eq!(told(&log.take()), 1, "must be told once");
    fails.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        echo(&channel, text("x")).await.expect("served");
    }
    log.line(&["RPCs may be tried again"]);
    channel.close().await;
}

/// A backend that comes and goes ten times a second fills no disk.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_backend_that_flaps_is_told_of_now_and_then() {
    let log = Log::of(Level::DEBUG);
    let server = Arc::new(Server::in_memory(Backend::new("flapping")));
    let channel = piped(std::slice::from_ref(&server));
    let channel = channel.build().expect("a channel");
    let mut counts = Vec::new();
    for _ in 0..4 {
        for _ in 0..300 {
            let mut request = Request::new(text("hello"));
            request.extensions_mut().insert(WaitForReady(true));
            // An answer, so that the loss costs no back-off.
            echo(&channel, request).await.expect("served");
            server.kill(Ending::Close).await;
            server.restart().await.expect("a script");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        counts.push(log.take().len());
    }
    println!("lines in each of four half minutes: {counts:?}");
    assert!(server.journal().accepted() > 1_000, "it must have flapped");
    for count in counts {
        // SubConn, channel and RPCs, 20 lines each in half a minute; and what the resolver does.
        assert!((10..80).contains(&count), "{count} lines");
    }
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn nothing_of_rpcs_that_go_straight_through() {
    let server = Arc::new(Server::in_memory(Backend::new("a")));
    let channel = piped(std::slice::from_ref(&server));
    let channel = channel.build().expect("a channel");
    channel.connect().await.expect("connected");
    let log = Log::of(Level::TRACE);
    for _ in 0..100 {
        echo(&channel, text("hello")).await.expect("served");
    }
    assert_eq!(log.take(), Vec::<String>::new(), "must be silent");
    channel.close().await;
    log.line(&["closing"]);
}
