//! `cargo xtask bench`: what an RPC costs, beside its floors and its rivals, in one run.

mod gate;
mod run;

use anyhow::Result;
use clap::Args;

use crate::{report::Outcome, workspace::Workspace};

pub use gate::check;

/// What to bench.
#[derive(Debug, Args)]
pub struct Options {
    /// Count instructions and allocations and fail when a gate is passed. The only mode for now.
    #[arg(long, required = true)]
    check: bool,
}

/// Runs the command.
///
/// # Errors
/// A gate was passed, or something could not be run.
pub fn run(workspace: &Workspace, _: &Options) -> Result<Outcome> {
    check(workspace)
}
