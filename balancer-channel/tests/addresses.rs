//! What a very long list of addresses costs.

mod support;

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use balancer_api::{Dialer, Endpoint, Io};
use balancer_channel::{
    Channel, ManualResolver,
    ledger::{Held, watch},
};

use support::harness::given_back;

/// The longest list.
const MANY: usize = 100_000;

/// Before and after.
const FEW: usize = 10;

/// Dials that never end: nobody is READY, and nobody fails.
struct Nowhere;

#[async_trait::async_trait]
impl Dialer for Nowhere {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        std::future::pending().await
    }
}

fn list(count: usize) -> Vec<Endpoint> {
    let address = |n: usize| format!("10.{}.{}.{}:443", n >> 16, n >> 8 & 255, n & 255);
    (0..count)
        .map(|n| Endpoint::from(address(n).as_str()))
        .collect()
}

/// What this thread has used of a processor; of the clock, where nobody says.
fn used(started: Instant) -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    nanos.map_or_else(|| started.elapsed(), Duration::from_nanos)
}

/// What a list cost.
struct Cost {
    /// What each address had taken when all had come to rest, in bytes.
    each: i64,
    /// What was left of that when there were few again, in KiB.
    left: i64,
    /// The least that it took to go there and back.
    took: [Duration; 2],
}

/// Row 26.
#[test]
#[ignore = "a row of cargo xtask reliability"]
fn a_hundred_thousand_at_once() {
    let Cost { each, left, took } = from_few_to(MANY, 5);
    let [up, down] = took.map(|took| took.as_secs_f64() * 1e3);
    let measured = format!(
        "{up:.0} ms / {each} bytes each; back to {FEW} in {down:.0} ms, with {left} KiB more than before; release build"
    );
    let pass = up <= 100.0 && each <= 1024 && left <= 64;
    let verdict = if pass { "PASS" } else { "FAIL" };
    println!("row\t26\t{measured}\t{verdict}");
    assert!(pass, "row 26 missed its goal: {measured}");
}

#[test]
fn a_long_list_is_paid_for_while_it_lasts() {
    // Sizes for which the tables have much room to spare, and hardly any.
    for many in [14_330, 28_600] {
        let Cost { left, .. } = from_few_to(many, 0);
        assert!(left <= 64, "{left} KiB are left of {many}");
    }
    let Cost { each, left, .. } = from_few_to(MANY / 10, 1);
    println!("{each} bytes each, {left} KiB left");
    assert!(each <= 1024, "{each} bytes for each address");
    assert!(left <= 64, "{left} KiB are left of it");
}

/// To a long list and back, so often. On one thread, in virtual time: when the test goes on, everything
/// else has come to rest.
fn from_few_to(many: usize, rounds: usize) -> Cost {
    // Leaks: looked for at the end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let watch = watch(runtime.handle());
    let resolver = ManualResolver::new(list(FEW));
    let channel = {
        let _entered = runtime.enter();
        let channel = Channel::builder("dns:///many")
            .plaintext()
            .resolver(resolver.clone())
            .dialer(Arc::new(Nowhere))
            .max_endpoints(many)
            .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#);
        channel.build().expect("a channel")
    };
    let resolve = |endpoints| {
        resolver.set_endpoints(endpoints);
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    };
    let sub_conns = || channel.snapshot().sub_conns.len();
    channel.state(true);
    resolve(list(FEW));
    assert_eq!(sub_conns(), FEW);

    // The best of some: another program's use of the caches is no part of a list.
    let mut took = [Duration::MAX; 2];
    let grown = allocation_counter::measure(|| resolve(list(many)));
    let shrunk = allocation_counter::measure(|| {
        resolve(list(FEW));
        for _ in 0..rounds {
            for (took, count) in took.iter_mut().zip([many, FEW]) {
                let endpoints = list(count);
                let started = Instant::now();
                let before = used(started);
                resolve(endpoints);
                *took = (*took).min(used(started).saturating_sub(before));
                assert_eq!(sub_conns(), count);
            }
        }
    });
    let each = grown.bytes_current / many as i64;
    let left = (grown.bytes_current + shrunk.bytes_current) / 1024;

    runtime.block_on(channel.close());
    let end = runtime.block_on(given_back(&watch, Duration::from_secs(10)));
    assert_eq!(end, Held::default());
    Cost { each, left, took }
}
