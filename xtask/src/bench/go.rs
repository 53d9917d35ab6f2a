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
    pub version: &'static str,
    /// Of the toolchain, in its own words.
    pub toolchain: String,
}

/// The newest grpc-go, and the minor version of Go that it takes.
const NEW: (u32, &str) = (25, "v1.83.1");

/// The one that Debian ships: any Go with modules builds it.
const OLD: &str = "v1.33.3";

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
        let version = grpc_for(&toolchain);

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
        let go = |words: &[&str]| {
            let mut command = Command::new("go");
            command.args(words).current_dir(&directory);
            workspace::run(command)
        };
        go(&["get", &format!("google.golang.org/grpc@{version}")])?;
        go(&["mod", "tidy"])?;
        go(&["build", "-o", "bench-go", "."])?;
        Ok(Self {
            program: directory.join("bench-go"),
            version,
            toolchain,
        })
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// What ours may take of its CPU: more of the old one, which is faster.
    pub(super) fn bar(&self) -> f64 {
        if self.version == NEW.1 { 0.72 } else { 0.85 }
    }
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
