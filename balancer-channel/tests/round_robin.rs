//! round_robin over real connections, chosen by a service config.

mod support;

use std::{sync::Arc, time::Duration};

use balancer_channel::Channel;
use balancer_testpeer::{Answer, Backend, Server};
use support::{backend, echo, text};

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// Turns are turns: a backend that is slow gets as many as the others.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_slow_backend_among_fast_ones_gets_as_many_rpcs() {
    let echoing = |name: &str, millis| {
        let answer = Answer::Echo.after(Duration::from_millis(millis));
        Arc::new(Server::in_memory(Backend::new(name).answer(answer)))
    };
    let servers = [echoing("a", 1), echoing("b", 1_000), echoing("c", 1)];
    let channel = support::pipes::piped(&servers).warm_up(Duration::from_secs(5));
    let channel = channel.build().expect("a channel");
    let mut rpcs = Vec::new();
    for _ in 0..30 {
        let channel = channel.clone();
        let rpc = async move { echo(&channel, text("hello")).await };
        rpcs.push(tokio::spawn(rpc));
        // The fast ones have answered by then, and have nothing to do.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut served = std::collections::BTreeMap::new();
    for rpc in rpcs {
        let response = rpc.await.expect("no panic").expect("an answer");
        *served.entry(backend(&response)).or_insert(0) += 1;
    }
    let each = ["a", "b", "c"].map(|name| (name.to_owned(), 10));
    assert_eq!(served, each.into());
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness")]
async fn rpcs_go_round_the_backends_in_turn() {
    let servers = [
        Server::start(Backend::new("a")).await.expect("a backend"),
        Server::start(Backend::new("b")).await.expect("a backend"),
        Server::start(Backend::new("c")).await.expect("a backend"),
    ];
    let addresses: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
    let channel = Channel::builder(format!("ipv4:{}", addresses.join(",")))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .warm_up(Duration::from_secs(5))
        .build()
        .expect("a channel");
    let mut seen = Vec::new();
    for n in 0..9 {
        let response = echo(&channel, text(&n.to_string()))
            .await
            .expect("an answer");
        assert_eq!(response.get_ref().text, n.to_string(), "must be the echo");
        seen.push(backend(&response));
    }
    let cycle = &seen[..3];
    let mut sorted = cycle.to_vec();
    sorted.sort();
    assert_eq!(sorted, ["a", "b", "c"], "each backend once in a cycle");
    assert_eq!(&seen[3..6], cycle, "the same cycle again");
    assert_eq!(&seen[6..9], cycle, "and again");
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
}
