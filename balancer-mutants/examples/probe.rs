//! Tries the finders on the shipped policies and says how fast they are.
use balancer_testkit::{LawSet, Profile, explore, search};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let depth: usize = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(4);
    let scripts: usize = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let threads: usize = args.get(3).and_then(|a| a.parse().ok()).unwrap_or(1);
    for (builder, profile) in [
        (
            balancer_roundrobin::builder(),
            Profile::exact().either_mode(),
        ),
        (balancer_pickfirst::builder(), Profile::sticks().lazy()),
    ] {
        println!("== {}", builder.name());
        let at = Instant::now();
        let found = explore(builder.clone(), &profile, LawSet::all(), depth, threads);
        let took = at.elapsed();
        println!(
            "explore: {} scripts, {} events, {} renamed, {took:?}, {:.0} events/s",
            found.scripts,
            found.events,
            found.renamed,
            found.events as f64 / took.as_secs_f64()
        );
        if let Some(failure) = found.failure {
            println!("{failure}");
        }
        let at = Instant::now();
        let found = search(builder, &profile, LawSet::all(), 1, scripts, 40);
        let took = at.elapsed();
        println!(
            "search: {} scripts, {} events, {took:?}, {:.0} events/s",
            found.scripts,
            found.events,
            found.events as f64 / took.as_secs_f64()
        );
        if let Some((seed, failure)) = found.failure {
            println!("seed {seed}\n{failure}");
        }
    }
}
