//! Servers that do not speak HTTP/2: an RPC to them ends within its deadline with an error that
//! says what was wrong and with whom, and the channel leaves nothing behind.

mod support;

use std::time::{Duration, Instant};

use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{Backend, Behaviour, Blackhole, Server, faults};
use support::{backend, echo, text};
use tonic::{Code, Request, Status};

/// What every RPC here is given.
const DEADLINE: Duration = Duration::from_secs(2);

/// How much later than its deadline an RPC may end on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

#[tokio::test(crate = "crate::support::harness")]
async fn http1_is_named() {
    let (status, took) = call_a_server_that(faults::http1()).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_says(&status, &["not HTTP/2", "it speaks HTTP/1"]);
    assert!(took < DEADLINE, "must not wait for the deadline: {took:?}");
}

#[tokio::test(crate = "crate::support::harness")]
async fn garbage_is_shown() {
    for seed in 0..8 {
        println!("seed {seed}");
        let (status, took) = call_a_server_that(faults::garbage(seed, 64)).await;
        assert_eq!(status.code(), Code::Unavailable, "seed {seed}: {status:?}");
        assert_says(&status, &["not HTTP/2", "the peer sent"]);
        assert!(took < DEADLINE, "seed {seed}: must end at once: {took:?}");
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn tls_where_plaintext_was_chosen_is_named() {
    // An alert: what a TLS server says to an HTTP/2 preface.
    let alert: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];
    let (status, _) = call_a_server_that(faults::say(alert)).await;
    assert_says(&status, &["not HTTP/2", "TLS"]);
}

#[tokio::test(crate = "crate::support::harness")]
async fn accept_and_close_is_named() {
    for behaviour in [faults::close_at_once(), faults::reset_at_once()] {
        let (status, took) = call_a_server_that(behaviour).await;
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let text = status.message();
        assert!(
            ["closed", "reset"].iter().any(|word| text.contains(word)),
            "must say that the connection was ended: {text}"
        );
        assert!(took < DEADLINE, "must not wait for the deadline: {took:?}");
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn accept_and_silence_ends_with_the_deadline() {
    let (status, took) = call_a_server_that(faults::silence()).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_says(&status, &["waiting for a connection"]);
    assert!(took >= DEADLINE, "must not be early: {took:?}");
}

#[tokio::test(crate = "crate::support::harness")]
async fn silence_longer_than_an_attempt_may_take_is_named() {
    let silent = Server::start(faults::silence()).await.expect("a free port");
    let channel = Channel::builder(format!("ipv4:{}", silent.addr()))
        .plaintext()
        .min_connect_timeout(Duration::from_millis(300))
        .build()
        .expect("a channel");
    let (status, took) = call(&channel, false).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_says(&status, &[&silent.addr().to_string()]);
    assert!(took < DEADLINE, "must not wait for the deadline: {took:?}");
    leaves_nothing(&channel, &silent).await;
}

#[tokio::test(crate = "crate::support::harness")]
async fn an_address_that_swallows_everything_ends_with_the_deadline() {
    let hole = Blackhole::new().expect("a free port");
    let channel = Channel::builder(format!("ipv4:{}", hole.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    let (status, took) = call(&channel, false).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(took < DEADLINE + SLACK, "must end in time: {took:?}");
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
}

/// Who waits for a connection is told what it waited for.
#[tokio::test(crate = "crate::support::harness")]
async fn waiting_for_a_server_that_is_none_ends_with_the_deadline_and_the_reason() {
    let server = Server::start(faults::http1()).await.expect("a free port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    let (status, took) = call(&channel, true).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_says(&status, &["not HTTP/2", &server.addr().to_string()]);
    assert!(took < DEADLINE + SLACK, "must end in time: {took:?}");
    leaves_nothing(&channel, &server).await;
}

/// Bad servers among good ones cost no RPC.
#[tokio::test(crate = "crate::support::harness")]
async fn good_servers_serve_in_spite_of_bad_ones() {
    let mut servers = Vec::new();
    for behaviour in [
        faults::http1(),
        faults::garbage(1, 64),
        faults::close_at_once(),
        faults::silence(),
        Backend::new("good").into(),
    ] {
        servers.push(Server::start(behaviour).await.expect("a free port"));
    }
    let addresses: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
    let channel = Channel::builder(format!("ipv4:{}", addresses.join(",")))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .build()
        .expect("a channel");
    for n in 0..100 {
        let response = echo(&channel, text(&n.to_string())).await;
        let response = response.expect("one server is good");
        assert_eq!(backend(&response), "good", "no other can answer");
    }
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
    for server in &servers {
        server.until(|journal| journal.open() == 0).await;
    }
}

/// Makes an RPC to a single server with that behaviour; the channel must leave nothing behind.
async fn call_a_server_that(behaviour: Behaviour) -> (Status, Duration) {
    let server = Server::start(behaviour).await.expect("a free port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .build()
        .expect("a channel");
    let (status, took) = call(&channel, false).await;
    if status.code() == Code::Unavailable {
        assert_says(&status, &[&server.addr().to_string()]);
    }
    assert!(took < DEADLINE + SLACK, "must end in time: {took:?}");
    leaves_nothing(&channel, &server).await;
    (status, took)
}

async fn call(channel: &Channel, wait: bool) -> (Status, Duration) {
    let mut request = Request::new(text("hello"));
    request.set_timeout(DEADLINE);
    request.extensions_mut().insert(WaitForReady(wait));
    let started = Instant::now();
    let result = echo(channel, request).await;
    let took = started.elapsed();
    (result.expect_err("nobody can have answered"), took)
}

async fn leaves_nothing(channel: &Channel, server: &Server) {
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
    server.until(|journal| journal.open() == 0).await;
}

fn assert_says(status: &Status, words: &[&str]) {
    for word in words {
        let text = status.message();
        assert!(text.contains(word), "must say {word:?}: {text}");
    }
}
