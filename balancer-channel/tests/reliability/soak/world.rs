//! Backends, what stands in front of them, and what goes wrong with them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use balancer_testpeer::{
    Answer, Backend, Ending, Relay, Response, Script, Server,
    faults::{close_at_once, garbage, http1, reset_at_once},
};
use prost::Message;

use super::{client::Client, explained::Costs, wire::Order};
use crate::{load::within, support::text};

/// What an answer takes: long enough for RPCs to be under way whatever happens to their server.
const WORK: Duration = Duration::from_millis(10);

/// Longer than a client takes to notice with its keepalive.
const MUTE: Duration = Duration::from_secs(17);

/// Several backends of which one at a time is in trouble.
#[derive(Debug)]
pub(super) struct World {
    places: Vec<Place>,
    policy: &'static str,
}

/// A backend and the relays to it, one for each load. They outlive it and know what a client's socket
/// took.
#[derive(Debug)]
struct Place {
    name: String,
    server: Server,
    steady: Relay,
    rough: Relay,
    lives: Vec<Life>,
}

/// What a backend calls itself from one fault to the next.
#[derive(Debug)]
struct Life {
    name: String,
    /// The last connection of the steady relay that belongs to an earlier one.
    after: usize,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process is gone at once, and comes back a little later.
    Killed,
    /// It stops as a good server does, and comes back.
    Drained,
    /// It is killed, and what comes back is no gRPC server at first.
    Replaced,
    /// Nothing comes back any more, and nobody says so.
    Mute,
    /// Everything takes longer.
    Slow,
    /// New connections are refused, those that are stay.
    Deaf,
    /// The resolver takes it from the list, and gives it back.
    Removed,
    /// The resolver fails.
    Unresolved,
    /// Another policy, and back.
    Switched,
    /// The channels become idle.
    Idle,
}

// === impl World ===

impl World {
    /// So many backends behind their relays.
    pub(super) async fn start(count: usize) -> Self {
        let mut places = Vec::new();
        for n in 0..count {
            places.push(Place::start(format!("b{n}")).await);
        }
        Self {
            places,
            policy: "round_robin",
        }
    }

    /// What the resolvers find, but for one backend.
    pub(super) fn resolution(&self, but: Option<usize>) -> Order {
        let listed = || {
            let all = self.places.iter().enumerate();
            all.filter(move |(n, _)| Some(*n) != but).map(|(_, it)| it)
        };
        let addresses = |of: fn(&Place) -> SocketAddr| listed().map(of).collect();
        Order::Resolve {
            steady: addresses(|place| place.steady.addr()),
            rough: addresses(|place| place.rough.addr()),
            policy: self.policy.to_owned(),
        }
    }

    /// The `n`th fault: of each kind one, then any. All is well again when this returns.
    pub(super) async fn fault(
        &mut self,
        n: usize,
        random: &mut fastrand::Rng,
        client: &mut Client,
        costs: &mut Costs,
    ) {
        let fault = match Fault::ALL.get(n) {
            Some(fault) => *fault,
            // Three seconds of four would be spent in silence otherwise.
            None if random.u8(..12) > 0 => Fault::QUICK[random.usize(..Fault::QUICK.len())],
            None => Fault::Mute,
        };
        let which = random.usize(..self.places.len());
        let pause = Duration::from_millis(random.u64(0..2_000));
        println!("{fault:?} {which} for {pause:?}");
        match fault {
            Fault::Removed => {
                costs.free("changes of the list");
                client.tell(&self.resolution(Some(which))).await;
                client.listen(pause).await;
                client.tell(&self.resolution(None)).await;
            }
            Fault::Unresolved => {
                costs.free("failures of the resolver");
                client.tell(&Order::Unresolved("no such name".into())).await;
                client.listen(pause).await;
                client.tell(&self.resolution(None)).await;
            }
            Fault::Switched => {
                costs.free("changes of the policy");
                self.policy = "pick_first";
                client.tell(&self.resolution(None)).await;
                client.listen(pause).await;
                self.policy = "round_robin";
                client.tell(&self.resolution(None)).await;
            }
            Fault::Idle => {
                costs.free("idle channels");
                client.tell(&Order::EnterIdle).await;
            }
            _ => {
                let ending = match random.bool() {
                    true => Ending::Reset,
                    false => Ending::Close,
                };
                let place = &mut self.places[which];
                place.fault(fault, ending, pause, client, costs).await;
            }
        }
    }

    /// RPCs of the steady load whose HEADERS were taken by the connections of this life of a backend,
    /// and that it never answered.
    pub(super) fn lost(&self, life: &str, answered: &BTreeMap<String, usize>) -> usize {
        let taken: usize = self.places.iter().map(|place| place.taken(life)).sum();
        taken.saturating_sub(answered.get(life).copied().unwrap_or(0))
    }
}

// === impl Fault ===

impl Fault {
    const ALL: [Self; 10] = [
        Self::Killed,
        Self::Drained,
        Self::Replaced,
        Self::Mute,
        Self::Slow,
        Self::Deaf,
        Self::Removed,
        Self::Unresolved,
        Self::Switched,
        Self::Idle,
    ];

    /// Those that take seconds.
    const QUICK: [Self; 9] = [
        Self::Killed,
        Self::Drained,
        Self::Replaced,
        Self::Slow,
        Self::Deaf,
        Self::Removed,
        Self::Unresolved,
        Self::Switched,
        Self::Idle,
    ];
}

// === impl Place ===

impl Place {
    async fn start(name: String) -> Self {
        let server = Server::start(backend(&name)).await.expect("a free port");
        let steady = Relay::to(server.addr()).await.expect("a free port");
        let rough = Relay::to(server.addr()).await.expect("a free port");
        let first = Life {
            name: name.clone(),
            after: 0,
        };
        Self {
            name,
            server,
            steady,
            rough,
            lives: vec![first],
        }
    }

    async fn fault(
        &mut self,
        fault: Fault,
        ending: Ending,
        pause: Duration,
        client: &mut Client,
        costs: &mut Costs,
    ) {
        let connections = self.server.journal().accepted();
        match fault {
            Fault::Slow => {
                costs.free("slow links");
                self.relays(|relay| relay.delay(Duration::from_millis(50)));
                client.listen(pause).await;
                return self.relays(|relay| relay.delay(Duration::ZERO));
            }
            Fault::Deaf => {
                costs.free("deaf ports");
                self.steady.stop_listening().await;
                self.rough.stop_listening().await;
                client.listen(pause).await;
                self.steady.start_listening().await.expect("still ours");
                return self.rough.start_listening().await.expect("still ours");
            }
            Fault::Mute => {
                costs.begin("silences", self.life());
                let new = self.next_life();
                self.server.set_script(new);
                self.relays(Relay::mute);
                client.listen(MUTE).await;
                self.relays(Relay::thaw);
            }
            Fault::Drained => {
                costs.free("drains");
                let new = self.next_life();
                self.server.set_script(new);
                within("what is open must end", self.server.drain()).await;
                client.listen(pause).await;
                self.server.restart().await.expect("still ours");
            }
            _ => {
                costs.begin("kills", self.life());
                let new = self.next_life();
                self.server.kill(ending).await;
                client.listen(pause).await;
                let script = match fault {
                    Fault::Replaced => strangers(connections, new),
                    _ => new.into(),
                };
                self.server.set_script(script);
                self.server.restart().await.expect("still ours");
            }
        }
        let served = self.server.until(|journal| {
            let new = &journal.connections[connections..];
            let serve = new
                .iter()
                .filter(|it| it.ended_at.is_none() && !it.streams.is_empty());
            // One for each load.
            serve.count() >= 2
        });
        within(
            "it must serve both loads again",
            client.while_listening(served),
        )
        .await;
        if !matches!(fault, Fault::Drained) {
            costs.over();
        }
    }

    /// What it calls itself now.
    fn life(&self) -> &str {
        self.lives.last().map_or(&self.name, |life| &life.name)
    }

    fn relays(&self, act: impl Fn(&Relay)) {
        act(&self.steady);
        act(&self.rough);
    }

    /// From here on it has another name, under which it answers later connections.
    fn next_life(&mut self) -> Backend {
        let name = format!("{}.{}", self.name, self.lives.len());
        self.lives.push(Life {
            name: name.clone(),
            after: self.steady.accepted(),
        });
        backend(&name)
    }

    /// RPCs of the steady load whose HEADERS the connections of that life took.
    fn taken(&self, life: &str) -> usize {
        let Some(at) = self.lives.iter().position(|it| it.name == life) else {
            return 0;
        };
        let after = self.lives[at].after;
        let until = self.lives.get(at + 1).map_or(usize::MAX, |next| next.after);
        let streams = self.steady.streams();
        let of_it = |n: usize| n > after && n <= until;
        streams.iter().filter(|it| of_it(it.connection)).count()
    }
}

/// A backend for all kinds of RPC that takes its time.
fn backend(name: &str) -> Backend {
    let one = text("one").encode_to_vec();
    let many = Response::grpc().message(&one).message(&one).message(&one);
    let many = Answer::from(many.status(0, ""));
    Backend::new(name).answers(move |request| match request.path() {
        "/test.Echo/Many" => many.clone(),
        // With a deadline between the two.
        "/test.Echo/Collect" => {
            Answer::ok(&one).after(fastrand::choice([0, 3]).unwrap_or(0) * WORK)
        }
        _ => Answer::Echo.after(WORK),
    })
}

/// What is no gRPC server for the next four connections, and then is that one.
fn strangers(after: usize, then: Backend) -> Script {
    Script::new()
        .on_connection(after + 1, close_at_once())
        .on_connection(after + 2, garbage(38, 500))
        .on_connection(after + 3, http1())
        .on_connection(after + 4, reset_at_once())
        .otherwise(then)
}
