//! `cargo xtask hygiene`: what is too slow for tidy, and what makes the crates fit to be published.

mod deny;
mod features;
mod msrv;
mod package;
mod public_api;

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, Package};
use clap::{Args, ValueEnum};

use crate::report::Outcome;
use crate::workspace::Workspace;

pub use msrv::{Needs, too_young};
pub use public_api::{changes, strangers};

/// How to run the checks.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Run this part only; may be given more than once.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Write the public API listings anew instead of comparing against them.
    #[arg(long)]
    bless: bool,
    /// Package without building each package again.
    #[arg(long)]
    no_verify: bool,
}

/// One part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Each feature of each library crate alone, without warnings.
    Features,
    /// The oldest compiler we promise to build with.
    Msrv,
    /// Licences, bans, sources and known advisories.
    Deny,
    /// The public API of the contract and of the kit, against the committed listings.
    Api,
    /// Each library crate as a package.
    Package,
}

/// Runs the parts that were asked for; the default is all of them.
///
/// # Errors
/// When a part found something; the others have been run all the same.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let metadata = workspace.metadata()?;
    let mut outcome = Outcome::pass();
    let mut failed = Vec::new();
    for part in Part::value_variants() {
        if !options.only.is_empty() && !options.only.contains(part) {
            continue;
        }
        println!("--- hygiene: {part:?}");
        let result = match part {
            Part::Features => features::run(workspace, &metadata),
            Part::Msrv => msrv::run(workspace, &metadata),
            Part::Deny => deny::run(workspace, &metadata),
            Part::Api => public_api::run(workspace, &metadata, options.bless),
            Part::Package => package::run(workspace, &metadata, !options.no_verify),
        };
        match result {
            Ok(part) => outcome.absorb(part),
            Err(error) => {
                println!("{error:#}");
                failed.push(format!("{part:?}"));
            }
        }
    }
    if failed.is_empty() {
        return Ok(outcome);
    }
    for skip in &outcome.skipped {
        println!("{skip}");
    }
    bail!("hygiene failed: {}", failed.join(", "))
}

/// All parts, but the packages are not built again: the newcomer builds against them anyway.
///
/// # Errors
/// As [`run`].
pub fn run_what_fits_ci(workspace: &Workspace) -> Result<Outcome> {
    run(
        workspace,
        &Options {
            no_verify: true,
            ..Options::default()
        },
    )
}

/// The packages that are published.
fn published(metadata: &Metadata) -> Vec<&Package> {
    let members = metadata.workspace_packages().into_iter();
    members
        .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
        .collect()
}

/// The published packages that others depend on: a library beside a binary is the binary's own.
pub(crate) fn libraries(metadata: &Metadata) -> Vec<&Package> {
    let published = published(metadata).into_iter();
    published.filter(|package| is_library(package)).collect()
}

fn is_library(package: &Package) -> bool {
    let targets = || package.targets.iter();
    targets().any(|target| target.is_lib()) && !targets().any(|target| target.is_bin())
}
