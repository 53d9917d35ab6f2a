//! The oldest compiler we promise: what our dependencies ask for, and a build with that compiler
//! where it is installed.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::semver::Version;
use cargo_metadata::{DependencyKind, Metadata, PackageId};

use super::{libraries, published};
use crate::report::Outcome;
use crate::workspace::{Workspace, read, run as run_command};

/// A package that one of ours is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Its name and version.
    pub package: String,
    /// The compiler it asks for.
    pub rust: Version,
}

pub(super) fn run(workspace: &Workspace, metadata: &Metadata) -> Result<Outcome> {
    let ours = libraries(metadata);
    let first = ours.first().context("the workspace has no library crate")?;
    let promised = first
        .rust_version
        .clone()
        .context("a library crate has no rust-version")?;
    for package in &ours {
        if package.rust_version.as_ref() != Some(&promised) {
            bail!(
                "{} must promise Rust {promised} like the others",
                package.name
            );
        }
    }

    let needs = built_from(&workspace.resolved_metadata()?)?;
    let young = too_young(&needs, &promised);
    if !young.is_empty() {
        bail!("Rust {promised} cannot build {}", young.join(", "));
    }
    println!(
        "none of {} dependencies asks for more than Rust {promised}",
        needs.len()
    );

    let name = format!("{}.{}", promised.major, promised.minor);
    let Some(toolchain) = installed(&name) else {
        let why =
            format!("no such toolchain here; `rustup toolchain install {name}` and run again");
        return Ok(Outcome::skip(format!("build with Rust {name}"), why));
    };
    let mut command = Command::new("rustup");
    command
        .args(["run", &toolchain, "cargo", "check", "--lib", "--bins"])
        .current_dir(workspace.root());
    // Its own directory: two compilers in one throw each other's work away.
    command
        .arg("--target-dir")
        .arg(metadata.target_directory.join("msrv"));
    for package in published(metadata) {
        command.args(["-p", &package.name]);
    }
    run_command(command)?;
    Ok(Outcome::pass())
}

/// The packages that ask for a younger compiler than the promised one.
pub fn too_young(needs: &[Needs], promised: &Version) -> Vec<String> {
    let young = needs.iter().filter(|needs| needs.rust > *promised);
    young
        .map(|needs| format!("{} (asks for {})", needs.package, needs.rust))
        .collect()
}

/// What the published packages are built from, tests apart.
fn built_from(metadata: &Metadata) -> Result<Vec<Needs>> {
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo metadata resolved nothing")?;
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen: HashSet<&PackageId> = HashSet::new();
    let mut open: Vec<&PackageId> = published(metadata)
        .into_iter()
        .map(|package| &package.id)
        .collect();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let deps = nodes
                .get(id)
                .map(|node| node.deps.as_slice())
                .unwrap_or_default();
            let built = |kinds: &[cargo_metadata::DepKindInfo]| {
                kinds
                    .iter()
                    .any(|info| info.kind != DependencyKind::Development)
            };
            open.extend(
                deps.iter()
                    .filter(|dep| built(&dep.dep_kinds))
                    .map(|dep| &dep.pkg),
            );
        }
    }
    let packages = metadata
        .packages
        .iter()
        .filter(|package| seen.contains(&package.id));
    let needs = packages.filter_map(|package| {
        let rust = package.rust_version.clone()?;
        Some(Needs {
            package: format!("{} {}", package.name, package.version),
            rust,
        })
    });
    Ok(needs.collect())
}

/// The full name of an installed toolchain of that version.
fn installed(version: &str) -> Option<String> {
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "list"]);
    let list = read(rustup).ok()?;
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let matches = |name: &&str| {
        let rest = name.strip_prefix(version);
        rest.is_some_and(|rest| rest.starts_with('-') || rest.starts_with('.'))
    };
    names.into_iter().find(matches).map(str::to_owned)
}
