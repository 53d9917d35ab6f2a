//! `cargo xtask pains`: the pains that bring users here, ours beside tonic's, in one table.

use anyhow::Result;

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Runs every scenario with both and prints the table. The bars themselves are tests.
///
/// # Errors
/// When a scenario did not run to its end.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    // The whole workspace's features, so that CI does not build everything once more.
    let command = workspace.cargo([
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "pains",
        "--",
        "--ignored",
        "--nocapture",
    ]);
    run_command(command)?;
    Ok(Outcome::pass())
}
