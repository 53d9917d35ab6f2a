//! Each feature of each library crate alone: none may lean on another that it does not name.

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, Package};

use super::libraries;
use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Features that are no use alone: crate, feature (empty for none at all), reason.
const NOT_ALONE: &[(&str, &str, &str)] = &[];

pub(super) fn run(workspace: &Workspace, metadata: &Metadata) -> Result<Outcome> {
    let mut failed = Vec::new();
    for package in libraries(metadata) {
        for feature in each(package) {
            // Clippy, not check: flags after `--` do not rebuild what other people wrote.
            let args = [
                "clippy",
                "--quiet",
                "--lib",
                "-p",
                &package.name,
                "--no-default-features",
            ];
            let mut command = workspace.cargo(args);
            if !feature.is_empty() {
                command.args(["--features", feature]);
            }
            command.args(["--", "-D", "warnings"]);
            if run_command(command).is_err() {
                let with = if feature.is_empty() {
                    "no feature"
                } else {
                    feature
                };
                failed.push(format!("{} with {with}", package.name));
            }
        }
    }
    if failed.is_empty() {
        return Ok(Outcome::pass());
    }
    bail!("does not build alone: {}", failed.join("; "))
}

/// No feature, then each one.
fn each(package: &Package) -> Vec<&str> {
    let named = package
        .features
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "default");
    let all = std::iter::once("").chain(named);
    let excused = |feature: &&str| {
        NOT_ALONE
            .iter()
            .any(|(krate, name, _)| *krate == package.name.as_str() && name == feature)
    };
    all.filter(|feature| !excused(feature)).collect()
}
