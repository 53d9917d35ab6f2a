//! How many scripted events per second one core runs, with the safety laws on; and how many whole
//! scripts of the exhaustive exploration, with all laws.
//!
//! Arguments, both optional: how many events a round takes, and one policy's name.

use std::time::Duration;

use balancer_testkit::{Law, LawSet, Profile, explore, search};
use cpu_time::ThreadTime;

const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let total: usize = arguments
        .next()
        .map_or(400_000, |count| count.parse().expect("a number of events"));
    let only = arguments.next();
    let laws = LawSet::all().without(Law::Liveness);
    for (builder, profile) in [
        (balancer_roundrobin::builder(), Profile::exact()),
        (balancer_pickfirst::builder(), Profile::sticks().lazy()),
    ] {
        let name = builder.name().to_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        for length in [40, 400] {
            let mut events = 0;
            let rounds = measured(|| {
                let done = search(builder.clone(), &profile, laws, 1, total / length, length);
                if let Some((seed, failure)) = &done.failure {
                    println!("{name}: seed {seed}:\n{failure}");
                }
                events = done.events;
            });
            println!(
                "{name}: {events} events in random scripts of up to {length}: {}",
                shown(&rounds, events, "events")
            );
        }
        let mut scripts = 0;
        let rounds = measured(|| {
            scripts = explore(builder.clone(), &profile, LawSet::all(), 4, 1).scripts;
        });
        println!(
            "{name}: every script of up to 4 events, {scripts} of them: {}",
            shown(&rounds, scripts, "scripts")
        );
    }
}

/// How much time of its core each round took, the shortest first.
fn measured(mut round: impl FnMut()) -> Vec<Duration> {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = ThreadTime::now();
            round();
            start.elapsed()
        })
        .collect();
    rounds.sort();
    rounds
}

fn shown(rounds: &[Duration], count: usize, what: &str) -> String {
    let speed = |took: Duration| count as f64 / took.as_secs_f64() / 1e6;
    format!(
        "{:.2} million {what} per second ({:.2} in the best of {ROUNDS} rounds)",
        speed(rounds[ROUNDS / 2]),
        speed(rounds[0])
    )
}
