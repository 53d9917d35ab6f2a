//! `cargo xtask sim-channel`: the whole channel in virtual time, one world for each seed.

use anyhow::{Result, bail};
use clap::Args;

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Lets worlds of faults happen to a channel in virtual time, in two processes, and looks at every law
/// throughout. Prints how often each kind of fault hit an RPC in flight; of a world that broke a law, its
/// story and the command that replays it.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// How many worlds; 2,000 unless it says otherwise.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed; the others follow.
    #[arg(long, value_name = "S")]
    from: Option<u64>,
    /// The world of this seed alone.
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print the story while it happens.
    #[arg(long)]
    story: bool,
}

/// Runs the command.
///
/// # Errors
/// A law was broken, a world was another in the second process, a kind of fault was too rare, or
/// something does not build.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let mut command = workspace.cargo(["run", "--release", "-p", "balancer-sim", "--"]);
    let numbers = [
        ("--seeds", options.seeds),
        ("--from", options.from),
        ("--seed", options.seed),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    command.args(options.story.then_some("--story"));
    if run_command(command).is_err() {
        bail!("a world broke a law, or the worlds were too tame");
    }
    Ok(Outcome::pass())
}

/// Half a minute of worlds. Of the ways to break the core that were tried, the rarest shows in one
/// world of some thousands.
const CI_SEEDS: u64 = 10_000;

/// The worlds that CI runs.
///
/// # Errors
/// As [`run`].
pub fn run_what_fits_ci(workspace: &Workspace) -> Result<Outcome> {
    let options = Options {
        seeds: Some(CI_SEEDS),
        ..Options::default()
    };
    run(workspace, &options)
}
