//! The five scenarios: each makes trouble over real sockets and measures what an application sees.

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use balancer_api::Endpoint;
use balancer_channel::{Channel, ManualResolver};
use balancer_testpeer::{Backend, Ending, Refused, Relay, Server};
use tonic::{
    Status,
    transport::{self, channel::Change},
};

use crate::{
    contender::{Client, Contender, ROUND_ROBIN, endpoint},
    load::{self, Load, Tally},
};

/// How many RPCs run at a time where nothing else is said.
const WIDTH: usize = 16;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(2);

/// One endpoint was killed while RPCs ran.
#[derive(Debug)]
pub(crate) struct Killed {
    /// All RPCs, but those of `after`.
    pub(crate) load: Tally,
    /// RPCs whose request the dead server's address had read, and not answered.
    pub(crate) may_have_arrived: usize,
    /// From the kill to the last RPC that failed.
    pub(crate) last_failure: Option<Duration>,
    /// From the restart to the first answer of the restarted server.
    pub(crate) first_reply: Duration,
    /// RPCs from there on.
    pub(crate) after: Tally,
}

/// Every endpoint was down.
#[derive(Debug)]
pub(crate) struct AllDown {
    /// An RPC on a new channel: what it ended with, and after how long.
    pub(crate) from_the_start: (Result<String, Status>, Duration),
    /// An RPC on a channel that was connected before.
    pub(crate) after_a_kill: (Result<String, Status>, Duration),
    /// An RPC that was waiting for a connection when one endpoint came back.
    pub(crate) waiting: (Result<String, Status>, Duration),
    /// Who came back.
    pub(crate) who_came_back: SocketAddr,
}

/// Endpoints were replaced while nobody called.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// How many of the replacements the channel took while idle.
    pub(crate) taken: usize,
    /// Which set of endpoints the first RPC went to, from 0.
    pub(crate) first: Result<String, Status>,
}

/// How often endpoints are replaced.
pub(crate) const REPLACEMENTS: usize = 10;

/// One endpoint of eight refuses connections, and 10,000 RPCs are made.
pub(crate) async fn one_dead_of_eight(contender: Contender) -> Tally {
    let live = backends(7).await;
    let dead = Refused::new().expect("a free port");
    let mut addresses = addresses(&live);
    addresses.insert(3, dead.addr());
    // Everybody is tried before the first RPC goes: what is measured is the dead one, not who
    // connects first.
    let client = contender.warmed_up(&addresses, Duration::from_secs(5));
    let tally = load::run(&client, 10_000, WIDTH).await;
    client.end().await;
    tally
}

/// The endpoints are replaced by others ten times while no RPC is made; then one is.
pub(crate) async fn replaced_while_idle(contender: Contender) -> Replaced {
    let mut servers = Vec::new();
    for n in 0..=REPLACEMENTS {
        let server = Server::start(Backend::new(n.to_string())).await;
        servers.push(server.expect("a free port"));
    }
    match contender {
        Contender::Balancer => replaced_in_balancer(&servers).await,
        Contender::BalanceList => replaced_in_tonic(&servers).await,
    }
}

/// One of three backends dies under load, and comes back after a while.
///
/// Behind it stands a relay, which knows what the client's socket took.
pub(crate) async fn one_killed_of_three(contender: Contender) -> Killed {
    let servers = backends(3).await;
    let victim = &servers[1];
    let relay = Relay::to(victim.addr()).await.expect("a free port");
    let client = contender.to(&[servers[0].addr(), relay.addr(), servers[2].addr()]);
    let load = Load::start(&client, WIDTH);
    load.until(|tally| tally.served.values().sum::<usize>() >= 300 && tally.served.len() == 3)
        .await;

    let killed_at = Instant::now();
    relay.stop_listening().await;
    victim.kill(Ending::Close).await;
    load.until_ended(load.ended() + 600).await;

    victim.restart().await.expect("the port is still ours");
    let before = load.so_far("b1");
    let restarted_at = Instant::now();
    relay
        .start_listening()
        .await
        .expect("the port is still ours");
    load.until(|tally| tally.served.get("b1").copied().unwrap_or(0) > before)
        .await;
    let first_reply = restarted_at.elapsed();
    // What was already on its way when the restarted one answered is not counted as after it.
    load.until_ended(load.ended() + WIDTH).await;
    let after = load.next(3_000).await;
    let all = load.finish().await;
    client.end().await;

    let answered = all.served.get("b1").copied().unwrap_or(0);
    Killed {
        may_have_arrived: relay.streams().len() - answered,
        last_failure: all.failed.iter().map(|(at, _)| *at - killed_at).max(),
        load: all,
        first_reply,
        after,
    }
}

/// All endpoints are down: from the start, and after they had been up.
pub(crate) async fn all_down(contender: Contender) -> AllDown {
    let dead = [Refused::new(), Refused::new(), Refused::new()].map(|port| port.expect("a port"));
    let client = contender.to(&dead.each_ref().map(Refused::addr));
    let from_the_start = timed(client.call()).await;
    client.end().await;

    let servers = backends(3).await;
    let client = contender.to(&addresses(&servers));
    load::run(&client, 100, WIDTH).await;
    for server in &servers {
        server.kill(Ending::Close).await;
    }
    client.noticed().await;
    let after_a_kill = timed(client.call()).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { timed(client.call_waiting()).await }
    });
    // It has had its turn, and more: whoever fails at once has failed.
    let again = client.call().await;
    assert!(again.is_err(), "nothing can have answered: {again:?}");
    servers[2].restart().await.expect("the port is still ours");
    let waiting = waiting.await.expect("an RPC must not panic");
    client.end().await;
    AllDown {
        from_the_start,
        after_a_kill,
        waiting,
        who_came_back: servers[2].addr(),
    }
}

/// A thousand RPCs on a new channel to eight backends, the slowest of which takes a while to
/// connect to.
pub(crate) async fn burst_at_start(contender: Contender) -> Tally {
    let servers = backends(8).await;
    let mut relays = Vec::new();
    for (n, server) in servers.iter().enumerate() {
        let relay = Relay::to(server.addr()).await.expect("a free port");
        relay.delay(Duration::from_millis(4 * n as u64));
        relays.push(relay);
    }
    let addresses: Vec<_> = relays.iter().map(Relay::addr).collect();
    let client = contender.warmed_up(&addresses, Duration::from_millis(200));
    let tally = load::burst(&client, 1_000).await;
    client.end().await;
    tally
}

async fn replaced_in_balancer(servers: &[Server]) -> Replaced {
    let endpoint = |server: &Server| Endpoint::from(server.addr().to_string().as_str());
    let resolver = ManualResolver::new([endpoint(&servers[0])]);
    let channel = Channel::builder("passthrough:///replaced")
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .resolver(resolver.clone())
        .build()
        .expect("a channel");
    let client = Client::Balancer(channel);
    let old = client.call().await.expect("the first set is up");
    assert_eq!(old, "0", "the first set is number 0");

    let mut taken = 0;
    for server in &servers[1..] {
        resolver.set_endpoints([endpoint(server)]);
        // That somebody connects is how one sees from outside that the new set was taken.
        let connected = server.until(|journal| journal.accepted() == 1);
        if tokio::time::timeout(NEVER, connected).await.is_err() {
            break;
        }
        taken += 1;
    }
    let first = client.call().await;
    client.end().await;
    Replaced { taken, first }
}

/// `balance_list` cannot be told of changes: `balance_channel` is the same channel with a sender.
async fn replaced_in_tonic(servers: &[Server]) -> Replaced {
    let (channel, changes) = transport::Channel::balance_channel::<usize>(8);
    let insert = |n: usize| Change::Insert(n, endpoint(servers[n].addr()));
    let open = "the channel is open";
    changes.send(insert(0)).await.expect(open);
    let client = Client::Tonic(channel);
    client.call().await.expect("the first set is up");

    let mut taken = 0;
    for n in 1..servers.len() {
        let replace = async {
            changes.send(Change::Remove(n - 1)).await.expect(open);
            changes.send(insert(n)).await.expect(open);
        };
        if tokio::time::timeout(NEVER, replace).await.is_err() {
            break;
        }
        taken += 1;
    }
    let first = client.call().await;
    Replaced { taken, first }
}

/// Backends b0, b1 …
async fn backends(count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for n in 0..count {
        let server = Server::start(Backend::new(format!("b{n}"))).await;
        servers.push(server.expect("a free port"));
    }
    let ports: HashSet<_> = servers.iter().map(Server::addr).collect();
    assert_eq!(
        ports.len(),
        count,
        "each backend must have a port of its own"
    );
    servers
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::addr).collect()
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}
