//! The bench's own programs: servers in a process of their own, and clients that measure.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::plan::{CONTENDERS, Scenario};
use crate::workspace::{self, Workspace};

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Binaries(PathBuf);

/// Echo servers. They end with it.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    addresses: String,
    /// The certificate to trust.
    ca: Option<PathBuf>,
}

/// One program under one load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub contender: &'a str,
    pub scenario: &'a Scenario,
    pub server: &'a Server,
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub rps: f64,
    /// Microseconds of the client's CPU per RPC.
    pub cpu: f64,
    pub p50: f64,
    pub p99: f64,
    pub failed: f64,
}

/// Two runs of different lengths: their difference has no start-up in it.
const SHORT: u64 = 500;
const LONG: u64 = 2_500;

/// A run has ended by then, or hangs.
const WAIT: &str = "120";

// === impl Binaries ===

impl Binaries {
    /// Builds them.
    pub(super) fn build(workspace: &Workspace, features: &[&str]) -> Result<Self> {
        let mut command = workspace.cargo(["build", "--release", "-p", "benches", "--bins"]);
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        workspace::run(command)?;
        let target = workspace.metadata()?.target_directory;
        Ok(Self(target.join("release").into_std_path_buf()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Runs a client for so many milliseconds after it has warmed up.
    pub(super) fn sample(&self, job: Job<'_>, millis: u64) -> Result<Sample> {
        sample(&self.path("bench-client"), job, millis)
    }

    /// Allocations per RPC.
    pub(super) fn allocations(&self, job: Job<'_>) -> Result<f64> {
        let (_, long) = job.counts();
        let mut command = limited(&self.path("bench-allocations"));
        job.describe(&mut command);
        command.args(["--count", &long.to_string()]);
        number(&object(command)?, "allocations")
    }

    /// Instructions per RPC, as callgrind counts them: none of the kernel's.
    pub(super) fn instructions(&self, job: Job<'_>) -> Result<u64> {
        let (short, long) = job.counts();
        let count = |rpcs| self.profile(job, rpcs, Path::new("/dev/null"));
        Ok(count(long)?.saturating_sub(count(short)?) / (long - short))
    }

    /// Instructions of so many RPCs with all that is around them; callgrind's report goes to `out`.
    pub(super) fn profile(&self, job: Job<'_>, count: u64, out: &Path) -> Result<u64> {
        let mut command = callgrind(out);
        command.arg(self.path("bench-client"));
        job.describe(&mut command);
        command.args(["--count", &count.to_string()]);
        let (collected, printed) = collected(command)?;
        ensure!(
            printed.contains(&format!("\"ok\":{count},\"failed\":0")),
            "{} lost RPCs: {printed}",
            job.contender
        );
        Ok(collected)
    }

    /// Instructions per pick: the pick's alone where `inside` names its function, or else with all
    /// that is around it.
    pub(super) fn pick_instructions(&self, args: &[&str], inside: Option<&str>) -> Result<f64> {
        let count = |picks: u64| -> Result<u64> {
            let mut command = callgrind(Path::new("/dev/null"));
            command.args(inside.map(|function| format!("--toggle-collect={function}")));
            command.arg(self.path("bench-policy")).args(args);
            command.args(["--count", &picks.to_string()]);
            Ok(collected(command)?.0)
        };
        let (short, long) = (count(SHORT)?, count(LONG * 4)?);
        Ok(long.saturating_sub(short) as f64 / (LONG * 4 - SHORT) as f64)
    }

    /// Instructions of one function, and of what it calls, in a run of `bench-policy`.
    pub(super) fn policy_instructions(&self, args: &[&str], function: &str) -> Result<f64> {
        let mut command = callgrind(Path::new("/dev/null"));
        command.arg(format!("--toggle-collect={function}"));
        command.arg(self.path("bench-policy")).args(args);
        Ok(collected(command)?.0 as f64)
    }

    /// What `bench-policy` prints where its threads are to have a processor each.
    pub(super) fn policy_on_all_processors(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(self.path("bench-policy"));
        command.args(args);
        object(command)
    }

    /// What `bench-waiting` prints on the client's processor.
    pub(super) fn waiting(&self, args: &[&str]) -> Result<Value> {
        let mut command = limited(&self.path("bench-waiting"));
        command.args(args);
        object(command)
    }

    /// What `bench-channel` prints on the client's processor.
    pub(super) fn channel(&self, args: &[&str]) -> Result<Value> {
        let mut command = limited(&self.path("bench-channel"));
        command.args(args);
        object(command)
    }

    /// What `bench-policy` prints on the client's processor.
    pub(super) fn policy(&self, args: &[&str]) -> Result<Value> {
        let mut command = limited(&self.path("bench-policy"));
        command.args(args);
        object(command)
    }
}

/// Runs any client that takes the bench's arguments and prints the bench's object.
pub(super) fn sample(program: &Path, job: Job<'_>, millis: u64) -> Result<Sample> {
    let mut command = limited(program);
    job.describe(&mut command);
    let warm_up = (millis / 3).to_string();
    command.args(["--time", &millis.to_string(), "--warm-up", &warm_up]);
    let object = object(command)?;
    let at = |field| number(&object, field);
    Ok(Sample {
        rps: at("rps")?,
        cpu: at("cpu_us")?,
        p50: at("p50_us")?,
        p99: at("p99_us")?,
        failed: at("failed")?,
    })
}

/// Whether callgrind can be had.
pub(super) fn has_valgrind() -> bool {
    answers("valgrind", "--version")
}

/// Whether a program is there.
pub(super) fn answers(program: impl AsRef<OsStr>, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument);
    command.output().is_ok_and(|output| output.status.success())
}

/// The program on the first processor, where the servers are not, and not for ever. Either only
/// where the system has the tool for it.
pub(super) fn limited(program: &Path) -> Command {
    let mut words: Vec<&OsStr> = Vec::new();
    if answers("timeout", "--version") {
        words.extend(["timeout", WAIT].map(OsStr::new));
    }
    if pins() {
        words.extend(["taskset", "-c", "0"].map(OsStr::new));
    }
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn pins() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)
        && answers("taskset", "--version")
}

fn callgrind(out: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind");
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command
}

/// What callgrind counted, and what the program printed.
fn collected(mut command: Command) -> Result<(u64, String)> {
    let output = command.output().context("valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let what = command.get_args().collect::<Vec<_>>().join(OsStr::new(" "));
    ensure!(
        output.status.success(),
        "`{}` failed: {said}",
        what.display()
    );
    let collected = said
        .lines()
        .find_map(|line| line.split("Collected :").nth(1))
        .and_then(|n| n.trim().parse().ok())
        .context("callgrind said no count")?;
    Ok((
        collected,
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

/// The object that a program prints.
pub(super) fn object(command: Command) -> Result<Value> {
    let said = workspace::read(command)?;
    serde_json::from_str(said.trim()).with_context(|| format!("not an object: {said}"))
}

/// A field of an object that a program printed.
pub(super) fn number(object: &Value, field: &str) -> Result<f64> {
    object[field]
        .as_f64()
        .with_context(|| format!("no {field} in {object}"))
}

// === impl Job ===

impl Job<'_> {
    fn counts(&self) -> (u64, u64) {
        let slow = CONTENDERS
            .iter()
            .any(|one| one.slow && one.name == self.contender);
        let part = if slow { 10 } else { 1 };
        (SHORT / part, LONG / part)
    }

    fn describe(&self, command: &mut Command) {
        command
            .args([self.contender, &self.server.addresses])
            .args(["--concurrency", &self.scenario.concurrency.to_string()])
            .args(["--size", &self.scenario.size.to_string()]);
        if self.scenario.streaming {
            command.arg("--streaming");
        }
        if let Some(ca) = &self.server.ca {
            command.arg("--ca").arg(ca);
        }
    }
}

// === impl Server ===

impl Server {
    /// Where they listen, separated by commas.
    pub(super) fn addresses(&self) -> &str {
        &self.addresses
    }

    /// So many of them, in one process; with TLS where `ca` says where to put their certificate.
    pub(super) fn start(binaries: &Binaries, backends: usize, ca: Option<PathBuf>) -> Result<Self> {
        let program = binaries.path("bench-server");
        let mut command = match pins() {
            true => {
                let mut command = Command::new("taskset");
                command.args(["-c", "1"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.arg(backends.to_string());
        if let Some(ca) = &ca {
            command.arg("--tls").arg(ca);
        }
        let mut process = command
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
            ca,
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
