//! The bench's own programs: a server in a process of its own, and clients that count.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::{self, Workspace};

/// Where the programs are.
pub(super) struct Binaries(PathBuf);

/// Echo servers. They end with it.
pub(super) struct Server {
    process: Child,
    addresses: String,
}

/// What to run: a contender under a load.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub contender: String,
    pub concurrency: usize,
}

/// Two runs of different lengths: their difference has no start-up in it.
const SHORT: u64 = 500;
const LONG: u64 = 2_500;

// === impl Binaries ===

impl Binaries {
    /// Builds them.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        workspace::run(workspace.cargo(["build", "--release", "-p", "benches", "--bins"]))?;
        let target = workspace.metadata()?.target_directory;
        Ok(Self(target.join("release").into_std_path_buf()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Allocations per RPC.
    pub(super) fn allocations(&self, job: &Job, server: &Server) -> Result<f64> {
        let mut command = Command::new(self.path("bench-allocations"));
        job.describe(&mut command, server, LONG);
        let said = workspace::read(command)?;
        number(&said, "allocations")
    }

    /// Instructions per RPC, as callgrind counts them: none of the kernel's.
    pub(super) fn instructions(&self, job: &Job, server: &Server) -> Result<u64> {
        let (short, long) = (
            self.collected(job, server, SHORT)?,
            self.collected(job, server, LONG)?,
        );
        Ok(long.saturating_sub(short) / (LONG - SHORT))
    }

    fn collected(&self, job: &Job, server: &Server, count: u64) -> Result<u64> {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(self.path("bench-client"));
        job.describe(&mut command, server, count);
        let output = command.output().context("valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let contender = &job.contender;
        ensure!(
            output.status.success(),
            "{contender} failed under callgrind: {said}"
        );
        let measured = String::from_utf8_lossy(&output.stdout);
        ensure!(
            measured.contains(&format!("\"ok\":{count},\"failed\":0")),
            "{contender} lost RPCs: {measured}"
        );
        said.lines()
            .find_map(|line| line.split("Collected :").nth(1))
            .and_then(|n| n.trim().parse().ok())
            .context("callgrind said no count")
    }
}

/// Whether callgrind can be had.
pub(super) fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok()
}

/// A field of the object that a program printed.
fn number(said: &str, field: &str) -> Result<f64> {
    let value: Value = serde_json::from_str(said.trim())?;
    value[field]
        .as_f64()
        .with_context(|| format!("no {field} in {said}"))
}

// === impl Job ===

impl Job {
    fn describe(&self, command: &mut Command, server: &Server, count: u64) {
        command
            .args([&self.contender, &server.addresses])
            .args(["--count", &count.to_string()])
            .args(["--concurrency", &self.concurrency.to_string()]);
    }
}

// === impl Server ===

impl Server {
    /// So many of them, in one process.
    pub(super) fn start(binaries: &Binaries, backends: usize) -> Result<Self> {
        let mut process = Command::new(binaries.path("bench-server"))
            .arg(backends.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("bench-server")?;
        let stdout = process
            .stdout
            .take()
            .context("the server's output is piped")?;
        let mut addresses = String::new();
        BufReader::new(stdout).read_line(&mut addresses)?;
        Ok(Self {
            process,
            addresses: addresses.trim().to_owned(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its standard input, too; this is for a server that hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
