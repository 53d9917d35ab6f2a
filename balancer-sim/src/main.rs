//! Lets worlds happen, in two processes, and prints the story of one that broke a law.
#![forbid(unsafe_code)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use balancer_sim::{Fault, Hits, Report, Sabotage};
use clap::Parser;

/// The whole channel in virtual time: one world for each seed, every law looked at throughout.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask sim-channel")]
struct Options {
    /// How many worlds.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    seeds: u64,
    /// The first seed; the others follow.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// The world of this seed alone.
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print the story while it happens.
    #[arg(long)]
    story: bool,
    /// Print nothing but the hash of each world: what the second process is for.
    #[arg(long, hide = true)]
    hashes: bool,
    /// Break a part on purpose, to see what a broken law looks like.
    #[arg(long, hide = true, value_parser = sabotage)]
    sabotage: Option<Sabotage>,
}

/// A kind of fault that hit fewer RPCs over a run was not tested by it.
const ENOUGH: u64 = 100;

/// Runs of fewer worlds are for looking at them, not for judging what they covered.
const A_RUN: u64 = 2_000;

/// What all worlds together were.
#[derive(Default)]
struct Sum {
    worlds: u64,
    calls: u64,
    picks: usize,
    events: usize,
    virtual_seconds: f64,
    hits: Hits,
}

fn sabotage(name: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL
        .into_iter()
        .find(|it| format!("{it:?}") == name);
    found.ok_or_else(|| format!("one of {:?}", Sabotage::ALL))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (from, seeds) = match options.seed {
        Some(seed) => (seed, 1),
        None => (options.from, options.seeds),
    };
    if options.hashes {
        for seed in from..from + seeds {
            println!("{:016x}", balancer_sim::run(seed, false).hash);
        }
        return ExitCode::SUCCESS;
    }
    let happen = |seed| match options.sabotage {
        Some(sabotage) => balancer_sim::run_sabotaged(seed, sabotage),
        None => balancer_sim::run(seed, options.story),
    };
    match run(from, seeds, options.story, &happen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("FAIL: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Lets the worlds happen here and in another process.
fn run(from: u64, seeds: u64, story: bool, happen: &dyn Fn(u64) -> Report) -> Result<(), String> {
    let started = Instant::now();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut other = Command::new(program)
        .args(["--hashes", "--from", &from.to_string()])
        .args(["--seeds", &seeds.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("no second process: {error}"))?;
    let hashes = other.stdout.take().ok_or("the second process is mute")?;
    let mut sum = Sum::default();
    let worlds = (from..from + seeds).map(happen);
    let compared = compare(worlds, story, BufReader::new(hashes), &mut sum);
    if compared.is_err() {
        // Nobody reads on.
        let _ = other.kill();
    }
    let ended = other.wait().map_err(|error| error.to_string())?;
    compared?;
    if !ended.success() {
        return Err(format!("the second process: {ended}"));
    }
    println!(
        "{} worlds of {:.0} virtual s: {} RPCs, {} picks, {} events, in {:.1} s; the same in two processes",
        sum.worlds,
        sum.virtual_seconds,
        sum.calls,
        sum.picks,
        sum.events,
        started.elapsed().as_secs_f64()
    );
    sum.judge()
}

/// Runs each world and holds its hash against the other process's.
fn compare(
    worlds: impl Iterator<Item = Report>,
    story: bool,
    hashes: impl BufRead,
    sum: &mut Sum,
) -> Result<(), String> {
    let mut hashes = hashes.lines();
    for report in worlds {
        let seed = report.seed;
        if let Some(violation) = &report.violation {
            if !story {
                print_story(&report);
            }
            return Err(format!("seed {seed}: {violation}\n{}", replay(seed)));
        }
        let hash = format!("{:016x}", report.hash);
        let theirs = hashes
            .next()
            .transpose()
            .map_err(|error| error.to_string())?;
        if theirs.as_ref() != Some(&hash) {
            let theirs = theirs.unwrap_or_else(|| "nothing".to_owned());
            let what = format!("seed {seed}: {hash} here, {theirs} in another process");
            return Err(format!("{what}\n{}", replay(seed)));
        }
        sum.add(&report);
    }
    Ok(())
}

fn print_story(report: &Report) {
    println!("the story of seed {}:", report.seed);
    for (at, line) in &report.story {
        println!("{:>12.6}  {line}", at.as_nanos() as f64 / 1e9);
    }
}

fn replay(seed: u64) -> String {
    format!("replay: cargo xtask sim-channel --seed {seed} --story")
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.calls += report.calls;
        self.picks += report.picks;
        self.events += report.events;
        self.virtual_seconds += report.lasted.as_secs_f64();
        self.hits.merge(&report.hits);
    }

    /// Prints how often each kind of fault hit, and fails when one was not tested.
    fn judge(&self) -> Result<(), String> {
        println!("\n{:>10}  fault that hit an RPC in flight", "RPCs");
        let mut rare = Vec::new();
        for fault in Fault::ALL {
            let hits = self.hits.of(fault);
            if hits > 0 || self.worlds >= A_RUN {
                println!("{hits:>10}  {}", fault.name());
            }
            if hits < ENOUGH {
                rare.push(fault.name());
            }
        }
        if self.worlds >= A_RUN && !rare.is_empty() {
            let rare = rare.join(", ");
            return Err(format!("fewer than {ENOUGH} RPCs were hit by: {rare}"));
        }
        Ok(())
    }
}
