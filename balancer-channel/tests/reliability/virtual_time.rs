//! What takes minutes, in virtual time: the clock stands still until everybody waits.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_api::{ConnectivityState as State, Dialer, Endpoint, Io, ResolveError};
use balancer_channel::{Channel, ChannelBuilder, Resolution, Resolver, WaitForReady};
use balancer_testpeer::{Answer, Backend, Behaviour, Ending, Server, faults};
use futures_util::{StreamExt, future::BoxFuture};
use tokio::time::{Instant, sleep};
use tokio_util::compat::TokioAsyncReadCompatExt;
use tonic::{Request, Status};

use crate::{
    backends::{ROUND_ROBIN, end},
    report::{Size, row},
    support::{echo, text},
};

const MINUTE: Duration = Duration::from_secs(60);

/// What is not waiting: a few turns of the event loop.
const SLACK: Duration = Duration::from_millis(50);

/// A backend that can be up and down, and whoever dials it.
struct Place {
    server: Server,
    up: AtomicBool,
    dials: Mutex<Vec<Instant>>,
}

// === impl Place ===

impl Place {
    fn of(behaviour: impl Into<Behaviour>) -> Arc<Self> {
        Arc::new(Self {
            server: Server::in_memory(behaviour.into()),
            up: AtomicBool::new(true),
            dials: Mutex::default(),
        })
    }

    fn channel(self: &Arc<Self>) -> ChannelBuilder {
        Channel::builder("ipv4:10.0.0.1:1")
            .plaintext()
            .dialer(Arc::new(To(self.clone())))
            .default_service_config(ROUND_ROBIN)
    }

    fn dials(&self) -> Vec<Instant> {
        self.dials.lock().expect("never poisoned").clone()
    }

    async fn down(&self) {
        self.up.store(false, Ordering::SeqCst);
        self.server.kill(Ending::Reset).await;
    }

    fn up(&self) {
        self.up.store(true, Ordering::SeqCst);
    }
}

struct To(Arc<Place>);

#[async_trait::async_trait]
impl Dialer for To {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        let now = Instant::now();
        self.0.dials.lock().expect("never poisoned").push(now);
        match self.0.up.load(Ordering::SeqCst) {
            true => Ok(Box::new(self.0.server.connect().compat())),
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

async fn waiting(channel: &Channel, limit: Duration) -> Result<(), Status> {
    let mut request = Request::new(text("hello"));
    request.extensions_mut().insert(WaitForReady(true));
    request.set_timeout(limit);
    echo(channel, request).await.map(drop)
}

/// The n-th wait, from the start of one attempt to that of the next, before jitter.
fn nominal(n: usize) -> f64 {
    1.6_f64.powi(n as i32).min(120.0)
}

/// Row 21.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn peers_that_accept_and_are_none() {
    let bad = [
        ("close", faults::close_at_once(), 0.0),
        ("reset", faults::reset_at_once(), 0.0),
        // An attempt lasts twenty seconds at least before it is given up.
        ("silence", faults::silence(), 20.0),
        ("HTTP/1.1", faults::http1(), 0.0),
        ("garbage", faults::garbage(7, 64), 0.0),
    ];
    let (mut ready, mut most, mut off) = (0, 0, 0);
    for (name, behaviour, least) in bad {
        let place = Place::of(behaviour);
        let channel = place.channel().build().expect("a channel");
        let mut states = channel.states();
        waiting(&channel, MINUTE).await.expect_err("nobody serves");
        end(channel).await;
        while let Some(state) = states.next().await {
            ready += usize::from(state == State::Ready);
        }
        let dials = place.dials();
        let gaps: Vec<f64> = dials
            .windows(2)
            .map(|two| (two[1] - two[0]).as_secs_f64())
            .collect();
        println!("{name}: {} dials, {gaps:.2?}", dials.len());
        for (n, gap) in gaps.iter().enumerate() {
            let (low, high) = (0.8 * nominal(n), 1.2 * nominal(n));
            let within = *gap >= low.max(least) - 0.01 && *gap <= high.max(least) + 0.05;
            off += usize::from(!within);
        }
        most = most.max(dials.len());
    }
    let measured = format!("{ready} / {most}; {off} waits outside of ± 20 %");
    row("21", measured, ready == 0 && most <= 9 && off == 0);
}

/// Row 22.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn a_backend_that_flaps() {
    // Nobody calls: no connection lives for a second, so each counts as a failure.
    let place = Place::of(Backend::new("flaps"));
    let channel = place.channel().build().expect("a channel");
    channel.connect().await.expect("it is up");
    flap(&place).await;
    let idle = place.dials().len();
    assert_eq!(channel.task_count(), 2, "balancer and resolver");
    end(channel).await;

    // An RPC proves each connection: the first redial is at once, and finds it down.
    let place = Place::of(Backend::new("flaps"));
    let channel = place.channel().build().expect("a channel");
    channel.connect().await.expect("it is up");
    let load = tokio::spawn({
        let channel = channel.clone();
        async move {
            loop {
                let _ = echo(&channel, text("hello")).await;
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    flap(&place).await;
    let busy = place.dials().len();
    load.abort();
    let _ = load.await;
    end(channel).await;
    // Two for each wait of at least 0.8 s.
    let bound = 2 * 75;
    let measured = format!("{idle} without RPCs, {busy} with");
    row("22", measured, idle <= 9 && busy <= bound);
}

/// Up for 50 ms, down for 50 ms, for a minute; down at last.
async fn flap(place: &Place) {
    let started = Instant::now();
    while started.elapsed() < MINUTE {
        place.up();
        sleep(SLACK).await;
        place.down().await;
        sleep(SLACK).await;
    }
}

/// Row 23.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn all_dead_and_back() {
    let trials = Size::asked().of(20, 100, 1_000);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut latest, mut stuck) = (Duration::ZERO, 0);
    for trial in 0..trials {
        let place = Place::of(Backend::new("back"));
        let channel = place.channel().build().expect("a channel");
        waiting(&channel, MINUTE).await.expect("it is up");
        place.down().await;
        sleep(Duration::from_millis(random.u64(..30_000))).await;
        let rpc = tokio::spawn({
            let channel = channel.clone();
            async move { waiting(&channel, Duration::from_secs(600)).await }
        });
        sleep(Duration::from_millis(random.u64(..30_000))).await;
        let failed = place.dials();
        let back = Instant::now();
        place.up();
        // Half of the applications know that the network is back.
        let told = trial % 2 == 0;
        if told {
            channel.reset_backoff();
        }
        match rpc.await.expect("no panic") {
            Err(_) => stuck += 1,
            Ok(()) => {
                let took = back.elapsed();
                // The dials after the one that was served: each failed one has had its wait.
                let last = *failed.last().expect("it was dialled");
                let wait = nominal(failed.len() - 2) * 1.2;
                let due = last + Duration::from_secs_f64(wait);
                let left = if told {
                    Duration::ZERO
                } else {
                    due.saturating_duration_since(back)
                };
                latest = latest.max(took.saturating_sub(left));
            }
        }
        end(channel).await;
    }
    let measured = format!("at most {latest:?} later, {stuck} of {trials} stuck");
    row("23", measured, latest <= SLACK && stuck == 0);
}

/// Row 25.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn retries_while_everything_fails() {
    let rpcs = Size::asked().of(2_000, 20_000, 100_000);
    let place = Place::of(Backend::new("sick").answer(Answer::trailers_only(14, "not now")));
    let config = r#"{"loadBalancingConfig":[{"round_robin":{}}],
        "retryThrottling":{"maxTokens":100,"tokenRatio":0.1},
        "methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.01s",
        "maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
    let channel = place.channel().default_service_config(config);
    let channel = channel.build().expect("a channel");
    for _ in 0..100 {
        let _ = echo(&channel, text("hello")).await;
    }
    let before = place.server.journal().streams();
    for _ in 0..rpcs {
        echo(&channel, text("hello")).await.expect_err("it is sick");
    }
    let attempts = place.server.journal().streams() - before;
    end(channel).await;
    let each = attempts as f64 / rpcs as f64;
    let measured = format!("{each:.4} over {rpcs} RPCs, {before} in the first 100");
    row("25", measured, each <= 1.01 && before > 100);
}

/// Counts.
struct Counting(Arc<AtomicUsize>);

impl Resolver for Counting {
    fn resolve(&self) -> BoxFuture<'static, Result<Resolution, ResolveError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let three = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(Endpoint::from);
        Box::pin(std::future::ready(Ok(Resolution::new(three))))
    }
}

/// Row 27.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn resolutions_while_all_is_down() {
    let place = Place::of(Backend::new("down"));
    place.down().await;
    let count = Arc::new(AtomicUsize::new(0));
    let channel = Channel::builder("dns:///all.down")
        .plaintext()
        .resolver(Counting(count.clone()))
        .dialer(Arc::new(To(place.clone())))
        .default_service_config(ROUND_ROBIN)
        .build()
        .expect("a channel");
    let ten = waiting(&channel, 10 * MINUTE).await;
    ten.expect_err("all is down");
    end(channel).await;
    let asked = count.load(Ordering::SeqCst);
    let dials = place.dials().len();
    let measured = format!("{asked}, for {dials} dials");
    row("27", measured, (2..=20).contains(&asked));
}
