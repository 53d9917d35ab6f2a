//! What `round_robin` pays for changes: to start, for a flap, for a list that it has already.

#![forbid(unsafe_code)]

use std::time::Duration;

use benches::{fleet::Fleet, random::Random};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn start(c: &mut Criterion) {
    for burst in [1, 128] {
        let mut group = c.benchmark_group(format!("start_{burst}_at_a_time"));
        for &backends in sizes() {
            // So that criterion also prints SubConns per second.
            group.throughput(Throughput::Elements(backends as u64));
            group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
                bencher.iter_batched(
                    || {
                        let mut fleet = Fleet::new(&*balancer_roundrobin::builder());
                        fleet.start(Fleet::backends(backends));
                        fleet
                    },
                    |mut fleet| {
                        fleet.bring_up(burst);
                        // Dropped outside of the time.
                        fleet
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn flap(c: &mut Criterion) {
    let mut group = c.benchmark_group("flap");
    for &backends in sizes() {
        let mut fleet = ready(backends);
        let mut random = Random::new(42);
        group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
            bencher.iter(|| fleet.flap(random.below(backends)));
        });
    }
    group.finish();
}

fn same_list(c: &mut Criterion) {
    let mut group = c.benchmark_group("same_list");
    for &backends in sizes() {
        let mut fleet = ready(backends);
        group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
            bencher.iter_batched(
                || Fleet::backends(backends),
                |list| fleet.resolve(list),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn ready(backends: usize) -> Fleet {
    let mut fleet = Fleet::new(&*balancer_roundrobin::builder());
    fleet.start(Fleet::backends(backends));
    fleet.bring_up(128);
    fleet
}

/// All sizes where time is measured, and the small one where only that it works.
fn sizes() -> &'static [usize] {
    let all = &[1_000, 10_000, 100_000];
    let measured = std::env::args().any(|argument| argument == "--bench");
    if measured { all } else { &all[..1] }
}

criterion_group!(
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = start, flap, same_list
);
criterion_main!(benches);
