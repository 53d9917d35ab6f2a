//! `cargo xtask bench`: what an RPC costs, beside its floors and its rivals, in one run.

mod again;
mod bars;
mod channel;
mod counts;
mod document;
mod full;
mod gate;
mod go;
mod held;
mod machine;
mod plan;
mod plot;
mod policy;
mod profile;
mod rounds;
mod run;
mod stats;

use anyhow::Result;
use clap::Args;

use crate::{report::Outcome, workspace::Workspace};

pub use gate::check;
pub use stats::{Bar, Estimate, Verdict, median, ratios};

/// What `--only` calls the policy by itself.
const POLICY: &str = "policy";

/// What `--only` calls the channel beside its RPCs.
const CHANNEL: &str = "channel";

/// What to bench.
#[derive(Debug, Args)]
pub struct Options {
    /// Count instructions and allocations of an RPC beside the floor's and fail when a gate is
    /// passed, as CI does; nothing else.
    #[arg(long, exclusive = true)]
    check: bool,
    /// Interleaved rounds; 20 unless it is a quick pass. Up to five times as many where a figure is
    /// unsure.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// A short pass: few rounds, few loads.
    #[arg(long)]
    quick: bool,
    /// Count instructions with callgrind, too, and tell where they go.
    #[arg(long)]
    instructions: bool,
    /// Measure grpc-go, too, where a Go toolchain is installed.
    #[arg(long)]
    go: bool,
    /// This load only, or the policy by itself, or the channel beside its RPCs; may be given more than
    /// once. Of the document it makes only its own figures anew, and those with --instructions only.
    #[arg(long, value_name = "LOAD", value_parser = loads())]
    only: Vec<String>,
    /// Print the figures and leave docs/performance.md as it is.
    #[arg(long)]
    no_write: bool,
}

/// Runs the command.
///
/// # Errors
/// A gate or a bar was passed, or something could not be run.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    if options.check {
        return check(workspace);
    }
    full::run(workspace, options)
}

impl Options {
    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }
}

fn loads() -> clap::builder::PossibleValuesParser {
    let loads = plan::SCENARIOS.iter().map(|load| load.name);
    clap::builder::PossibleValuesParser::new(loads.chain([POLICY, CHANNEL]))
}
