//! `cargo xtask newcomer`: what somebody outside the workspace has, and whether it is enough.
//!
//! Packages every library crate, unpacks the packages in a throw-away directory, writes a policy
//! crate beside them that knows nothing else of ours, and runs its tests and its program: a policy
//! of its own, chosen from a service config, that balances real RPCs.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::Metadata;

use crate::hygiene::libraries;
use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// The newcomer's crate: where each file goes, and what is in it.
const TEMPLATES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        include_str!("../templates/newcomer/Cargo.toml.in"),
    ),
    (
        "src/lib.rs",
        include_str!("../templates/newcomer/src/lib.rs"),
    ),
    (
        "src/main.rs",
        include_str!("../templates/newcomer/src/main.rs"),
    ),
    (
        "tests/conversation.rs",
        include_str!("../templates/newcomer/tests/conversation.rs"),
    ),
];

/// A directory that goes away with its owner, unless the newcomer failed in it.
struct ThrowAway {
    path: PathBuf,
    keep: bool,
}

/// Plays the newcomer.
///
/// # Errors
/// When a package is not complete, or the newcomer's crate does not build, pass its tests or balance
/// its RPCs. The directory is kept then, and named.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let metadata = workspace.metadata()?;
    let mut directory = ThrowAway::new(&metadata)?;
    match play(workspace, &metadata, &directory.path) {
        Ok(()) => Ok(Outcome::pass()),
        Err(error) => {
            directory.keep = true;
            Err(error.context(format!(
                "the newcomer's crate is in {}",
                directory.path.display()
            )))
        }
    }
}

fn play(workspace: &Workspace, metadata: &Metadata, directory: &Path) -> Result<()> {
    let packages = unpack(workspace, metadata, &directory.join("packages"))?;
    let crate_dir = directory.join("newcomer");
    write(workspace, metadata, &crate_dir, &packages)?;
    for args in [&["test"][..], &["run"]] {
        let mut command = workspace.cargo(args);
        // The workspace's build directory has the same third-party crates in the same versions.
        command
            .current_dir(&crate_dir)
            .env("CARGO_TARGET_DIR", &metadata.target_directory);
        run_command(command)?;
    }
    Ok(())
}

/// Packages each library crate and unpacks it; returns name and directory of each.
fn unpack(
    workspace: &Workspace,
    metadata: &Metadata,
    directory: &Path,
) -> Result<Vec<(String, PathBuf)>> {
    let libraries = libraries(metadata);
    let mut package = workspace.cargo(["package", "--quiet", "--allow-dirty", "--no-verify"]);
    libraries.iter().for_each(|library| {
        package.args(["-p", &library.name]);
    });
    run_command(package)?;

    fs::create_dir_all(directory)?;
    let mut unpacked = Vec::new();
    for library in libraries {
        let name = format!("{}-{}", library.name, library.version);
        let file = metadata
            .target_directory
            .join("package")
            .join(format!("{name}.crate"));
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(file).arg("-C").arg(directory);
        run_command(tar)?;
        unpacked.push((library.name.to_string(), directory.join(name)));
    }
    Ok(unpacked)
}

/// Writes the newcomer's crate.
fn write(
    workspace: &Workspace,
    metadata: &Metadata,
    directory: &Path,
    packages: &[(String, PathBuf)],
) -> Result<()> {
    for (path, text) in TEMPLATES {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // The packages are not published yet: each is patched in from where it was unpacked.
    let mut manifest = fs::read_to_string(directory.join("Cargo.toml"))?;
    for (name, path) in packages {
        manifest.push_str(&format!(
            "{name} = {{ path = {:?} }}\n",
            path.display().to_string()
        ));
    }
    fs::write(directory.join("Cargo.toml"), manifest)?;
    // The same versions of other people's crates as here: a release of theirs is not our news.
    let lock = metadata.workspace_root.join("Cargo.lock");
    if lock.exists() {
        fs::copy(lock, directory.join("Cargo.lock"))?;
    }
    let outside = !directory.starts_with(workspace.root());
    if !outside {
        bail!(
            "{} lies inside the workspace: that proves nothing",
            directory.display()
        );
    }
    Ok(())
}

// === impl ThrowAway ===

impl ThrowAway {
    fn new(metadata: &Metadata) -> Result<Self> {
        // Always the same place for the same build directory: what cargo keeps there of our packages
        // is kept by their path, and would pile up.
        let mut hasher = DefaultHasher::new();
        metadata.target_directory.hash(&mut hasher);
        let path = std::env::temp_dir().join(format!("balancer-newcomer-{:016x}", hasher.finish()));
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot empty {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: what is left behind lies where a system cleans up anyway.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
