//! `cargo xtask breaks`: each channel test is seen to fail when the rule it guards is broken on purpose.
//!
//! The tables of `xtask/breaks` say how a rule is broken and which tests must see it. All breaks are put
//! into a copy of the workspace at once, each behind a switch that is off; the copy is built once, and
//! each test runs with the switch of its rule on.

mod copy;
mod crew;
mod programs;
mod table;
mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::report::Outcome;
use crate::workspace::Workspace;
use copy::Copy;
use crew::share;
use programs::{Build, End, Programs, target};

pub use table::{Break, Place, TABLES, Wrong, load, parse};
pub use weave::{SWITCH, weave};

/// Breaks rules of the channel on purpose, one at a time, and runs the tests that guard them: each must
/// fail. Prints for each break how many tests saw it, then the tests that saw nothing, then those that
/// no break names.
///
/// Fails when a test passes in spite of its break, or fails without one, or no break names it.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Only breaks with this in their name; may be given more than once. Then tests that no break names
    /// are not looked for.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print the tests that no break names, and stop.
    #[arg(long, conflicts_with = "only")]
    missing: bool,
    /// Run all tests with this break on, and print those that fail; may be given more than once.
    #[arg(long, value_name = "BREAK", conflicts_with_all = ["only", "missing"])]
    explore: Vec<String>,
    /// With --missing and --explore: only tests of this target, as `core/machine`; may be given more
    /// than once.
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// How many tests run at once: four for each core unless it says otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
}

/// Most of the time goes by in tests that wait for what a broken rule keeps from coming. Without a break
/// they run as many at once, so none fails because of it.
const JOBS_PER_CORE: usize = 4;

/// How much a test that should pass and does not has to say.
const LAST_LINES: usize = 30;

/// A break and a test that must see it.
type Pair<'b> = (&'b Break, &'b str);

/// What became of the tests that a break names.
#[derive(Debug, Default)]
struct Count {
    failed: usize,
    hung: usize,
    took: Duration,
}

/// Runs the command.
///
/// # Errors
/// A table is wrong, the copy does not build, a test fails without a break or passes in spite of one, or
/// a test is named by none.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let (breaks, wrong) = load(workspace.root())?;
    all_right(&wrong)?;
    let root = workspace.root();
    let woven = weave(&breaks, |file| {
        std::fs::read_to_string(root.join(file)).ok()
    });
    let woven = woven.or_else(|wrong| all_right(&wrong).map(|()| BTreeMap::new()))?;
    let copy = Copy::make(workspace, woven)?;

    let jobs = match options.jobs {
        Some(jobs) => jobs.into(),
        None => JOBS_PER_CORE * std::thread::available_parallelism().map_or(2, usize::from),
    };
    if !options.explore.is_empty() {
        return explore(workspace, &copy, &breaks, options, jobs);
    }
    let wanted = |it: &&Break| {
        options.only.is_empty() || options.only.iter().any(|name| it.name.contains(name))
    };
    let chosen: Vec<&Break> = breaks.iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!(
            "--only: {}: must be part of a break's name",
            options.only.join(", ")
        );
    }
    let pairs: Vec<Pair<'_>> = chosen
        .iter()
        .flat_map(|it| it.fails.iter().map(|test| (*it, test.as_str())))
        .collect();
    let builds: BTreeSet<Build> = match options.only.is_empty() {
        true => Build::ALL.into(),
        false => pairs.iter().map(|(_, test)| Build::of(test)).collect(),
    };
    let programs = Programs::build(workspace, &copy, &builds)?;
    let missing = missing(&programs, &pairs, options);
    if options.missing {
        missing.iter().for_each(|test| println!("{test}"));
        println!("{} tests are named by no break", missing.len());
        return Ok(Outcome::pass());
    }
    all_right(&unknown(&programs, &pairs))?;
    baseline(&programs, &pairs, jobs)?;
    let survivors = judge(&programs, &chosen, &pairs, jobs)?;

    let mut failures = Vec::new();
    if survivors > 0 {
        failures.push(format!(
            "{survivors} pass in spite of the break they should see"
        ));
    }
    if options.only.is_empty() && !missing.is_empty() {
        println!("\nnamed by no break:");
        missing.iter().for_each(|test| println!("  {test}"));
        let count = missing.len();
        failures.push(format!(
            "{count} are named by no break: write one for each into a table of {TABLES}"
        ));
    }
    match failures.is_empty() {
        true => Ok(Outcome::pass()),
        false => bail!("tests {}", failures.join("; ")),
    }
}

/// Every break, as CI runs them.
///
/// # Errors
/// As [`run`].
pub fn run_all(workspace: &Workspace) -> Result<Outcome> {
    run(workspace, &Options::default())
}

fn all_right(wrong: &[Wrong]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.iter().map(|it| format!("\n  {it}")).collect();
    bail!("{} errors in the tables:{}", wrong.len(), lines.concat())
}

/// The tests that no break names.
fn missing<'p>(programs: &'p Programs, pairs: &[Pair<'_>], options: &Options) -> Vec<&'p String> {
    let named: BTreeSet<&str> = pairs.iter().map(|(_, test)| *test).collect();
    let missing = programs
        .tests()
        .iter()
        .filter(|test| !named.contains(test.as_str()) && options.has_target(test));
    missing.collect()
}

/// What the tables call a test, and is none.
fn unknown(programs: &Programs, pairs: &[Pair<'_>]) -> Vec<Wrong> {
    let known: BTreeSet<&str> = programs.tests().iter().map(String::as_str).collect();
    let unknown = pairs.iter().filter(|(_, test)| !known.contains(test));
    let wrong = unknown.map(|(of, test)| {
        of.wrong_in("fails", test, "must be a test, and one that is not ignored")
    });
    wrong.collect()
}

/// Runs each test that a break names with no break on: one that fails now proves nothing later.
fn baseline(programs: &Programs, pairs: &[Pair<'_>], jobs: usize) -> Result<()> {
    let tests: BTreeSet<&str> = pairs.iter().map(|(_, test)| *test).collect();
    let tests: Vec<&str> = tests.into_iter().collect();
    let ran = share(jobs, "nothing is broken", &tests, |test| {
        programs.run(test, None)
    })?;
    let mut failed = Vec::new();
    for (test, ran) in tests.iter().zip(ran) {
        if ran.end != End::Passed {
            println!("\n{test}: {} with no break on:", ran.end.word());
            let lines: Vec<&str> = ran.said.lines().collect();
            let last = lines.len().saturating_sub(LAST_LINES);
            lines[last..].iter().for_each(|line| println!("    {line}"));
            failed.push(*test);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("do not pass with no break on: {}", failed.join(", ")),
    }
}

/// Runs each test with its break on, and prints the tables; how many tests saw nothing.
fn judge(programs: &Programs, chosen: &[&Break], pairs: &[Pair<'_>], jobs: usize) -> Result<usize> {
    let ran = share(jobs, "one rule is broken", pairs, |(of, test)| {
        let ran = programs.run(test, Some(&of.name))?;
        // In the company of what is broken beside it: a test that fails by its neighbours saw nothing.
        if ran.end != End::Passed && programs.run(test, None)?.end != End::Passed {
            bail!("{test} fails beside {} without a break as well", of.name);
        }
        Ok(ran)
    })?;
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let mut survivors = Vec::new();
    for ((of, test), ran) in pairs.iter().zip(ran) {
        let count = counts.entry(&of.name).or_default();
        count.took += ran.took;
        match ran.end {
            End::Passed => survivors.push((of, test)),
            End::Failed => count.failed += 1,
            End::Hung => count.hung += 1,
        }
    }
    let width = chosen.iter().map(|it| it.name.len()).max().unwrap_or(0);
    println!("{:<width$}  seen by  hung  seconds  rule", "break");
    for it in chosen {
        let count = counts.remove(it.name.as_str()).unwrap_or_default();
        let (seen, seconds) = (count.failed + count.hung, count.took.as_secs_f64());
        let hung = match count.hung {
            0 => String::new(),
            hung => hung.to_string(),
        };
        println!(
            "{:<width$}  {seen:>7}  {hung:>4}  {seconds:>7.1}  {}",
            it.name, it.rule
        );
    }
    if !survivors.is_empty() {
        println!("\npass in spite of a break:");
        for (of, test) in &survivors {
            println!("  {} | {test}", of.name);
        }
    }
    let tests: BTreeSet<&str> = pairs.iter().map(|(_, test)| *test).collect();
    let seen = pairs.len() - survivors.len();
    println!(
        "\n{} breaks, {} tests: seen in {seen} of {} pairs",
        chosen.len(),
        tests.len(),
        pairs.len()
    );
    Ok(survivors.len())
}

/// Runs all tests with single breaks on, and prints those that do not pass.
fn explore(
    workspace: &Workspace,
    copy: &Copy,
    breaks: &[Break],
    options: &Options,
    jobs: usize,
) -> Result<Outcome> {
    for name in &options.explore {
        let known = breaks.iter().any(|it| it.name == *name);
        known
            .then_some(())
            .with_context(|| format!("--explore: {name}: must be a break"))?;
    }
    let builds = match options.target.is_empty() {
        true => [Build::Plain].into(),
        false => options
            .target
            .iter()
            .map(|target| Build::of(target))
            .collect(),
    };
    let programs = Programs::build(workspace, copy, &builds)?;
    let tests = programs
        .tests()
        .iter()
        .filter(|test| options.has_target(test));
    let tests: Vec<&String> = tests.collect();
    for name in &options.explore {
        let ran = share(jobs, name, &tests, |test| programs.run(test, Some(name)))?;
        println!("{name}");
        for (test, ran) in tests.iter().zip(ran) {
            if ran.end != End::Passed {
                println!("  {}: {test}", ran.end.word());
            }
        }
    }
    Ok(Outcome::pass())
}

// === impl Options ===

impl Options {
    fn has_target(&self, test: &str) -> bool {
        self.target.is_empty() || self.target.iter().any(|it| it == target(test))
    }
}
