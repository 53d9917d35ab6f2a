//! What runs in the client's process: two loads, and somebody who looks at its memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use balancer_api::{Endpoint, ResolveError};
use balancer_channel::{Channel, ManualResolver, Resolution};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{
    client::{CLIENT, SAYS},
    wire::{Failed, News, Order, Sample, Summary, now_ms},
};
use crate::{
    backends::{end, impatient},
    leaks::{descriptors, resident, tasks},
    load::paced,
    support::{
        Kind, backend,
        cut::{Cut, Cutting},
        echo, rpc, text,
    },
};

/// RPCs per second in which nothing is cancelled, so that each can be accounted for.
const STEADY: u32 = 600;

/// RPCs per second of all kinds, of which some are dropped on the way and some have too little time.
const ROUGH: u32 = 400;

/// How often a channel is made, used and dropped besides.
const BRIEF: Duration = Duration::from_secs(1);

/// How often memory is looked at.
const SAMPLED: Duration = Duration::from_secs(5);

/// The time that RPCs of [`Kind::ClientStreaming`] have.
const LITTLE: Duration = Duration::from_millis(15);

/// The shortest that gRPC allows, for peers that have frozen.
const KEEPALIVE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Shared {
    began: Instant,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

struct Seen {
    answered: BTreeMap<String, usize>,
    summary: Summary,
    /// How many RPCs of the steady load took so many milliseconds; the last place is for more.
    took: Vec<usize>,
    random: fastrand::Rng,
}

/// Not a test: what the client's process runs. Ends when it is told, or when its parent does.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "started by row 38"]
async fn a_client_in_a_process_of_its_own() {
    let Ok(seed) = std::env::var(CLIENT) else {
        return;
    };
    let shared = Arc::new(Shared {
        began: Instant::now(),
        stop: AtomicBool::new(false),
        seen: Mutex::new(Seen {
            answered: BTreeMap::new(),
            summary: Summary::default(),
            took: vec![0; 20_000],
            random: fastrand::Rng::with_seed(seed.parse().expect("a number")),
        }),
    });
    let resolvers = [ManualResolver::silent(), ManualResolver::silent()];
    let [steady, rough] = [&resolvers[0], &resolvers[1]].map(channel);
    // A channel that knows no address yet fails with its resolver: this one does not.
    let brief = ManualResolver::silent();
    let loads = [
        tokio::spawn(steady_load(shared.clone(), steady.clone())),
        tokio::spawn(rough_load(shared.clone(), rough.clone())),
        tokio::spawn(brief_channels(shared.clone(), brief.clone())),
        tokio::spawn(watched(shared.clone())),
    ];
    let mut orders = lines();
    while let Some(order) = orders.recv().await {
        match serde_json::from_str(&order).expect("an order") {
            Order::Resolve {
                steady,
                rough,
                policy,
            } => {
                resolvers[0].update(Ok(found(&steady, &policy)));
                brief.update(Ok(found(&rough, &policy)));
                resolvers[1].update(Ok(found(&rough, &policy)));
            }
            Order::Unresolved(why) => {
                for resolver in &resolvers {
                    resolver.update(Err(ResolveError::new(why.clone())));
                }
            }
            Order::EnterIdle => {
                steady.enter_idle();
                rough.enter_idle();
            }
            Order::End => break,
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.expect("a load must not panic");
    }
    end(steady).await;
    end(rough).await;
    let mut seen = shared.seen();
    seen.summary.tail = seen.tail();
    say(&News::End(std::mem::take(&mut seen.summary)));
}

/// What comes in, until the parent ends. Read by a thread that nobody waits for.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (lines, inbox) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    inbox
}

fn channel(resolver: &ManualResolver) -> Channel {
    Channel::builder("passthrough:///soak")
        .plaintext()
        .resolver(resolver.clone())
        .keepalive(KEEPALIVE, TIMEOUT, false)
        .backoff(impatient())
        .build()
        .expect("a channel")
}

fn found(addresses: &[SocketAddr], policy: &str) -> Resolution {
    let endpoints = addresses
        .iter()
        .map(|addr| Endpoint::from(addr.to_string().as_str()));
    let little = LITTLE.as_secs_f64();
    Resolution::new(endpoints).with_service_config(format!(
        r#"{{"loadBalancingConfig":[{{"{policy}":{{}}}}],"methodConfig":[
            {{"name":[{{"service":"test.Echo","method":"Collect"}}],"timeout":"{little}s"}}]}}"#
    ))
}

async fn steady_load(shared: Arc<Shared>, channel: Channel) {
    let going = || !shared.stop.load(Ordering::Relaxed);
    paced(STEADY, going, |rpcs| {
        shared.seen().summary.begun += 1;
        rpcs.spawn(steady_rpc(shared.clone(), channel.clone()));
    })
    .await;
}

async fn steady_rpc(shared: Arc<Shared>, channel: Channel) {
    let begun = Instant::now();
    match echo(&channel, text("hello")).await {
        Ok(response) => {
            let millis = usize::try_from(begun.elapsed().as_millis()).unwrap_or(usize::MAX);
            let mut seen = shared.seen();
            let last = seen.took.len() - 1;
            seen.took[millis.min(last)] += 1;
            *seen.answered.entry(backend(&response)).or_default() += 1;
        }
        Err(status) => say_failed(true, &status),
    }
}

async fn rough_load(shared: Arc<Shared>, channel: Channel) {
    let going = || !shared.stop.load(Ordering::Relaxed);
    paced(ROUGH, going, |rpcs| {
        let mut seen = shared.seen();
        seen.summary.begun += 1;
        let kind = Kind::ALL[seen.random.usize(..Kind::ALL.len())];
        let cut = match seen.random.bool() {
            true => Cut {
                polls: seen.random.usize(..8),
                woken: seen.random.bool(),
                eager: seen.random.bool(),
            },
            false => Cut::NEVER,
        };
        rpcs.spawn(rough_rpc(shared.clone(), channel.clone(), kind, cut));
    })
    .await;
}

async fn rough_rpc(shared: Arc<Shared>, channel: Channel, kind: Kind, cut: Cut) {
    let begun = Instant::now();
    let hello = text("hello");
    match cut.short(rpc(&channel, kind, &hello)).await {
        Cutting::Dropped => shared.seen().summary.cancelled += 1,
        Cutting::Ended(Ok(()), _) => {}
        Cutting::Ended(Err(status), _) => {
            let timed = kind == Kind::ClientStreaming && begun.elapsed() >= LITTLE;
            match status.code() {
                Code::DeadlineExceeded if timed => shared.seen().summary.late += 1,
                _ => say_failed(false, &status),
            }
        }
    }
}

/// Channels that live for one RPC, which may fail as those of the rough load may.
async fn brief_channels(shared: Arc<Shared>, resolver: ManualResolver) {
    while !shared.stop.load(Ordering::Relaxed) {
        let brief = channel(&resolver);
        if let Err(status) = rpc(&brief, Kind::ServerStreaming, &text("hello")).await {
            say_failed(false, &status);
        }
        drop(brief);
        tokio::time::sleep(BRIEF).await;
    }
}

async fn watched(shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(SAMPLED).await;
        let at_ms = u64::try_from(shared.began.elapsed().as_millis()).expect("not for ever");
        say(&News::Sample(Sample {
            at_ms,
            resident_kib: resident() / 1024,
            descriptors: descriptors() as u64,
            tasks: tasks() as u64,
        }));
        let answered = std::mem::take(&mut shared.seen().answered);
        say(&News::Answered(answered));
    }
}

fn say_failed(steady: bool, status: &Status) {
    say(&News::Failed(Failed {
        steady,
        code: status.code().into(),
        message: status.message().to_owned(),
        ended_ms: now_ms(),
    }));
}

fn say(news: &News) {
    println!("{SAYS}{}", serde_json::to_string(news).expect("JSON"));
}

// === impl Shared ===

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic under it")
    }
}

// === impl Seen ===

impl Seen {
    /// What 99.9 % did not take longer than.
    fn tail(&self) -> Duration {
        let all: usize = self.took.iter().sum();
        let mut left = all / 1_000;
        for (millis, count) in self.took.iter().enumerate().rev() {
            if *count > left {
                return Duration::from_millis(millis as u64 + 1);
            }
            left -= count;
        }
        Duration::ZERO
    }
}
