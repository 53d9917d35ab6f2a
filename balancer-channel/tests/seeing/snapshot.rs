//! A snapshot: what a channel is about at one moment, also after failures.

use std::{sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, Endpoint};
use balancer_channel::{
    Channel, ManualResolver, Resolution, Snapshot, SubConnSnapshot, WaitForReady,
};
use balancer_testpeer::{Answer, Backend, Ending, Server};
use tonic::Request;

use crate::support::{echo, pipes::piped, text};

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

fn patient() -> Request<crate::support::Text> {
    let mut request = Request::new(text("patient"));
    request.extensions_mut().insert(WaitForReady(true));
    request
}

/// Waits until the snapshot has a line that ends in `end`.
async fn until(channel: &Channel, end: &str) {
    let shown = async {
        while !channel
            .snapshot()
            .to_string()
            .lines()
            .any(|line| line.ends_with(end))
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
    shown.unwrap_or_else(|_| panic!("must show {end:?}:\n{}", channel.snapshot()));
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn of_a_channel_that_is_well() {
    let backend = Backend::new("a").answers(|request| match request.path() {
        "/test.Echo/Many" => Answer::Never,
        _ => Answer::Echo,
    });
    let server = Arc::new(Server::in_memory(backend));
    let channel = piped(std::slice::from_ref(&server)).build();
    let channel = channel.expect("a channel");
    assert_eq!(
        channel.snapshot().to_string(),
        "channel ipv4:10.0.0.0:1 is IDLE\nno policy\nno service config\n\
         0 RPCs waiting for a connection"
    );
    for _ in 0..3 {
        echo(&channel, text("hello")).await.expect("served");
    }
    let open = channel.clone();
    let kind = crate::support::Kind::ServerStreaming;
    let stream =
        tokio::spawn(async move { crate::support::rpc(&open, kind, &text("for ever")).await });
    until(&channel, "SubConn 1 READY at 10.0.0.0:1: 1 stream, 4 calls").await;
    let shown = channel.snapshot().to_string();
    let expected = format!(
        "channel ipv4:10.0.0.0:1 is READY\npolicy round_robin\nservice config {ROUND_ROBIN}\n\
         0 RPCs waiting for a connection\nSubConn 1 READY at 10.0.0.0:1: 1 stream, 4 calls"
    );
    assert_eq!(shown, expected);
    stream.abort();
    channel.close().await;
}

/// Why the last attempt failed, and what was carried before; also while it is well again.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn after_failures() {
    let servers = [
        Arc::new(Server::in_memory(Backend::new("good"))),
        Arc::new(Server::in_memory(balancer_testpeer::faults::silence())),
    ];
    let channel = piped(&servers).build().expect("a channel");
    for _ in 0..5 {
        echo(&channel, patient()).await.expect("served");
    }
    let failed = "TRANSIENT_FAILURE to 10.0.0.1:1: 0 streams, 0 calls, last error \
        UNAVAILABLE: 10.0.0.1:1: no HTTP/2 connection within the connect deadline of 20s";
    let connecting = failed.replace("TRANSIENT_FAILURE", "CONNECTING");
    until(&channel, &connecting).await;
    let snapshot = channel.snapshot();
    let error = sub_conn_to(&snapshot, "10.0.0.1:1").last_error.as_ref();
    assert!(error.is_some(), "{snapshot}");

    servers[0].kill(Ending::Close).await;
    servers[0].restart().await.expect("a script");
    echo(&channel, patient()).await.expect("served again");
    let snapshot = channel.snapshot();
    let sub_conn = sub_conn_to(&snapshot, "10.0.0.0:1");
    assert_eq!((sub_conn.state, sub_conn.calls), (State::Ready, 6));
    let line = sub_conn.to_string();
    assert!(
        line.ends_with("last error UNAVAILABLE: 10.0.0.0:1: connection closed by the peer"),
        "{line}"
    );
    channel.close().await;
    assert_eq!(channel.snapshot().state, State::Shutdown);
}

/// round_robin makes them from any point of the list on.
fn sub_conn_to<'a>(snapshot: &'a Snapshot, address: &str) -> &'a SubConnSnapshot {
    let to = |it: &&SubConnSnapshot| it.addresses.iter().any(|a| a.addr() == address);
    snapshot.sub_conns.iter().find(to).expect("it is listed")
}

/// Who is about to take over, and who waits for what.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn of_a_change_and_of_those_who_wait() {
    let silent = balancer_testpeer::faults::silence();
    let narrow = Backend::new("narrow")
        .max_concurrent_streams(1)
        .answer(Answer::Never);
    let servers = [
        Arc::new(Server::in_memory(narrow)),
        Arc::new(Server::in_memory(silent)),
    ];
    let to = |at: &str, policy: &str| {
        let json = format!(r#"{{"loadBalancingConfig":[{{"{policy}":{{}}}}]}}"#);
        Ok(Resolution::new([Endpoint::from(at)]).with_service_config(json))
    };
    let resolver = ManualResolver::silent();
    let channel = piped(&servers).resolver(resolver.clone()).build();
    let channel = channel.expect("a channel");
    let rpc = || {
        let channel = channel.clone();
        tokio::spawn(async move { echo(&channel, patient()).await })
    };
    let first = rpc();
    until(&channel, "1 RPC waiting for a connection").await;
    resolver.update(to("10.0.0.0:1", "pick_first"));
    until(&channel, "SubConn 1 READY at 10.0.0.0:1: 1 stream, 1 call").await;
    let second = rpc();
    let waiting = "SubConn 1 READY at 10.0.0.0:1: 1 stream, 1 call, 1 RPC waiting for a stream";
    until(&channel, waiting).await;
    resolver.update(to("10.0.0.1:1", "round_robin"));
    until(
        &channel,
        "policy pick_first, round_robin is about to take over",
    )
    .await;
    first.abort();
    second.abort();
    channel.close().await;
}

/// Whoever writes a config or an error writes no terminal, and no page.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn what_others_have_written_is_escaped_and_cut() {
    let server = Arc::new(Server::in_memory(Backend::new("a")));
    let config = format!(
        "{{\n\"loadBalancingConfig\":[{{\"round_robin\":{{}}}}]{}}}",
        " ".repeat(10_000)
    );
    let channel = piped(std::slice::from_ref(&server)).default_service_config(config);
    let channel = channel.build().expect("a channel");
    echo(&channel, text("hello")).await.expect("served");
    let shown = channel.snapshot().to_string();
    assert!(
        shown.contains(r#"service config {\n"loadBalancingConfig""#),
        "{shown}"
    );
    assert!(shown.len() < 1_000, "{} bytes", shown.len());
    channel.close().await;
}
