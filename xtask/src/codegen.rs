//! `cargo xtask codegen`: writes the examples' generated code anew. No protoc.

use anyhow::Result;

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Runs the generator. The test it runs compares otherwise, so CI sees what is out of date.
///
/// # Errors
/// When the proto file is not valid.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut command = workspace.cargo(["test", "--quiet", "-p", "balancer-channel"]);
    command.args(["--test", "codegen"]);
    command.env("BALANCER_BLESS_CODEGEN", "1");
    run_command(command)?;
    Ok(Outcome::pass())
}
