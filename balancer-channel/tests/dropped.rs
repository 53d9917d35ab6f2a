//! RPCs that are dropped at each of their polls: right after it, and when what they wait for has just
//! happened. The policy hears of each pick's end once, the stream is given back, and nothing is left
//! of the RPC, whatever it was about to do: wait, send, read, try again.

mod support;

use std::{io, sync::Arc, time::Duration};

use balancer_api::{Dialer, Io};
use balancer_channel::{Channel, ChannelBuilder, WaitForReady};
use balancer_testpeer::{Answer, Backend, Server};
use support::{
    Kind,
    counted::Counts,
    cut::{Cut, Cutting},
    drip::Drip,
    echo, of_all_kinds, rpc, text,
};
use tokio_util::compat::TokioAsyncReadCompatExt;
use tonic::{Code, Request, Status};

/// More polls than anything here takes.
const MANY: usize = 1_000;

/// Pipes to a server, whatever the address. What comes drips, so that no two frames arrive together.
struct Pipes(Arc<Server>);

/// A channel to one server, which allows one stream at a time: what is not given back is missed.
struct World {
    channel: Channel,
    counts: Arc<Counts>,
    server: Arc<Server>,
}

#[async_trait::async_trait]
impl Dialer for Pipes {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(Drip::new(self.0.connect()).compat()))
    }
}

// === impl World ===

impl World {
    fn new(backend: Backend, method: &str) -> Self {
        Self::with(backend, method, |builder| builder)
    }

    fn with(
        backend: Backend,
        method: &str,
        change: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    ) -> Self {
        let server = Arc::new(Server::in_memory(backend.max_concurrent_streams(1)));
        let counts = Arc::new(Counts::default());
        let config = format!(
            r#"{{"loadBalancingConfig":[{{"counted":{{}}}}],
                "methodConfig":[{{"name":[{{"service":"test.Echo"}}]{method}}}]}}"#
        );
        let builder = Channel::builder("ipv4:10.0.0.1:1")
            .plaintext()
            .dialer(Arc::new(Pipes(server.clone())))
            .policy(counts.policy())
            .default_service_config(config);
        Self {
            channel: change(builder).build().expect("a channel"),
            counts,
            server,
        }
    }

    /// Drops what `make` makes at each of its polls, until it ends by itself; answers how many polls
    /// that took.
    async fn at_each_poll<F, T>(&self, eager: bool, make: impl Fn(Channel) -> F) -> usize
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let mut ended = 0;
        for polls in 0..MANY {
            for woken in [false, true] {
                let cut = Cut {
                    polls,
                    woken,
                    eager,
                };
                // A task of its own, or it would be polled only when everybody else is at rest.
                let rpc = tokio::spawn(cut.short(make(self.channel.clone())));
                let cutting = rpc.await.expect("an RPC must not panic");
                self.is_whole_after(cut).await;
                if let Cutting::Ended(_, polls) = cutting {
                    ended += 1;
                    if ended == 2 {
                        return polls;
                    }
                }
            }
        }
        panic!("must end within {MANY} polls");
    }

    /// Nothing of the RPC is left, and the one stream is there for the next.
    async fn is_whole_after(&self, cut: Cut) {
        let given_back = async {
            while self.open_streams() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let given_back = tokio::time::timeout(Duration::from_secs(60), given_back).await;
        assert!(given_back.is_ok(), "{cut:?}: the stream must be given back");
        let waiting = self.channel.snapshot().waiting;
        assert_eq!(waiting, 0, "{cut:?}: must not wait any more");
        assert_eq!(self.counts.deviations(), 0, "{cut:?}: an end for each pick");
    }

    fn open_streams(&self) -> usize {
        let sub_conns = self.channel.snapshot().sub_conns;
        sub_conns.iter().map(|sub_conn| sub_conn.streams).sum()
    }

    async fn end(self) {
        self.channel.close().await;
        assert_eq!(self.channel.task_count(), 0, "no task may be left");
        assert_eq!(self.counts.picks(), self.counts.dones());
        self.server.until(|journal| journal.open() == 0).await;
    }
}

/// Unary, one that reads a stream, one that writes a stream, one that does both.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn at_any_poll_of_any_kind() {
    let timeouts = ["", r#","timeout":"600s""#];
    for (kind, timeout) in Kind::ALL
        .into_iter()
        .flat_map(|kind| timeouts.map(|it| (kind, it)))
    {
        let world = World::new(of_all_kinds("one"), timeout);
        let hello = text("hello");
        for eager in [false, true] {
            let make = |channel: Channel| {
                let hello = hello.clone();
                async move { rpc(&channel, kind, &hello).await.expect("served") }
            };
            let polls = world.at_each_poll(eager, make).await;
            println!("{kind:?}{timeout}, eager {eager}: {polls} polls");
            let least = if kind == Kind::Unary { 3 } else { 4 };
            assert!(polls >= least, "{kind:?}: {polls} polls are too few");
        }
        assert!(world.counts.sent() > 4, "some must have left");
        world.end().await;
    }
}

/// The response has begun and is not read.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn with_a_response_that_nobody_reads() {
    let world = World::new(of_all_kinds("one"), "");
    for _ in 0..100 {
        let mut client = tonic::client::Grpc::new(world.channel.clone());
        client.ready().await.expect("always");
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Many");
        let codec = tonic_prost::ProstCodec::<support::Text, support::Text>::default();
        let request = Request::new(text("many"));
        let response = client.server_streaming(request, path, codec).await;
        drop(response.expect("it begins"));
        world.is_whole_after(Cut::NEVER).await;
    }
    world.end().await;
}

/// The server has no room: what waits for a stream is dropped while it waits.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn while_it_waits_for_a_stream() {
    let backend = Backend::new("slow").answers(|request| match request.path() {
        "/test.Echo/Many" => Answer::Never,
        _ => Answer::Echo,
    });
    let world = World::new(backend, "");
    let occupied = world.channel.clone();
    let occupant =
        tokio::spawn(async move { rpc(&occupied, Kind::ServerStreaming, &text("for ever")).await });
    while world.open_streams() == 0 {
        tokio::task::yield_now().await;
    }
    for polls in 0..20 {
        let cut = Cut {
            polls,
            woken: false,
            eager: true,
        };
        let waiting = cut.short(echo(&world.channel, text("me too"))).await;
        assert!(matches!(waiting, Cutting::Dropped), "there is no room");
        assert_eq!(
            world.counts.picks(),
            world.counts.dones() + 1,
            "only the occupant's pick may be open"
        );
    }
    occupant.abort();
    let _ = occupant.await;
    let next = echo(&world.channel, text("at last"));
    let next = tokio::time::timeout(Duration::from_secs(60), next).await;
    next.expect("the place is free, and nobody stands in line")
        .expect("served");
    world.is_whole_after(Cut::NEVER).await;
    world.end().await;
}

/// Nobody is connected: it waits for a picker.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn while_it_waits_for_a_connection() {
    let silent = Server::in_memory(balancer_testpeer::faults::silence());
    let counts = Arc::new(Counts::default());
    let channel = Channel::builder("ipv4:10.0.0.1:1")
        .plaintext()
        .dialer(Arc::new(Pipes(Arc::new(silent))))
        .policy(counts.policy())
        .default_service_config(support::counted::CONFIG)
        .build()
        .expect("a channel");
    for polls in 0..20 {
        for eager in [false, true] {
            let mut request = Request::new(text("anybody"));
            request.extensions_mut().insert(WaitForReady(true));
            let cut = Cut {
                polls,
                woken: false,
                eager: eager || polls > 1,
            };
            let waiting = cut.short(echo(&channel, request)).await;
            assert!(matches!(waiting, Cutting::Dropped), "nobody answers");
            assert_eq!(channel.snapshot().waiting, 0, "{cut:?}: its place is free");
        }
    }
    assert_eq!(counts.picks(), 0, "there was nothing to pick");
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

/// Between attempts, and during each.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn with_a_retry_policy() {
    let retries = r#","retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s",
        "maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}"#;
    let never = Backend::new("busy").answer(Answer::trailers_only(14, "not now"));
    let world = World::new(never, retries);
    // As often as there is time for would never let the clock go on.
    let make = |channel: Channel| async move { busy(&channel).await };
    let polls = world.at_each_poll(false, make).await;
    println!("{polls} polls");
    assert!(polls > 3, "three attempts take more");
    world.end().await;
}

/// While several attempts are under way at once.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn with_hedges() {
    let hedges = r#","hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"0.01s",
        "nonFatalStatusCodes":["UNAVAILABLE"]}"#;
    let slow = Answer::Echo.after(Duration::from_millis(25));
    let world = World::new(Backend::new("slow").answer(slow), hedges);
    let make = |channel: Channel| async move {
        echo(&channel, text("somebody")).await.expect("served");
    };
    let polls = world.at_each_poll(false, make).await;
    println!("{polls} polls");
    assert!(polls > 2, "hedges take more");
    world.end().await;
}

async fn busy(channel: &Channel) -> Status {
    let status = echo(channel, text("hello")).await.expect_err("it is busy");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    status
}
