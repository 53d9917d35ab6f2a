//! How many scripted events per second one core runs, with the safety laws on.

use std::time::Instant;

use balancer_testkit::{Law, LawSet, Profile, search};

fn main() {
    let laws = LawSet::all().without(Law::Liveness);
    for (builder, profile) in [
        (balancer_roundrobin::builder(), Profile::exact()),
        (balancer_pickfirst::builder(), Profile::sticks().lazy()),
    ] {
        for length in [40, 400] {
            let name = builder.name().to_owned();
            let start = Instant::now();
            let done = search(builder.clone(), &profile, laws, 1, 400_000 / length, length);
            let took = start.elapsed();
            if let Some((seed, failure)) = &done.failure {
                println!("{name}: seed {seed}:\n{failure}");
            }
            println!(
                "{name}: {} events in {} scripts of up to {length}: {:.2} million per second",
                done.events,
                done.scripts,
                done.events as f64 / took.as_secs_f64() / 1e6
            );
        }
    }
}
