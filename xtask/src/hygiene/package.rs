//! Each published crate as a package, complete enough to be built from nothing but packages.

use anyhow::Result;
use cargo_metadata::Metadata;

use super::published;
use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

pub(super) fn run(workspace: &Workspace, metadata: &Metadata, verify: bool) -> Result<Outcome> {
    // Together: cargo then takes what a package needs from its unpublished neighbours.
    let mut command = workspace.cargo(["package", "--quiet", "--allow-dirty"]);
    if !verify {
        command.arg("--no-verify");
    }
    for package in published(metadata) {
        command.args(["-p", &package.name]);
    }
    run_command(command)?;
    Ok(Outcome::pass())
}
