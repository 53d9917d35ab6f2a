//! Where the workspace is, and how a command of ours starts another program in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace this xtask belongs to.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

// === impl Workspace ===

impl Workspace {
    /// The workspace this xtask was built in.
    ///
    /// # Panics
    /// Never: a crate of a workspace has a parent directory.
    pub fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Self {
            root: root
                .expect("xtask lies below the workspace root")
                .to_path_buf(),
        }
    }

    /// The directory of the root manifest.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo, in the root directory: the one that runs us, so that a toolchain override holds.
    pub fn cargo<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root);
        // What `cargo run` tells us about this package must not leak into the build of others.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// What cargo knows about the workspace's own packages.
    pub fn metadata(&self) -> Result<Metadata> {
        self.metadata_command()
            .no_deps()
            .exec()
            .context("`cargo metadata --no-deps` failed")
    }

    /// What cargo knows about every package of the lock file.
    pub fn resolved_metadata(&self) -> Result<Metadata> {
        self.metadata_command()
            .exec()
            .context("`cargo metadata` failed")
    }

    fn metadata_command(&self) -> MetadataCommand {
        let mut command = MetadataCommand::new();
        command.current_dir(&self.root);
        command
    }
}

/// Runs a command with our own stdout and stderr, after printing it.
///
/// # Errors
/// When it cannot be started or does not end with success.
pub fn run(mut command: Command) -> Result<()> {
    let line = describe(&command);
    println!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it wrote to stdout.
///
/// # Errors
/// When it cannot be started or does not end with success; its stderr is part of the message.
pub fn read(mut command: Command) -> Result<String> {
    let line = describe(&command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{stderr}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not write UTF-8"))
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
