//! `cargo xtask new-policy`: a crate of a new policy that works, is proven, and reads as a guide.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;
use clap::Args;

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Makes the crate of a new policy: a small one that works, with a parsed config, the kit's suite, two
/// stories, a bench of the pick, and a README. It compiles and passes everything as it is; make it
/// yours from there.
///
/// Inside the workspace the crate becomes a member and depends on the others by path; outside it asks
/// for their versions.
#[derive(Debug, Args)]
pub struct Options {
    /// The policy's name in a service config, such as `weighted_random`. The crate is called
    /// `balancer-weighted-random`.
    name: String,
    /// Where the crate goes; it must not exist, or be empty. Without it: below the workspace root, by
    /// the crate's name.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// The crate's files: where each goes, and what is in it.
const TEMPLATES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        include_str!("../templates/policy/Cargo.toml.in"),
    ),
    (
        "README.md",
        include_str!("../templates/policy/README.md.in"),
    ),
    ("src/lib.rs", include_str!("../templates/policy/src/lib.rs")),
    (
        "tests/conformance.rs",
        include_str!("../templates/policy/tests/conformance.rs"),
    ),
    (
        "tests/story.rs",
        include_str!("../templates/policy/tests/story.rs"),
    ),
    (
        "benches/pick.rs",
        include_str!("../templates/policy/benches/pick.rs"),
    ),
];

/// What the templates are written for; each is replaced by what the crate is made for.
const POLICY: &str = "taking_turns";
const CRATE: &str = "balancer-taking-turns";
const LIBRARY: &str = "balancer_taking_turns";
const TYPE: &str = "TakingTurns";

/// Other people's crates that the bench needs, as the workspace has them.
const THEIRS: &[&str] = &["criterion"];

/// Our crates that the new one needs.
const OURS: &[&str] = &["balancer-api", "balancer-registry", "balancer-testkit"];

/// Runs the command.
///
/// # Errors
/// The name breaks the rule, its place is taken, or a file cannot be written.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let name = checked(&options.name)?;
    let krate = format!("balancer-{}", name.replace('_', "-"));
    let metadata = workspace.metadata()?;
    if metadata
        .packages
        .iter()
        .any(|package| package.name == krate)
    {
        bail!("NAME: {name}: must be new, and the workspace has {krate}");
    }
    let directory = match &options.path {
        Some(path) => std::path::absolute(path).context("--path")?,
        None => workspace.root().join(&krate),
    };
    let inside = match directory.strip_prefix(workspace.root()) {
        Ok(member) => Some(member.to_string_lossy().replace('\\', "/")),
        Err(_) => None,
    };
    write(
        workspace,
        &metadata,
        &directory,
        &krate,
        name,
        inside.is_some(),
    )?;
    if let Some(member) = &inside {
        add_member(workspace, member)?;
    }
    println!("{krate} is in {}", directory.display());
    let argument = match inside {
        Some(_) => krate,
        None => directory.display().to_string(),
    };
    println!("prove it: cargo xtask conformance {argument}");
    println!("read on in docs/write-a-policy.md");
    Ok(Outcome::pass())
}

/// Makes a crate outside the workspace, from this tree's crates by path, and shows that it passes
/// everything as it is; and that a mistake in it is found.
///
/// # Errors
/// It does not. The directory is kept then, and named.
pub fn prove(workspace: &Workspace) -> Result<Outcome> {
    let metadata = workspace.metadata()?;
    let directory = metadata.target_directory.join("new-policy");
    let directory = directory.as_std_path();
    // Cargo's target directory may lie in the workspace: the crate is a workspace of its own.
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let krate = "balancer-proven-policy";
    write(
        workspace,
        &metadata,
        directory,
        krate,
        "proven_policy",
        false,
    )?;
    patch(workspace, &metadata, directory)?;
    play(workspace, &metadata, directory)
        .with_context(|| format!("the new policy is in {}", directory.display()))?;
    fs::remove_dir_all(directory)?;
    Ok(Outcome::pass())
}

fn play(workspace: &Workspace, metadata: &Metadata, directory: &Path) -> Result<()> {
    let cargo = |args: &[&str]| {
        let mut command = workspace.cargo(args);
        // The workspace's build directory has the same third-party crates in the same versions.
        command
            .current_dir(directory)
            .env("CARGO_TARGET_DIR", &metadata.target_directory)
            .env("RUSTDOCFLAGS", "-Dwarnings");
        command
    };
    run_command(cargo(&["fmt", "--check"]))?;
    run_command(cargo(&["clippy", "--all-targets", "--", "-D", "warnings"]))?;
    run_command(cargo(&["test"]))?;
    run_command(cargo(&["doc", "--no-deps"]))?;

    // A test that cannot fail proves nothing.
    let library = directory.join("src/lib.rs");
    let text = fs::read_to_string(&library)?;
    let wrong = text.replacen("% self.ready.len()", "% self.ready.len().max(2)", 1);
    if wrong == text {
        bail!("the template has no line to break");
    }
    fs::write(&library, wrong)?;
    let mut broken = cargo(&["test", "--quiet", "--test", "conformance"]);
    println!("$ cargo test --test conformance, with a mistake in the picker");
    let output = broken.output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() || !said.contains("the shortest script found") {
        bail!("the suite must find a mistake in the picker, and said:\n{said}");
    }
    Ok(())
}

/// The name, if a service config, a crate and a library can have it.
fn checked(name: &str) -> Result<&str> {
    let rule = if name.len() > 32 {
        "must have at most 32 letters"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "must begin with a letter from a to z"
    } else if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        "must be of a to z, 0 to 9 and _ only, as in weighted_random"
    } else if name.ends_with('_') || name.contains("__") {
        "must not end with _ or have two in a row"
    } else if ["round_robin", "pick_first"].contains(&name) {
        "must not be the name of a policy that everybody knows"
    } else {
        return Ok(name);
    };
    bail!("NAME: {name}: {rule}")
}

fn write(
    workspace: &Workspace,
    metadata: &Metadata,
    directory: &Path,
    krate: &str,
    name: &str,
    inside: bool,
) -> Result<()> {
    let taken =
        directory.exists() && (!directory.is_dir() || fs::read_dir(directory)?.next().is_some());
    if taken {
        let place = directory.display();
        bail!("--path: {place}: must not exist, or be an empty directory");
    }
    for (path, text) in TEMPLATES {
        let place = directory.join(path);
        fs::create_dir_all(place.parent().unwrap_or(directory))
            .with_context(|| format!("--path: cannot make {}", directory.display()))?;
        let text = match *path {
            "Cargo.toml" => manifest(workspace, metadata, text, inside)?,
            _ => (*text).to_owned(),
        };
        let text = text
            .replace(LIBRARY, &krate.replace('-', "_"))
            .replace(CRATE, krate)
            .replace(POLICY, name)
            .replace(TYPE, &camel(name));
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

/// The name as types are called: `WeightedRandom`.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect()
}

/// The manifest: inside the workspace its settings are inherited, outside they are spelt out.
fn manifest(
    workspace: &Workspace,
    metadata: &Metadata,
    template: &str,
    inside: bool,
) -> Result<String> {
    if inside {
        return Ok(template.to_owned());
    }
    let root = fs::read_to_string(workspace.root().join("Cargo.toml"))?;
    let version = |name: &str| {
        let ours = metadata
            .packages
            .iter()
            .find(|package| package.name == name);
        ours.map(|package| format!("\"{}\"", package.version))
    };
    let mut text = String::new();
    for line in template.lines() {
        let dependency = line.strip_suffix(" = { workspace = true }");
        let line = match (line, dependency) {
            ("version.workspace = true", _) => "version = \"0.1.0\"".to_owned(),
            ("edition.workspace = true", _) => "edition = \"2024\"".to_owned(),
            ("rust-version.workspace = true", _) => inherited(&root, "rust-version")?,
            ("license.workspace = true", _) => inherited(&root, "license")?,
            // Whose they are is the author's to say.
            (line, _) if line.ends_with(".workspace = true") => continue,
            ("[lints]" | "workspace = true", _) => continue,
            (_, Some(name)) if OURS.contains(&name) => {
                let version = version(name).with_context(|| format!("there is no {name}"))?;
                format!("{name} = {version}")
            }
            (_, Some(name)) if THEIRS.contains(&name) => inherited(&root, name)?,
            (line, _) => line.to_owned(),
        };
        // What was left out leaves one empty line, not two.
        if !line.is_empty() || !text.ends_with("\n\n") {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push_str("\n# Not a part of any workspace that may lie above.\n[workspace]\n");
    Ok(text)
}

/// The root manifest's line for that key.
fn inherited(root: &str, key: &str) -> Result<String> {
    let start = format!("{key} = ");
    let line = root.lines().find(|line| line.starts_with(&start));
    let line = line.with_context(|| format!("the root manifest has no {key}"))?;
    Ok(line.to_owned())
}

/// Names where our crates are, since they may not be published yet.
fn patch(workspace: &Workspace, metadata: &Metadata, directory: &Path) -> Result<()> {
    let place = directory.join("Cargo.toml");
    let mut manifest = fs::read_to_string(&place)?;
    manifest.push_str("\n[profile.dev]\ndebug = \"line-tables-only\"\n\n[patch.crates-io]\n");
    for name in OURS {
        let path = workspace.root().join(name);
        manifest.push_str(&format!(
            "{name} = {{ path = {:?} }}\n",
            path.display().to_string()
        ));
    }
    fs::write(&place, manifest)?;
    // The same versions of other people's crates as here: a release of theirs is not our news.
    fs::copy(
        metadata.workspace_root.join("Cargo.lock"),
        directory.join("Cargo.lock"),
    )?;
    Ok(())
}

/// Adds a line to the root manifest's list of members, before the crates that nobody depends on.
fn add_member(workspace: &Workspace, member: &str) -> Result<()> {
    let place = workspace.root().join("Cargo.toml");
    let text = fs::read_to_string(&place)?;
    let added = with_member(&text, member).with_context(|| {
        format!(
            "{} has no list `members = [`: add {member}",
            place.display()
        )
    })?;
    fs::write(&place, added).with_context(|| format!("cannot write {}", place.display()))
}

/// The manifest with one more member, after the last.
pub fn with_member(manifest: &str, member: &str) -> Option<String> {
    let (before, list) = manifest.split_once("members = [\n")?;
    let (list, after) = list.split_once("]\n")?;
    Some(format!(
        "{before}members = [\n{list}    \"{member}\",\n]\n{after}"
    ))
}
