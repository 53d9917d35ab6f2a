//! grpc-go, where there is a Go toolchain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::run::answers;
use crate::workspace::{self, Workspace};

/// The bench's client on grpc-go.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
    /// Of grpc-go.
    version: &'static str,
    /// Of the toolchain, in its own words.
    toolchain: String,
}

const PROGRAM: &str = "bench-go";

/// The newest grpc-go, and the minor version of Go that it takes.
const NEW: (u32, &str) = (25, "v1.83.1");

/// The one that Debian ships as sources: any Go builds it.
const OLD: &str = "v1.33.3";

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
        for file in ["main.go", "go.mod"] {
            fs::copy(sources.join(file), directory.join(file)).context("grpc-go's client")?;
        }
        let version = match as_module(&directory, &toolchain) {
            Ok(version) => version,
            Err(why) => {
                let debian = installed_sources().with_context(|| {
                    format!("{why:#}; nor is Debian's golang-google-grpc-dev installed")
                })?;
                let mut build = go(&directory, &["build", "-o", PROGRAM, "main.go"]);
                build.env("GO111MODULE", "off").env("GOPATH", debian);
                workspace::run(build)?;
                OLD
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
        if self.version == NEW.1 { 0.72 } else { 0.85 }
    }
}

/// Builds with the grpc-go that the toolchain's own client fetches.
fn as_module(directory: &Path, toolchain: &str) -> Result<&'static str> {
    let version = grpc_for(toolchain);
    let grpc = format!("google.golang.org/grpc@{version}");
    workspace::run(go(directory, &["get", &grpc]))?;
    workspace::run(go(directory, &["mod", "tidy"]))?;
    workspace::run(go(directory, &["build", "-o", PROGRAM, "."]))?;
    Ok(version)
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
