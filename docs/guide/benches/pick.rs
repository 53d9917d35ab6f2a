//! Step 10: what one pick costs, with its end, by how many backends are READY.

use balancer_api::PickOptions;
use balancer_testkit::Script;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for backends in [1, 10, 1_000] {
        let names: Vec<_> = (0..backends).map(|n| format!("s{n}")).collect();
        let mut conn = Script::start(balancer_guide::cautious::builder(), &names);
        conn.batch(|conn| {
            names.iter().for_each(|name| {
                conn.ready(name);
            });
        });
        let picker = conn.picker();
        let options = PickOptions::new("/greeter.Greeter/Greet");
        group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
            bencher.iter(|| picker.pick(&options).is_ok());
        });
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
