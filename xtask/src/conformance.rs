//! `cargo xtask conformance`: a crate's `conformance!` suites, as its tests run them or much deeper.

mod find;
mod suite;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::report::Outcome;
use crate::workspace::Workspace;

use find::Tested;

/// Runs the `conformance!` suites of a crate and says what they did.
///
/// Plain, it runs them as the crate's tests do. With `--deep` it builds for release, walks every script
/// of six events (seven for `balancer-roundrobin` and `balancer-pickfirst`) and draws fifty times as
/// many random scripts, which are longer. The settings go to the kit as `BALANCER_KIT_*` variables:
/// those that are set already and that no flag names stay as they are.
#[derive(Debug, Args)]
pub struct Options {
    /// A member of the workspace by its name, or the directory of any crate. Without it: every member
    /// that uses `conformance!`.
    #[arg(value_name = "CRATE")]
    krate: Option<String>,
    /// Release, deeper, more and longer random scripts.
    #[arg(long)]
    deep: bool,
    /// Events of the exhaustive exploration. Each one more takes some twelve times as long.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10))]
    depth: Option<u64>,
    /// Random scripts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    cases: Option<u64>,
    /// First seed of the random scripts.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// How the suites are built and what they are told.
#[derive(Debug, Clone, Default)]
struct Plan {
    release: bool,
    /// Worth a slower build: the run takes minutes.
    optimize: bool,
    /// `BALANCER_KIT_*` by the name after the prefix.
    knobs: Vec<(&'static str, u64)>,
}

/// The crates of which a deep run is one event deeper: the policies that everybody uses.
const DEEPER: &[&str] = &["balancer-roundrobin", "balancer-pickfirst"];

/// What a deep run does, unless a flag says otherwise.
const DEEP: u64 = 6;
const DEEP_CASES: u64 = 20_000;
const DEEP_LENGTH: u64 = 120;

/// What CI has the time for: a tenth of the deep run's scripts and less.
const CI_DEPTH: u64 = 5;
const CI_CASES: u64 = 2_000;

/// The crates that CI looks deeper into; the plain tests of the others are part of the step `test`.
const CI_CRATES: &[&str] = &[
    "balancer-roundrobin",
    "balancer-pickfirst",
    "balancer-guide",
];

/// Runs the command.
///
/// # Errors
/// A law was broken (the shortest script has been printed), there is no such crate, it has no suite,
/// or it does not build.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let crates = find::crates(workspace, options.krate.as_deref())?;
    suites(workspace, &crates, |tested| options.plan(&tested.name))
}

/// The deep run at the size that CI can pay for.
///
/// # Errors
/// As [`run`].
pub fn run_what_fits_ci(workspace: &Workspace) -> Result<Outcome> {
    let mut crates = find::crates(workspace, None)?;
    crates.retain(|tested| CI_CRATES.contains(&tested.name.as_str()));
    if crates.len() < CI_CRATES.len() {
        bail!("each of {} must use `conformance!`", CI_CRATES.join(", "));
    }
    suites(workspace, &crates, |_| Plan {
        release: true,
        optimize: false,
        knobs: vec![("DEPTH", CI_DEPTH), ("CASES", CI_CASES)],
    })
}

/// Random scripts of these crates' suites, from a seed that nobody has seen, and little else.
///
/// # Errors
/// As [`run`].
pub fn random(workspace: &Workspace, names: &[&str], cases: u64) -> Result<Outcome> {
    let mut crates = find::crates(workspace, None)?;
    crates.retain(|tested| names.contains(&tested.name.as_str()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // Any number will do, as long as it is printed; the kit does.
    let seed = now.map_or(0, |now| now.as_secs() << 20);
    suites(workspace, &crates, |_| Plan {
        release: true,
        optimize: false,
        knobs: vec![("DEPTH", 1), ("CASES", cases), ("SEED", seed)],
    })
}

fn suites(
    workspace: &Workspace,
    crates: &[Tested],
    plan: impl Fn(&Tested) -> Plan,
) -> Result<Outcome> {
    let mut lines = Vec::new();
    let mut broken = 0;
    for tested in crates {
        let plan = plan(tested);
        let programs = suite::build(workspace, tested, &plan)?;
        let mut any = false;
        for program in &programs {
            for suite in program.suites()? {
                any = true;
                let started = Instant::now();
                println!("\n{}, {}: {suite}", tested.name, program.test());
                println!("  {}", plan.describe());
                let ran = program.run(&suite, &plan)?;
                let failed = ran.failed();
                broken += usize::from(failed > 0);
                let verdict = match failed {
                    0 => "ok".to_owned(),
                    count => format!("{count} families FAILED"),
                };
                let seconds = started.elapsed().as_secs_f64();
                println!("  {} families, {verdict}, {seconds:.1} s", ran.families());
                let place = format!("{} {}", tested.name, program.place(&suite));
                lines.push(format!("{place:<64} {seconds:>7.1} s  {verdict}"));
            }
        }
        if !any {
            bail!("{}: {}", tested.name, find::NO_SUITE);
        }
    }
    if lines.len() > 1 {
        println!();
        lines.iter().for_each(|line| println!("{line}"));
    }
    match broken {
        0 => Ok(Outcome::pass()),
        count => bail!("{count} of {} suites broke a law", lines.len()),
    }
}

// === impl Options ===

impl Options {
    fn plan(&self, krate: &str) -> Plan {
        let mut knobs = Vec::new();
        let depth = if DEEPER.contains(&krate) {
            DEEP + 1
        } else {
            DEEP
        };
        let mut knob = |name, flag: Option<u64>, deep| {
            if let Some(value) = flag.or(self.deep.then_some(deep)) {
                knobs.push((name, value));
            }
        };
        knob("DEPTH", self.depth, depth);
        knob("CASES", self.cases, DEEP_CASES);
        knob("LENGTH", None, DEEP_LENGTH);
        if let Some(seed) = self.seed {
            knobs.push(("SEED", seed));
        }
        Plan {
            release: self.deep,
            optimize: self.deep,
            knobs,
        }
    }
}

// === impl Plan ===

impl Plan {
    fn describe(&self) -> String {
        let build = if self.release { "release" } else { "debug" };
        let knobs = self.knobs.iter();
        let knobs = knobs.map(|(name, value)| format!(", {} {value}", name.to_lowercase()));
        format!("{build}{}", knobs.collect::<String>())
    }
}

/// The directory that a path names, made absolute.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}
