//! Row 38: half an hour of load while something always goes wrong, and what is left of it.
//!
//! The client is a process of its own, of whose memory nobody else has a part; backends, relays and the
//! faults are here. Each failed RPC has to be explained by a fault that may cost RPCs.

mod client;
mod explained;
mod load;
mod trend;
mod wire;
mod world;

use std::time::{Duration, Instant};

use crate::report::{Size, row};
use client::Client;
use explained::Costs;
use trend::Trend;
use world::World;

/// How much more memory an hour may take, in KiB.
const SLOPE: f64 = 1024.0;

/// What descriptors and tasks may differ by, from the first third to the last: what is under way does.
const UNDER_WAY: f64 = 8.0;

/// Row 38.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
#[ignore = "a row of cargo xtask reliability"]
async fn half_an_hour_of_chaos() {
    trend::shows_what_it_is_for();
    let minutes = Size::asked().of(1, 2, 30);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::start(4).await;
    let mut client = Client::start(random.u64(..), &world).await;
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut costs = Costs::default();
    // Each kind of fault once, then at random.
    for n in 0.. {
        world.fault(n, &mut random, &mut client, &mut costs).await;
        if Instant::now() > end {
            break;
        }
        client
            .listen(Duration::from_millis(random.u64(100..1_500)))
            .await;
    }
    let heard = client.end().await;
    let verdict = costs.judge(&heard, &world);
    let memory = Trend::of(&heard.samples, |sample| sample.resident_kib);
    let descriptors = Trend::of(&heard.samples, |sample| sample.descriptors);
    let tasks = Trend::of(&heard.samples, |sample| sample.tasks);
    println!("memory {memory:?}\ndescriptors {descriptors:?}\ntasks {tasks:?}");
    for unexplained in verdict.unexplained.iter().take(10) {
        println!("unexplained: {unexplained}");
    }
    let slope = match minutes {
        30.. => format!("{:.2} MiB/h", memory.per_hour / 1024.0),
        _ => "too short for a slope".to_owned(),
    };
    let measured = format!(
        "{slope}, {:.0} MiB in the end / {} of {} RPCs; explained: {} by {costs}; {:+.0} descriptors, {:+.0} tasks; p99.9 {:.0} ms",
        memory.last / 1024.0,
        verdict.unexplained.len(),
        heard.begun,
        verdict.explained,
        descriptors.grown(),
        tasks.grown(),
        heard.tail.as_secs_f64() * 1e3,
    );
    let level = descriptors.grown() <= UNDER_WAY && tasks.grown() <= UNDER_WAY;
    let flat = minutes < 30 || memory.per_hour < SLOPE;
    row(
        "38",
        measured,
        verdict.unexplained.is_empty() && level && flat,
    );
}
