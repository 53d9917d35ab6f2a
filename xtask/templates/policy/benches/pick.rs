//! What one pick costs, by how many backends are READY.

use balancer_api::PickOptions;
use balancer_testkit::Script;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use balancer_taking_turns::builder;

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for backends in [1, 10, 1_000] {
        let names: Vec<_> = (0..backends).map(|n| format!("s{n}")).collect();
        let mut conn = Script::start(builder(), &names);
        conn.batch(|conn| {
            for name in &names {
                conn.ready(name);
            }
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
