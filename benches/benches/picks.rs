//! Choosing a backend: ours, after a load of the current picker too, and with features others, from
//! two backends to a hundred thousand and from one thread to sixteen.

#![forbid(unsafe_code)]

use std::time::Duration;

use benches::picks;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn by_size(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for &backends in sizes() {
        let mut bench = |name: &str, pick: Box<dyn Fn() -> bool>| {
            let id = BenchmarkId::new(name, backends);
            group.bench_function(id, |bencher| bencher.iter(&pick));
        };
        bench("ours", Box::new(picks::ours(backends, 0)));
        bench("loaded", Box::new(picks::ours_loaded(backends, 0)));
        let lost = (backends / 4).min(256);
        bench("some_lost", Box::new(picks::ours(backends, lost)));
        #[cfg(feature = "rivals")]
        bench("tower_p2c", Box::new(picks::tower_p2c(backends)));
        #[cfg(feature = "pingora")]
        bench("pingora", Box::new(picks::pingora(backends)));
    }
    group.finish();
}

/// Time per pick of all threads together: half of one thread's is perfect scaling on two processors.
fn by_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_at_once");
    for threads in [1, 2, 4, 8, 16] {
        group.bench_function(BenchmarkId::new("ours", threads), |bencher| {
            bencher.iter_custom(|picks| spent(threads, picks, picks::ours(1_000, 0)));
        });
        group.bench_function(BenchmarkId::new("counting", threads), |bencher| {
            bencher.iter_custom(|picks| spent(threads, picks, picks::counting()));
        });
        group.bench_function(BenchmarkId::new("fetch_add", threads), |bencher| {
            bencher.iter_custom(|picks| spent(threads, picks, picks::fetch_add()));
        });
    }
    group.finish();
}

fn spent(threads: usize, picks: u64, pick: impl Fn() -> bool + Sync) -> Duration {
    // Enough for a thread to be worth its start.
    let count = usize::try_from(picks).unwrap_or(usize::MAX).max(10_000);
    let each = picks::time(threads, count, 0, pick);
    Duration::from_nanos((each * picks as f64) as u64)
}

/// All sizes where time is measured, and the small ones where only that it works.
fn sizes() -> &'static [usize] {
    let all = &[1, 2, 100, 1_000, 10_000, 100_000];
    let measured = std::env::args().any(|argument| argument == "--bench");
    if measured { all } else { &all[..2] }
}

criterion_group!(
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = by_size, by_threads
);
criterion_main!(benches);
