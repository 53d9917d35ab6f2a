//! `cargo xtask ci`: the one list of what CI runs, timed, with a table at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};
use crate::{
    bench, breaks, conformance, disk, hygiene, interop, loom, mutants, new_policy, newcomer, pains,
    reliability, sim_channel, tidy,
};

/// The time CI may take on a cold machine with two cores.
const BUDGET: Duration = Duration::from_secs(40 * 60);

/// The README's test command.
pub const TEST: &[&str] = &["test", "--workspace"];

/// The README's demo command.
pub const DEMO: &[&str] = &["run", "--release", "-p", "balancer-cli", "--", "demo"];

/// Everything CI runs, in order. A new command of CI is a new line here and nothing else.
pub const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: fmt,
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "test",
        run: test,
    },
    Step {
        name: "doc",
        run: doc,
    },
    Step {
        name: "tidy",
        run: tidy::run,
    },
    Step {
        name: "hygiene",
        run: hygiene::run_what_fits_ci,
    },
    Step {
        name: "demo",
        run: demo,
    },
    Step {
        name: "interop",
        run: interop::run,
    },
    Step {
        name: "pains",
        run: pains::run,
    },
    Step {
        name: "reliability",
        run: reliability::run_what_fits_ci,
    },
    Step {
        name: "loom",
        run: loom::run,
    },
    Step {
        name: "shuttle",
        run: shuttle,
    },
    Step {
        name: "sim-channel",
        run: sim_channel::run_what_fits_ci,
    },
    Step {
        name: "conformance",
        run: conformance::run_what_fits_ci,
    },
    Step {
        name: "mutants",
        run: mutants::run_all,
    },
    Step {
        name: "breaks",
        run: breaks::run_all,
    },
    Step {
        name: "bench",
        run: bench::check,
    },
    Step {
        name: "newcomer",
        run: newcomer::run,
    },
    Step {
        name: "new-policy",
        run: new_policy::prove,
    },
];

/// How to run CI.
#[derive(Debug, Args)]
pub struct Options {
    /// Run this step only; may be given more than once.
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
    /// Stop at the first step that fails. The default is to run them all, so that one run tells
    /// everything that is wrong.
    #[arg(long)]
    fail_fast: bool,
    /// Print the names of the steps and stop.
    #[arg(long)]
    list: bool,
}

/// One step of CI.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What `--only` calls it.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&Workspace) -> Result<Outcome>,
}

/// A step that ran.
struct Row {
    name: &'static str,
    took: Duration,
    result: Result<Outcome>,
}

/// Runs the steps and prints the table.
///
/// # Errors
/// When a step failed; the message names each one that did.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let wanted =
        |step: &&Step| options.only.is_empty() || options.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    if options.list {
        steps.iter().for_each(|step| println!("{}", step.name));
        return Ok(Outcome::pass());
    }

    println!("{}", disk::prospect(disk::free(workspace)));
    let mut rows: Vec<Row> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        println!("\n=== [{}/{}] {}", index + 1, steps.len(), step.name);
        let started = Instant::now();
        let result = (step.run)(workspace);
        let row = Row {
            name: step.name,
            took: started.elapsed(),
            result,
        };
        println!(
            "=== {} {} in {:.1} s",
            row.name,
            row.verdict(),
            row.took.as_secs_f64()
        );
        if let Err(error) = &row.result {
            println!("{error:#}");
        }
        let failed = row.result.is_err();
        rows.push(row);
        if failed && options.fail_fast {
            break;
        }
    }
    let outcome = report(&rows, steps.len());
    println!(
        "{}",
        disk::account(disk::taken(workspace), disk::free(workspace))
    );
    outcome
}

/// Prints the table and turns the rows into one verdict.
fn report(rows: &[Row], wanted: usize) -> Result<Outcome> {
    println!("\n{:<12} {:>9}  verdict", "step", "seconds");
    let mut outcome = Outcome::pass();
    let mut failed = Vec::new();
    for row in rows {
        println!(
            "{:<12} {:>9.1}  {}",
            row.name,
            row.took.as_secs_f64(),
            row.verdict()
        );
        match &row.result {
            Ok(part) => outcome.skipped.extend_from_slice(&part.skipped),
            Err(_) => failed.push(row.name),
        }
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    println!("{:<12} {:>9.1}", "total", total.as_secs_f64());
    if total > BUDGET {
        println!("over the budget of {} s", BUDGET.as_secs());
    }
    if rows.len() < wanted {
        println!("{} of {wanted} steps were not run", wanted - rows.len());
    }
    if failed.is_empty() {
        return Ok(outcome);
    }
    for skip in &outcome.skipped {
        println!("{skip}");
    }
    bail!("failed: {}", failed.join(", "))
}

fn step_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

// === The steps that are plain cargo commands ===

/// 100,000 random schedules of the channel's core.
pub fn shuttle(workspace: &Workspace) -> Result<Outcome> {
    const MODELS: usize = 6;
    const SCHEDULES: usize = 100_000;
    let mut cargo = workspace.cargo([
        "test",
        "--release",
        "-p",
        "balancer-channel-core",
        "--features",
        "shuttle",
        "--test",
        "shuttle",
    ]);
    let each = SCHEDULES.div_ceil(MODELS).to_string();
    cargo.env("BALANCER_SHUTTLE_SCHEDULES", each);
    run_command(cargo)?;
    Ok(Outcome::pass())
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    passes(workspace.cargo(["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    passes(workspace.cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Runs the README's test command.
///
/// # Errors
/// When a test failed.
pub fn test(workspace: &Workspace) -> Result<Outcome> {
    passes(workspace.cargo(TEST))
}

fn doc(workspace: &Workspace) -> Result<Outcome> {
    let mut command = workspace.cargo(["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    passes(command)
}

/// Runs the README's demo command.
///
/// # Errors
/// When the demo lost an RPC that could have been saved, or did not run.
pub fn demo(workspace: &Workspace) -> Result<Outcome> {
    passes(workspace.cargo(DEMO))
}

fn passes(command: Command) -> Result<Outcome> {
    run_command(command).map(|()| Outcome::pass())
}

// === impl Row ===

impl Row {
    fn verdict(&self) -> String {
        match &self.result {
            Ok(outcome) if outcome.skipped.is_empty() => "PASS".into(),
            Ok(outcome) => format!("PASS, {} SKIP", outcome.skipped.len()),
            Err(_) => "FAIL".into(),
        }
    }
}
