//! `cargo xtask reliability`: the scoreboard. Faults are made on purpose, what applications see of them
//! is counted, and each count stands beside its goal and the best that a peer is known to do.

mod bugs;
mod memory;
mod programs;
mod rows;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::report::{Outcome, Skip};
use crate::workspace::Workspace;
use crate::{loom, tidy};

pub use bugs::{BUGS, Bug};
use memory::Memory;
pub(crate) use programs::{Programs, heard};
pub use rows::{How, ROWS, Row, Test};
pub use table::{Entry, Verdict, amended, markdown, parse};

/// Runs the rows of the scoreboard and prints `row · measured · goal · peer · verdict`.
///
/// A row that this machine cannot run, or that is not built yet, says SKIP and why; that is no pass.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// The figures that the goals name, in hours, and the rows that take long. What has passed is
    /// remembered with the commit, so that a run that was broken off goes on where it was.
    #[arg(long)]
    full: bool,
    /// This row only; may be given more than once.
    #[arg(long, value_name = "N")]
    row: Vec<u32>,
    /// Forget what an earlier full run of this commit found.
    #[arg(long)]
    fresh: bool,
    /// Write the table to docs/reliability.md; with --row, those rows of it.
    #[arg(long)]
    write: bool,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Seconds: what CI runs.
    Ci,
    /// At most a quarter of an hour for all rows.
    Short,
    /// As much as the goals say.
    Full,
}

/// The time a short run may take.
const SHORT_BUDGET: Duration = Duration::from_secs(15 * 60);

/// Runs the command.
///
/// # Errors
/// A row missed its goal, there is no such row, or something does not build.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    for id in &options.row {
        if !ROWS.iter().any(|row| row.id == *id) {
            let last = ROWS.iter().map(|row| row.id).max().unwrap_or(0);
            bail!("--row: {id}: must be one of 1 to {last}");
        }
    }
    let size = match options.full {
        true => Size::Full,
        false => Size::Short,
    };
    let wanted = |row: &&Row| options.row.is_empty() || options.row.contains(&row.id);
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    // Before anything is built or run: somebody may go on working meanwhile.
    let commit = memory::commit(workspace);
    let mut memory = Memory::open(workspace, &commit, size, options.fresh)?;
    let started = Instant::now();
    let entries = measure(workspace, &rows, size, false, &mut memory)?;
    table::print(&rows, &entries);
    let took = started.elapsed();
    println!("{} rows in {:.0} s", rows.len(), took.as_secs_f64());
    if size == Size::Short && took > SHORT_BUDGET {
        println!("over the budget of {} s", SHORT_BUDGET.as_secs());
    }
    if options.write {
        table::write(workspace, &rows, &entries, size, &commit)?;
    }
    judge(&entries)
}

/// The rows that CI has the time for, at a small size; the programs are those of the step `test`.
///
/// # Errors
/// As [`run`].
pub fn run_what_fits_ci(workspace: &Workspace) -> Result<Outcome> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.in_ci).collect();
    let entries = measure(workspace, &rows, Size::Ci, true, &mut Memory::none())?;
    table::print(&rows, &entries);
    judge(&entries)
}

/// Turns what was found into one verdict.
///
/// # Errors
/// A row missed its goal, or nothing was measured.
pub fn judge(entries: &[Entry]) -> Result<Outcome> {
    let named = |verdict| {
        let of = move |entry: &&Entry| entry.verdict == verdict;
        entries.iter().filter(of)
    };
    let failed: Vec<String> = named(Verdict::Fail).map(|e| e.id.to_string()).collect();
    if !failed.is_empty() {
        bail!("these rows missed their goal: {}", failed.join(", "));
    }
    if named(Verdict::Pass).next().is_none() {
        let why = named(Verdict::Skip).next();
        bail!(
            "nothing was measured: {}",
            why.map_or("no row", |entry| &entry.measured)
        );
    }
    let skipped = named(Verdict::Skip).map(|entry| Skip {
        what: format!("reliability: row {}", entry.id),
        why: entry.measured.clone(),
    });
    Ok(Outcome {
        skipped: skipped.collect(),
    })
}

/// Measures the rows in order. A row that cannot be measured has failed.
fn measure(
    workspace: &Workspace,
    rows: &[&Row],
    size: Size,
    all_built: bool,
    memory: &mut Memory,
) -> Result<Vec<Entry>> {
    let remembered = |row: &&&Row| memory.get(row.id).is_none();
    let to_run: Vec<&Row> = rows.iter().filter(remembered).copied().collect();
    let programs = Programs::build(workspace, &to_run, size, all_built)?;
    let mut entries: Vec<Entry> = Vec::new();
    for row in rows {
        if entries.iter().any(|entry| entry.id == row.id) {
            continue;
        }
        if let Some(entry) = memory.get(row.id) {
            println!("row {}: as found before", row.id);
            entries.push(entry.clone());
            continue;
        }
        println!("\n--- row {}: {}", row.id, row.what);
        let started = Instant::now();
        let found = row.measure(workspace, &programs, size);
        println!("    {:.1} s", started.elapsed().as_secs_f64());
        for entry in found {
            memory.add(&entry)?;
            // A scenario may speak for a row that was not asked for.
            if rows.iter().any(|row| row.id == entry.id) {
                // What was remembered of it is older.
                entries.retain(|known| known.id != entry.id);
                entries.push(entry);
            }
        }
    }
    entries.sort_by_key(|entry| entry.id);
    Ok(entries)
}

/// Counts the tests after which it is looked for leaks, and plants some.
fn leaks(workspace: &Workspace, programs: &Programs, id: u32, planted: &[Test]) -> Result<Entry> {
    let checks = tidy::leak_checks(&tidy::Tree::load(workspace)?);
    let seen = programs.tests(id, planted)?;
    if seen.verdict != Verdict::Pass {
        return Ok(seen);
    }
    let (checked, bare) = (checks.checked, checks.bare.len());
    let measured = format!(
        "{checked} of {} tests; {} runtimes and channels of their own say who looks",
        checked + bare,
        checks.reasons
    );
    let verdict = match bare {
        0 => Verdict::Pass,
        _ => Verdict::Fail,
    };
    Ok(Entry::new(id, measured, verdict))
}

// === impl Size ===

impl Size {
    /// What the programs are told.
    fn word(self) -> &'static str {
        match self {
            Self::Ci => "ci",
            Self::Short => "short",
            Self::Full => "full",
        }
    }
}

// === impl Row ===

impl Row {
    fn measure(&self, workspace: &Workspace, programs: &Programs, size: Size) -> Vec<Entry> {
        if self.full_only && size != Size::Full {
            return vec![Entry::skip(self.id, "only in a full run")];
        }
        let found = match self.how {
            How::Scenario(name) => programs.scenario(self.id, name, size),
            How::Tests(tests) => programs.tests(self.id, tests).map(|entry| vec![entry]),
            How::Leaks(planted) => leaks(workspace, programs, self.id, planted).map(|e| vec![e]),
            How::Fuzz(names) => programs.fuzz(self.id, names, size).map(|entry| vec![entry]),
            How::Release(package, program, name) => {
                Programs::release(workspace, self.id, package, program, name)
            }
            How::Bugs => programs.bugs(self.id).map(|entry| vec![entry]),
            How::Repeat(packages) => programs.repeat(self.id, packages).map(|entry| vec![entry]),
            How::Loom => {
                let bound = match size {
                    Size::Full => loom::BOUND + 1,
                    Size::Ci | Size::Short => loom::BOUND,
                };
                loom::explore(workspace, bound).map(|models| {
                    let measured = loom::summary(&models);
                    vec![Entry::new(self.id, measured, Verdict::Pass)]
                })
            }
            How::Command(name, run) => Ok(vec![match run(workspace) {
                Ok(outcome) => match outcome.skipped.first() {
                    Some(skip) => Entry::skip(self.id, &skip.to_string()),
                    None => Entry::new(self.id, format!("{name} passed"), Verdict::Pass),
                },
                Err(error) => Entry::fail(self.id, &format!("{error:#}")),
            }]),
            How::NotYet(why) => Ok(vec![Entry::skip(self.id, why)]),
        };
        found.unwrap_or_else(|error| vec![Entry::fail(self.id, &format!("{error:#}"))])
    }
}
