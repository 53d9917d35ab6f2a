//! grpc-go, where there is a Go toolchain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use serde_json::Value;

use super::run::{answers, limited, object};
use crate::workspace::{self, Workspace};

/// The bench's client on grpc-go.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
    /// Of grpc-go.
    version: String,
    /// Of the toolchain, in its own words.
    toolchain: String,
}

const PROGRAM: &str = "bench-go";

/// The newest grpc-go, and the minor version of Go that it takes.
const NEW: (u32, &str) = (25, "v1.83.1");

/// The one that Debian ships as sources: any Go builds it.
const OLD: &str = "v1.33.3";

/// The minor version from which on picks and RPCs cost what they cost in [`NEW`].
const RECENT: u32 = 80;

/// Its files, beside the module's own.
const FILES: [&str; 3] = ["main.go", "picks.go", "go.mod"];

/// Where grpc-go says its version.
const VERSION: &str = "src/google.golang.org/grpc/version.go";

/// Where Debian's package `golang-google-grpc-dev` puts them.
const DEBIAN: &str = "/usr/share/gocode";

// === impl Go ===

impl Go {
    /// Builds it.
    ///
    /// # Errors
    /// There is no toolchain, or it cannot fetch grpc-go or build with it.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        anyhow::ensure!(answers("go", "version"), "there is no Go toolchain");
        let mut version = Command::new("go");
        version.arg("version");
        let toolchain = workspace::read(version)?.trim().to_owned();
        let directory = workspace
            .metadata()?
            .target_directory
            .join("bench-go")
            .into_std_path_buf();
        fs::create_dir_all(&directory)?;
        let sources = workspace.root().join("benches").join("go");
        for file in FILES {
            fs::copy(sources.join(file), directory.join(file)).context("grpc-go's client")?;
        }
        let version = match as_module(&directory, &toolchain) {
            Ok(version) => version,
            Err(why) => {
                let sources = installed_sources().with_context(|| {
                    format!("{why:#}; nor is Debian's golang-google-grpc-dev installed")
                })?;
                let version = version_of(&sources)?;
                let mut build = go(&directory, &["build", "-o", PROGRAM, "."]);
                build.env("GO111MODULE", "off").env("GOPATH", sources);
                workspace::run(build)?;
                version
            }
        };
        Ok(Self {
            program: directory.join(PROGRAM),
            version,
            toolchain,
        })
    }

    pub(super) fn describe(&self) -> String {
        let toolchain = self.toolchain.trim_start_matches("go version ");
        format!("grpc-go {}, built by {toolchain}", self.version)
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// What ours may take of its CPU: more of the old one, which is faster.
    pub(super) fn bar(&self) -> f64 {
        if self.minor() >= RECENT { 0.72 } else { 0.85 }
    }

    fn minor(&self) -> u32 {
        let minor = self.version.split('.').nth(1);
        minor.and_then(|minor| minor.parse().ok()).unwrap_or(0)
    }

    /// What its picks take, on the client's processor or on all.
    pub(super) fn picks(&self, args: &[&str], on_one: bool) -> Result<Value> {
        let mut command = match on_one {
            true => limited(&self.program),
            false => Command::new(&self.program),
        };
        command.args(args);
        object(command)
    }
}

/// What the sources say of themselves.
fn version_of(sources: &Path) -> Result<String> {
    let file = sources.join(VERSION);
    let text = fs::read_to_string(&file).context("grpc-go's version")?;
    let quoted = text.split("const Version = \"").nth(1);
    let version = quoted.and_then(|rest| rest.split('"').next());
    Ok(format!("v{}", version.context("grpc-go says no version")?))
}

/// Builds with the grpc-go that the toolchain's own client fetches.
fn as_module(directory: &Path, toolchain: &str) -> Result<String> {
    let version = grpc_for(toolchain);
    let grpc = format!("google.golang.org/grpc@{version}");
    workspace::run(go(directory, &["get", &grpc]))?;
    workspace::run(go(directory, &["mod", "tidy"]))?;
    workspace::run(go(directory, &["build", "-o", PROGRAM, "."]))?;
    Ok(version.to_owned())
}

/// A tree of sources with grpc-go in it.
fn installed_sources() -> Option<PathBuf> {
    let named = std::env::var_os("GOPATH").unwrap_or_default();
    let mut trees = std::env::split_paths(&named).chain([PathBuf::from(DEBIAN)]);
    trees.find(|tree| tree.join("src/google.golang.org/grpc").is_dir())
}

fn go(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(words).current_dir(directory);
    command
}

/// The grpc-go that a toolchain can build.
fn grpc_for(toolchain: &str) -> &'static str {
    let minor = toolchain
        .split("go1.")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(minor) if minor >= NEW.0 => NEW.1,
        _ => OLD,
    }
}
