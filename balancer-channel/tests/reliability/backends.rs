//! Backends and the channel to them.

use std::{net::SocketAddr, time::Duration};

use balancer_channel::{Backoff, Channel, ChannelBuilder};
use balancer_testpeer::{Answer, Backend, Server};

/// The service config of most rows.
pub(crate) const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// Backends b0, b1 …, each of which takes `work` for an answer.
pub(crate) async fn backends(count: usize, work: Duration) -> Vec<Server> {
    let mut servers = Vec::new();
    for n in 0..count {
        let backend = Backend::new(format!("b{n}")).answer(Answer::Echo.after(work));
        servers.push(Server::start(backend).await.expect("a free port"));
    }
    servers
}

/// A channel of `round_robin` to these addresses.
pub(crate) fn to(addresses: impl IntoIterator<Item = SocketAddr>) -> ChannelBuilder {
    let list: Vec<String> = addresses.into_iter().map(|a| a.to_string()).collect();
    Channel::builder(format!("ipv4:{}", list.join(",")))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        // The first RPC finds everybody who can be reached.
        .warm_up(Duration::from_secs(5))
}

/// The shortest back-off that may be asked for, so that a hundred restarts take seconds.
pub(crate) fn impatient() -> Backoff {
    let floor = Backoff::FLOOR;
    Backoff::default().with_initial(floor).with_max(floor)
}

/// Ends a channel, of which nothing may be left.
pub(crate) async fn end(channel: Channel) {
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "a closed channel leaves no task");
}
