//! Licences, bans, sources and advisories, by cargo-deny; its rules are in `deny.toml`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use cargo_metadata::Metadata;

use crate::report::Outcome;
use crate::workspace::{Workspace, read, run as run_command};

/// The cargo-deny that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

pub(super) fn run(workspace: &Workspace, metadata: &Metadata) -> Result<Outcome> {
    let program = find_or_install(workspace, metadata)?;
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg("--workspace")
            .args(args)
            .current_dir(workspace.root());
        command
    };
    run_command(deny(&[
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;

    if read(deny(&["fetch", "db"])).is_err() {
        return Ok(Outcome::skip(
            "advisories",
            "the advisory database cannot be fetched from here",
        ));
    }
    run_command(deny(&[
        "check",
        "--disable-fetch",
        "--hide-inclusion-graph",
        "advisories",
    ]))?;
    Ok(Outcome::pass())
}

/// The one on the PATH, or ours below the target directory, built when there is none.
fn find_or_install(workspace: &Workspace, metadata: &Metadata) -> Result<PathBuf> {
    let tools = metadata.target_directory.join("tools");
    let ours = tools.join("bin").join("cargo-deny").into_std_path_buf();
    for candidate in [PathBuf::from("cargo-deny"), ours.clone()] {
        let mut command = Command::new(&candidate);
        command.arg("--version");
        if read(command).is_ok() {
            return Ok(candidate);
        }
    }
    let mut install = workspace.cargo(["install", "--locked", "--quiet", "cargo-deny"]);
    install
        .args(["--version", VERSION])
        .arg("--root")
        .arg(&tools);
    run_command(install)?;
    Ok(ours)
}
