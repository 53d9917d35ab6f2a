//! Rules on single files: the purpose line, unsafe code, inherited lints, length, the README.

use super::{Finding, Tree};
use crate::ci;

/// A file longer than this is no longer one idea.
const LONG: usize = 800;

/// Files that may be longer, each with its reason.
const MAY_BE_LONG: &[(&str, &str)] = &[
    (
        "balancer-registry/tests/service_config.rs",
        "one short story for each rule of the service config, in the rules' order",
    ),
    (
        "balancer-testkit/src/world.rs",
        "the kit's engine: one state, and an impl that is read beside it",
    ),
];

/// Finds Rust files that do not open with a `//!` line.
pub fn purpose(tree: &Tree) -> Vec<Finding> {
    let opens = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first
            .strip_prefix("//!")
            .is_some_and(|purpose| !purpose.trim().is_empty())
    };
    let silent = tree.rust_files().filter(|file| !opens(&file.text));
    silent
        .map(|file| {
            Finding::new(
                &file.path,
                "the first line must be `//! ` and the file's purpose",
            )
        })
        .collect()
}

/// Finds libraries and binaries whose root file does not forbid unsafe code.
pub fn forbids_unsafe(tree: &Tree) -> Vec<Finding> {
    const ATTRIBUTE: &str = "#![forbid(unsafe_code)]";
    let mut findings = Vec::new();
    for root in tree.crates.iter().flat_map(|krate| &krate.roots) {
        let text = tree.text(root).unwrap_or_default();
        if !text.lines().any(|line| line.trim() == ATTRIBUTE) {
            findings.push(Finding::new(
                root,
                format!("a crate's root must say `{ATTRIBUTE}`"),
            ));
        }
    }
    findings
}

/// Finds crates that do not inherit the workspace's lints.
pub fn lints_inherited(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &tree.crates {
        let manifest = format!("{}/Cargo.toml", krate.dir);
        let text = tree.text(&manifest).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != "[lints]")
            .skip(1);
        let inherits = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        if inherits != Some("workspace = true") {
            findings.push(Finding::new(
                manifest,
                "`[lints]` must say `workspace = true`",
            ));
        }
    }
    findings
}

/// Finds dependencies whose version is not the workspace's.
pub fn shared_versions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &tree.crates {
        let manifest = format!("{}/Cargo.toml", krate.dir);
        let mut among_dependencies = false;
        for line in tree
            .text(&manifest)
            .unwrap_or_default()
            .lines()
            .map(str::trim)
        {
            if let Some(table) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                among_dependencies = table.ends_with("dependencies");
            } else if among_dependencies
                && let Some((name, value)) = line.split_once('=')
                && !name.starts_with(['#', '"', ']', '}'])
                && !value.contains("workspace = true")
                && !name.trim().ends_with(".workspace")
            {
                let message = "take the version from the root's `[workspace.dependencies]`";
                findings.push(Finding::new(
                    format!("{manifest}: {}", name.trim()),
                    message,
                ));
            }
        }
    }
    findings
}

/// Finds Rust files that are too long, and exceptions that are no longer needed.
pub fn lengths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust_files() {
        let lines = file.text.lines().count();
        let excused = MAY_BE_LONG.iter().any(|(path, _)| *path == file.path);
        if lines > LONG && !excused {
            let message =
                format!("{lines} lines: split it below {LONG}, or list it with the reason");
            findings.push(Finding::new(&file.path, message));
        } else if lines <= LONG && excused {
            findings.push(Finding::new(
                &file.path,
                "is short again: take it off MAY_BE_LONG in xtask/src/tidy/sources.rs",
            ));
        }
    }
    findings
}

/// Finds commands that CI runs for the README and the README does not show.
pub fn readme_commands(tree: &Tree) -> Vec<Finding> {
    let readme = tree.text("README.md").unwrap_or_default();
    let commands = [ci::TEST, ci::DEMO].map(|words| format!("cargo {}", words.join(" ")));
    let missing = commands
        .iter()
        .filter(|command| !readme.contains(command.as_str()));
    missing
        .map(|command| {
            Finding::new(
                "README.md",
                format!("must show `{command}`: CI runs it as the README's"),
            )
        })
        .collect()
}
