//! The test programs behind the rows: builds them once, and runs tests of them by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use super::Size;
use super::bugs::BUGS;
use super::rows::{How, Row, Test};
use super::table::{Entry, Verdict, parse};
use crate::fuzz;
use crate::workspace::Workspace;

/// Where the scenarios are.
const PACKAGE: &str = "balancer-channel";
const SCENARIOS: &str = "reliability";

/// Test programs, by package and target.
#[derive(Debug)]
pub(crate) struct Programs {
    found: Found,
    /// Built for release: what a full run measures comes at rates that a debug build does not hold.
    fast: Option<Found>,
}

/// Test programs of one build.
type Found = BTreeMap<(String, String), Program>;

#[derive(Debug)]
struct Program {
    executable: PathBuf,
    /// Where cargo would start it.
    directory: PathBuf,
}

// === impl Programs ===

impl Programs {
    /// Builds what the rows need. `all`: the whole workspace's, which CI has built already.
    pub(super) fn build(
        workspace: &Workspace,
        rows: &[&Row],
        size: Size,
        all: bool,
    ) -> Result<Self> {
        let full = size == Size::Full;
        let (fast, others): (Vec<&Row>, Vec<&Row>) = rows
            .iter()
            .partition(|row| full && matches!(row.how, How::Scenario(_) | How::Fuzz(_)));
        let packages_of = |rows: &[&Row]| rows.iter().flat_map(|row| row.packages()).collect();
        let mut programs = Self::of(workspace, packages_of(&others), all)?;
        if full {
            programs.fast = Some(built(workspace, packages_of(&fast), false, true)?);
        }
        Ok(programs)
    }

    /// Builds the test programs of packages.
    pub(crate) fn of(workspace: &Workspace, packages: BTreeSet<&str>, all: bool) -> Result<Self> {
        let found = built(workspace, packages, all, false)?;
        Ok(Self { found, fast: None })
    }

    /// Runs a scenario in a process of its own and reads the rows it speaks for.
    pub(super) fn scenario(&self, id: u32, name: &str, size: Size) -> Result<Vec<Entry>> {
        let programs = self.fast.as_ref().unwrap_or(&self.found);
        let mut command = command(programs, PACKAGE, SCENARIOS)?;
        command.args(["--ignored", "--exact", "--nocapture", name]);
        command.env("BALANCER_RELIABILITY", size.word());
        measured(command, id, name)
    }

    /// Runs tests by name: every name must be that of a test or of a module of tests, and all must pass.
    pub(super) fn tests(&self, id: u32, tests: &[Test]) -> Result<Entry> {
        let (passed, failed) = self.run(tests, &[])?;
        if failed.is_empty() {
            let measured = format!("{passed} tests pass");
            return Ok(Entry::new(id, measured, Verdict::Pass));
        }
        Ok(Entry::fail(
            id,
            &format!("failed or gone: {}", failed.join(", ")),
        ))
    }

    /// Runs the tests that would have caught other people's bugs.
    pub(super) fn bugs(&self, id: u32) -> Result<Entry> {
        let (mut tests, mut open) = (0, Vec::new());
        for bug in BUGS {
            let (passed, failed) = self.run(bug.tests, &[])?;
            tests += passed;
            if !failed.is_empty() {
                open.push(format!("{} ({})", bug.reported, failed.join(", ")));
            }
        }
        if open.is_empty() {
            let measured = format!("{} of {}, by {tests} tests", BUGS.len(), BUGS.len());
            return Ok(Entry::new(id, measured, Verdict::Pass));
        }
        Ok(Entry::fail(id, &format!("not caught: {}", open.join("; "))))
    }

    /// Runs all tests of packages, on one thread and on many, ten times each.
    pub(super) fn repeat(&self, id: u32, packages: &[&str]) -> Result<Entry> {
        let (mut runs, mut failed) = (0, BTreeSet::new());
        for ((package, target), program) in &self.found {
            if !packages.contains(&package.as_str()) {
                continue;
            }
            for threads in ["1", "8"] {
                for _ in 0..10 {
                    let mut command = Command::new(&program.executable);
                    command.args(["--quiet", "--test-threads", threads]);
                    command.current_dir(&program.directory);
                    runs += 1;
                    if !heard(command)?.1 {
                        failed.insert(format!("{package} {target} on {threads}"));
                    }
                }
            }
        }
        let failed: Vec<String> = failed.into_iter().collect();
        match (runs, failed.is_empty()) {
            (1.., true) => {
                let measured = format!("0 of {runs} runs of test programs");
                Ok(Entry::new(id, measured, Verdict::Pass))
            }
            _ => Ok(Entry::fail(id, &format!("failed: {}", failed.join(", ")))),
        }
    }

    /// Runs a scenario of another package, built for release.
    pub(super) fn release(
        workspace: &Workspace,
        id: u32,
        package: &str,
        program: &str,
        name: &str,
    ) -> Result<Vec<Entry>> {
        let mut command = workspace.cargo(["test", "--quiet", "--release", "-p", package]);
        command.args(["--test", program, "--", "--ignored", "--exact"]);
        command.args(["--nocapture", name]);
        measured(command, id, name)
    }

    /// Makes up cases for the targets of `cargo xtask fuzz`.
    pub(super) fn fuzz(&self, id: u32, names: &[&str], size: Size) -> Result<Entry> {
        let cases: u64 = match size {
            Size::Ci => 500,
            Size::Short => 10_000,
            // Ten million in all for the eight properties of service configs.
            Size::Full => 625_000,
        };
        let (mut properties, mut broken) = (0, Vec::new());
        for target in fuzz::TARGETS.iter().filter(|t| names.contains(&t.name)) {
            let told = cases.to_string();
            let programs = self.fast.as_ref().unwrap_or(&self.found);
            let told = &[("PROPTEST_CASES", told.as_str())];
            let (ran, failed) = run_tests(programs, target.tests, told)?;
            properties += ran as u64;
            broken.extend(failed);
        }
        if broken.is_empty() && properties > 0 {
            // Those of the registry make up two for each that is asked for.
            let all = 2 * cases * properties;
            let measured = format!("{all} cases of {properties} properties");
            return Ok(Entry::new(id, measured, Verdict::Pass));
        }
        Ok(Entry::fail(
            id,
            &format!("failed or gone: {}", broken.join(", ")),
        ))
    }

    /// Runs tests by name: how many passed, and which names failed or stand for no test.
    pub(crate) fn run(
        &self,
        tests: &[Test],
        told: &[(&str, &str)],
    ) -> Result<(usize, Vec<String>)> {
        run_tests(&self.found, tests, told)
    }
}

/// Runs tests by name, as [`Programs::run`].
fn run_tests(
    programs: &Found,
    tests: &[Test],
    told: &[(&str, &str)],
) -> Result<(usize, Vec<String>)> {
    let (mut passed, mut failed) = (0, Vec::new());
    for test in tests {
        // One process for all names, so that they share the cores.
        let mut command = command(programs, test.package, test.program)?;
        command.args(test.names).envs(told.iter().copied());
        let (lines, success) = heard(command)?;
        let ok = |line: &&String| line.ends_with("... ok");
        passed += lines.iter().filter(ok).count();
        let named = test.names.iter().filter(|name| {
            let of_test =
                |line: &str| line.starts_with("test ") && !line.starts_with("test result");
            let of_it = |line: &&String| of_test(line) && line.contains(**name);
            let mut of_it = lines.iter().filter(of_it).peekable();
            of_it.peek().is_none() || of_it.any(|line| !line.ends_with("... ok"))
        });
        let before = failed.len();
        failed.extend(named.map(|name| format!("{} {name}", test.program)));
        if !success && failed.len() == before {
            failed.push(format!("{} as a whole", test.program));
        }
    }
    Ok((passed, failed))
}

fn command(programs: &Found, package: &str, program: &str) -> Result<Command> {
    let key = (package.to_owned(), program.to_owned());
    let program = programs.get(&key);
    let program = program.with_context(|| format!("{} has no tests {}", key.0, key.1))?;
    let mut command = Command::new(&program.executable);
    command.current_dir(&program.directory);
    Ok(command)
}

/// Builds test programs: those of the packages, or all.
fn built(
    workspace: &Workspace,
    packages: BTreeSet<&str>,
    all: bool,
    release: bool,
) -> Result<Found> {
    if packages.is_empty() {
        return Ok(Found::new());
    }
    let mut command = workspace.cargo(["test", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    match all {
        true => drop(command.arg("--workspace")),
        false => {
            for package in packages {
                command.args(["-p", package]);
            }
            command.args(["--lib", "--tests"]);
        }
    }
    println!("building the programs of the rows");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the programs of the rows do not build: {}", output.status);
    }
    let mut found = Found::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        let Message::CompilerArtifact(artifact) = message? else {
            continue;
        };
        let (true, Some(executable)) = (artifact.profile.test, artifact.executable) else {
            continue;
        };
        let directory = artifact.manifest_path.parent().map(ToOwned::to_owned);
        let directory = directory.unwrap_or_default().into_std_path_buf();
        let package = directory.file_name().unwrap_or_default();
        let key = (
            package.to_string_lossy().into_owned(),
            artifact.target.name.replace('_', "-"),
        );
        let executable = executable.into_std_path_buf();
        let program = Program {
            executable,
            directory,
        };
        found.insert(key, program);
    }
    Ok(found)
}

/// Runs a test program and shows what it says; its lines, and whether it ended well.
pub(crate) fn heard(mut command: Command) -> Result<(Vec<String>, bool)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a test program")?;
    let mut lines = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what a test program says")?;
            let noise = ["running ", "test result: ok"];
            if !line.is_empty() && !noise.iter().any(|noise| line.starts_with(noise)) {
                println!("    {line}");
            }
            lines.push(line);
        }
    }
    let status = child.wait().context("cannot wait for a test program")?;
    Ok((lines, status.success()))
}

// === impl Row ===

impl Row {
    /// Whose test programs it needs.
    fn packages(&self) -> Vec<&'static str> {
        match self.how {
            How::Scenario(_) => vec![PACKAGE],
            How::Tests(tests) | How::Leaks(tests) => {
                tests.iter().map(|test| test.package).collect()
            }
            How::Fuzz(names) => {
                let tests = fuzz::TARGETS.iter().filter(|t| names.contains(&t.name));
                let tests = tests.flat_map(|target| target.tests);
                tests.map(|test| test.package).collect()
            }
            How::Bugs => {
                let tests = BUGS.iter().flat_map(|bug| bug.tests);
                tests.map(|test| test.package).collect()
            }
            How::Repeat(packages) => packages.to_vec(),
            How::Release(..) | How::Loom | How::Command(..) | How::NotYet(_) => Vec::new(),
        }
    }
}

/// Runs a scenario and reads the rows it speaks for; row `id` must be among them.
fn measured(command: Command, id: u32, name: &str) -> Result<Vec<Entry>> {
    let (lines, success) = heard(command)?;
    let mut entries: Vec<Entry> = lines.iter().filter_map(|line| parse(line)).collect();
    if !entries.iter().any(|entry| entry.id == id) {
        let why = format!("{name} did not say what it measured");
        entries.push(Entry::fail(id, &why));
    } else if !success && entries.iter().all(|entry| entry.verdict != Verdict::Fail) {
        entries.iter_mut().for_each(|entry| {
            entry.verdict = Verdict::Fail;
            entry.measured.push_str(", and then failed");
        });
    }
    Ok(entries)
}
