//! The public API of the crates that other people write against, compared with a committed listing.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;
use public_api::{Builder, PublicApi};

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// The crates whose API is a promise: one for authors of policies, one for their tests.
const LISTED: &[&str] = &["balancer-api", "balancer-testkit"];

/// Whose types must not be in the contract: a serialiser, or a stack that is younger than the policies
/// that will be written against it.
const NOT_IN_CONTRACT: (&str, &[&str]) = (
    "balancer-api",
    &[
        "h2",
        "hyper",
        "prost",
        "serde",
        "serde_json",
        "tokio",
        "tonic",
        "tower",
    ],
);

pub(super) fn run(workspace: &Workspace, metadata: &Metadata, bless: bool) -> Result<Outcome> {
    let mut changed = Vec::new();
    for name in LISTED {
        let json = document(workspace, metadata, name)?;
        let now = match list(&json) {
            Ok(api) => api,
            // Rustdoc's JSON has a version per compiler, and our reader reads one of them.
            Err(error) => return Ok(Outcome::skip("public API listings", format!("{error:#}"))),
        };
        let path = workspace
            .root()
            .join(format!("xtask/public-api/{name}.txt"));
        if bless {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, now).with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote the listing of {name}");
            continue;
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        let changes = changes(&before, &now);
        if !changes.is_empty() {
            println!("{name}:\n{changes}");
            changed.push(*name);
        }
    }
    if changed.is_empty() {
        return Ok(Outcome::pass());
    }
    let changed = changed.join(" and ");
    bail!(
        "the public API of {changed} changed: if it should, `cargo xtask hygiene --only api --bless`"
    )
}

/// The lines that went, then the lines that came.
pub fn changes(before: &str, now: &str) -> String {
    let mut text = String::new();
    let mut missing = |sign: char, from: &str, other: &str| {
        let other: std::collections::BTreeSet<_> = other.lines().collect();
        for line in from.lines().filter(|line| !other.contains(line)) {
            writeln!(text, "{sign} {line}").expect("a String takes all that is written to it");
        }
    };
    missing('-', before, now);
    missing('+', now, before);
    text
}

/// The lines of a listing that show a type the crate must not show.
pub fn strangers<'a>(name: &str, listing: &'a str) -> Vec<&'a str> {
    let (contract, theirs) = NOT_IN_CONTRACT;
    let shows = |line: &&str| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        // A path starts with the crate's name; a field of that name is followed by a colon only.
        theirs.iter().any(|krate| {
            words.clone().any(|word| word == *krate) && line.contains(&format!("{krate}::"))
        })
    };
    if name == contract {
        listing.lines().filter(shows).collect()
    } else {
        Vec::new()
    }
}

/// Rustdoc's JSON of a crate with all its features.
fn document(workspace: &Workspace, metadata: &Metadata, name: &str) -> Result<PathBuf> {
    let target = metadata.target_directory.join("public-api");
    let mut command =
        workspace.cargo(["rustdoc", "--quiet", "--lib", "--all-features", "-p", name]);
    command.arg("--target-dir").arg(&target);
    command.args([
        "--",
        "-Zunstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "allow",
    ]);
    // The format is unstable, so a stable compiler has to be told that we know. It changes what build
    // scripts see: hence a directory of its own.
    command.env("RUSTC_BOOTSTRAP", "1");
    run_command(command)?;
    let file = format!("{}.json", name.replace('-', "_"));
    Ok(target.join("doc").join(file).into_std_path_buf())
}

/// One public item a line. Impls that nobody wrote are left out; derived ones were asked for, and are
/// missed when they go.
fn list(json: &PathBuf) -> Result<String> {
    let api: PublicApi = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .context("the listing is made with the compiler that the listings were made with")?;
    let mut text = String::new();
    for item in api.items() {
        writeln!(text, "{item}")?;
    }
    Ok(text)
}
