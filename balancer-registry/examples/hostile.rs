//! How long the worst service configs take to parse: `cargo run --release --example hostile [PART OF A NAME]`.
//!
//! Prints the fastest of many runs for each text of the corpus that the tests use too: what the
//! parsing costs, without what else the machine does meanwhile. Fails if one takes longer than 5 ms.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Instant};

use balancer_registry::{Registry, ServiceConfig};
use support::{corpus::corpus, registry};

const GOAL_US: u128 = 5_000;
const RUNS: usize = 50;

fn main() -> ExitCode {
    let mut worst = (0, "");
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, text) in corpus() {
        if !name.contains(&wanted) {
            continue;
        }
        // A new registry for each run: nothing is remembered from the run before.
        let runs = (0..RUNS).map(|_| timed(&text, &registry()));
        let (micros, is_valid) = runs.min().unwrap_or_default();
        let verdict = if is_valid { "valid" } else { "invalid" };
        println!(
            "{micros:>8} us  {:>9} bytes  {verdict:<8} {name}",
            text.len()
        );
        worst = worst.max((micros, name));
    }
    let (micros, name) = worst;
    let verdict = if micros <= GOAL_US { "PASS" } else { "FAIL" };
    println!("{micros} us, goal {GOAL_US} us: {verdict} ({name})");
    ExitCode::from(u8::from(micros > GOAL_US))
}

fn timed(text: &[u8], registry: &Registry) -> (u128, bool) {
    let start = Instant::now();
    let parsed = ServiceConfig::parse(text, registry);
    (start.elapsed().as_micros(), parsed.is_ok())
}
