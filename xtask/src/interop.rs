//! `cargo xtask interop`: the channel against grpcio's server, and grpcio's client against our
//! backends.
//!
//! grpcio comes by package name into a throw-away environment below the build directory. The cases
//! are a test of the channel's crate; this prepares what they need and prints what they say.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::report::{Outcome, Skip};
use crate::workspace::Workspace;

/// What is installed, by name and version.
pub const PACKAGES: &[&str] = &["grpcio==1.85.1", "grpcio-health-checking==1.85.1"];

/// What `interop.rs` of the channel's tests says of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What was tried.
    pub name: String,
    /// PASS, FAIL or SKIP.
    pub verdict: String,
    /// How long it took.
    pub millis: u64,
    /// Why it was skipped or failed, where its own words do not say.
    pub why: String,
}

/// Installs grpcio, runs every case, prints the table.
///
/// # Errors
/// When a case failed, or none was run although grpcio is there. What cannot be had here is a skip.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let metadata = workspace.metadata()?;
    let directory = metadata.target_directory.join("interop");
    let python = match prepare(directory.as_std_path()) {
        Ok(python) => python,
        Err(why) => return Ok(Outcome::skip("interop", format!("{why:#}"))),
    };
    let (cases, success) = drive(workspace, &python)?;
    table(&cases);
    judge(&cases, success)
}

/// Reads a line of the driver, if it is a case.
pub fn parse(line: &str) -> Option<Case> {
    let mut fields = line.split('\t');
    if fields.next()? != "case" {
        return None;
    }
    Some(Case {
        name: fields.next()?.to_owned(),
        verdict: fields.next()?.to_owned(),
        millis: fields.next()?.parse().ok()?,
        why: fields.next().unwrap_or_default().to_owned(),
    })
}

/// Turns cases and the driver's own verdict into one.
///
/// # Errors
/// When a case failed, when the driver failed without saying which, when there was no case.
pub fn judge(cases: &[Case], success: bool) -> Result<Outcome> {
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| case.verdict == "FAIL")
        .map(|case| case.name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("interop failed: {}", failed.join(", "));
    }
    if !success {
        bail!("the driver of the cases failed; it says why above");
    }
    if cases.is_empty() {
        bail!("no case was run");
    }
    let skipped = cases.iter().filter(|case| case.verdict == "SKIP");
    Ok(Outcome {
        skipped: skipped
            .map(|case| Skip {
                what: format!("interop: {}", case.name),
                why: case.why.clone(),
            })
            .collect(),
    })
}

/// An interpreter with grpcio, made if it is not there yet. An error is a reason to skip.
fn prepare(directory: &Path) -> Result<PathBuf> {
    let environment = directory.join("venv");
    let python = ["bin/python", "Scripts/python.exe"].map(|path| environment.join(path));
    let stamp = directory.join("installed");
    let wanted = PACKAGES.join("\n");
    let installed = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if installed && let Some(python) = python.iter().find(|python| python.exists()) {
        return Ok(python.clone());
    }

    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory)?;
    println!(
        "making {} with {}",
        environment.display(),
        PACKAGES.join(", ")
    );
    let mut make = Command::new(if cfg!(windows) { "python" } else { "python3" });
    make.args(["-m", "venv"]).arg(&environment);
    quiet(make, "python3 with its venv module is needed")?;
    let python = python.iter().find(|python| python.exists());
    let python = python.context("the environment has no interpreter")?;
    let mut install = Command::new(python);
    install.args(["-m", "pip", "install", "--quiet", "--no-input"]);
    install.args(["--disable-pip-version-check", "--only-binary", ":all:"]);
    install
        .args(["--retries", "2", "--timeout", "20"])
        .args(PACKAGES);
    quiet(install, "pip cannot install grpcio here")?;
    fs::write(stamp, wanted)?;
    Ok(python.clone())
}

/// Runs a command whose output matters only when it fails.
fn quiet(mut command: Command, why: &'static str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(why)?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        bail!("{why}: {}", last.unwrap_or("it did not say why"));
    }
    Ok(())
}

/// Runs the cases; answers them, and whether the driver ended well.
fn drive(workspace: &Workspace, python: &Path) -> Result<(Vec<Case>, bool)> {
    // The whole workspace's features, so that CI does not build everything once more.
    let mut command = workspace.cargo(["test", "--quiet", "--workspace", "--test", "interop"]);
    command
        .args(["--", "--ignored", "--nocapture"])
        .env("BALANCER_INTEROP_PYTHON", python)
        .env(
            "BALANCER_INTEROP_SCRIPTS",
            workspace.root().join("xtask/interop"),
        )
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut cases = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what the driver says")?;
            match parse(&line) {
                Some(case) => cases.push(case),
                None if line.trim().is_empty() => {}
                None => println!("{line}"),
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((cases, status.success()))
}

fn table(cases: &[Case]) {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    println!("\n{:<width$}  {:<7}  {:>6}", "case", "verdict", "ms");
    for Case {
        name,
        verdict,
        millis,
        why,
    } in cases
    {
        println!("{name:<width$}  {verdict:<7}  {millis:>6}  {why}");
    }
    let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let [passed, failed, skipped] = ["PASS", "FAIL", "SKIP"].map(count);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
}
