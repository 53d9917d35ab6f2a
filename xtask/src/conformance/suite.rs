//! Builds a crate's test programs, runs the suites in them one by one, and reads what they say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use super::{Plan, Tested};
use crate::workspace::{Workspace, read};

/// A module with all of these tests is a suite: `conformance!` made it.
const FAMILIES: &[&str] = &["picks", "states", "liveness", "determinism"];

/// How the part of a suite's report begins that says what was walked.
const COUNTS: &[&str] = &[
    "beginnings:",
    "letters:",
    "exhaustive to depth",
    "random from seed",
    "as a child of a child",
];

/// A test program.
#[derive(Debug)]
pub(super) struct Program {
    /// What cargo calls it, and where it is.
    target: String,
    executable: PathBuf,
    /// Where cargo starts it.
    directory: PathBuf,
    /// The names of its tests.
    tests: Vec<String>,
}

/// What the families of one suite came to.
#[derive(Debug, Default)]
pub(super) struct Ran {
    families: usize,
    failed: usize,
}

/// Builds the programs that have suites.
pub(super) fn build(workspace: &Workspace, tested: &Tested, plan: &Plan) -> Result<Vec<Program>> {
    let mut command = workspace.cargo(["test", "--no-run"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(&tested.manifest);
    command.args(tested.targets.iter().flatten());
    if plan.release {
        command.arg("--release");
    }
    if plan.optimize {
        // The calls between policy, kit and contract are all there is: 6 % less time.
        command
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    }
    println!("building the suites of {}", tested.name);
    let messages = read_stdout(command)?;
    let directory = tested.manifest.parent().unwrap_or(Path::new("."));
    let mut programs = Vec::new();
    for message in Message::parse_stream(messages.as_bytes()) {
        let Message::CompilerArtifact(artifact) = message? else {
            continue;
        };
        if !artifact.profile.test {
            continue;
        }
        if let Some(executable) = artifact.executable {
            let mut program = Program {
                target: artifact.target.name,
                executable: executable.into_std_path_buf(),
                directory: directory.to_path_buf(),
                tests: Vec::new(),
            };
            program.tests = program.list()?;
            programs.push(program);
        }
    }
    Ok(programs)
}

/// What the command wrote to stdout; its stderr is ours, so that a build shows what it does.
fn read_stdout(mut command: Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the suites do not build: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The modules in which every test of [`FAMILIES`] is.
pub(super) fn suites_among(tests: &[String]) -> Vec<String> {
    let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for test in tests {
        if let Some((module, name)) = test.rsplit_once("::") {
            modules.entry(module).or_default().push(name);
        }
    }
    modules.retain(|_, names| FAMILIES.iter().all(|family| names.contains(family)));
    modules.into_keys().map(str::to_owned).collect()
}

// === impl Program ===

impl Program {
    /// The suites in it, by the paths of their modules.
    pub(super) fn suites(&self) -> Result<Vec<String>> {
        Ok(suites_among(&self.tests))
    }

    /// The test as one knows it.
    pub(super) fn test(&self) -> &str {
        &self.target
    }

    /// The suite's place, in one word.
    pub(super) fn place(&self, suite: &str) -> String {
        match suite == self.target {
            true => suite.to_owned(),
            false => format!("{}::{suite}", self.target),
        }
    }

    /// Runs one suite, shows each family as it ends, the counts, and whatever failed.
    pub(super) fn run(&self, suite: &str, plan: &Plan) -> Result<Ran> {
        let prefix = format!("{suite}::");
        let families = self.tests.iter().filter(|test| {
            let name = test.strip_prefix(&prefix);
            name.is_some_and(|name| !name.contains("::"))
        });
        let mut command = self.command();
        // One at a time: the walk uses the cores by itself.
        command.args(["--exact", "--show-output", "--test-threads=1"]);
        command.args(families).stdout(Stdio::piped());
        // A broken law is told by its conversation; the stack is always the kit's.
        command.env("RUST_BACKTRACE", "0");
        for (name, value) in &plan.knobs {
            command.env(format!("BALANCER_KIT_{name}"), value.to_string());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.executable.display()))?;
        let stdout = child.stdout.take().context("the suite has no stdout")?;
        let mut report = Report::new(prefix);
        for line in BufReader::new(stdout).split(b'\n') {
            report.line(&String::from_utf8_lossy(&line?));
        }
        let status = child.wait()?;
        report.end();
        if report.ran.families == 0 || (report.ran.failed == 0 && !status.success()) {
            bail!("{suite} ended with {status} before its last family did");
        }
        Ok(report.ran)
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut command = self.command();
        command.args(["--list", "--format", "terse"]);
        let tests = read(command)?;
        let tests = tests.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(tests.map(str::to_owned).collect())
    }

    /// The program as `cargo test` starts it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .current_dir(&self.directory)
            .env("CARGO_MANIFEST_DIR", &self.directory);
        command
    }
}

// === impl Ran ===

impl Ran {
    /// How many families there were.
    pub(super) fn families(&self) -> usize {
        self.families
    }

    /// How many of them found a broken law.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }
}

/// What a suite wrote, line by line.
struct Report {
    prefix: String,
    ran: Ran,
    /// Whether the counts have been shown: each family repeats them.
    counted: bool,
    /// The family whose output is being read, if it failed, and that output.
    failing: Option<String>,
    failed: Vec<String>,
    shown: Vec<String>,
}

// === impl Report ===

impl Report {
    fn new(prefix: String) -> Self {
        Self {
            prefix,
            ran: Ran::default(),
            counted: false,
            failing: None,
            failed: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(verdict) = line.strip_prefix("test ")
            && let Some((name, verdict)) = verdict.rsplit_once(" ... ")
            && let Some(family) = name.strip_prefix(&self.prefix)
        {
            self.ran.families += 1;
            if verdict.trim() == "FAILED" {
                self.ran.failed += 1;
                self.failed.push(name.to_owned());
            }
            println!("  {family:<12} {verdict}");
            return;
        }
        if let Some(header) = line.strip_prefix("---- ") {
            let name = header.strip_suffix(" stdout ----").unwrap_or(header);
            let failed = self.failed.iter().any(|failed| failed == name);
            self.failing = failed.then(|| name.to_owned());
            // Two families that report one failure report it once.
            if failed {
                self.shown.push(String::new());
            }
            return;
        }
        if matches!(line, "failures:" | "successes:") || line.starts_with("test result:") {
            self.failing = None;
            return;
        }
        let counts = COUNTS.iter().any(|start| line.starts_with(start));
        if counts {
            if !self.counted {
                println!("  {line}");
                self.counted = line.starts_with(COUNTS[COUNTS.len() - 1]);
            }
        } else if self.failing.is_some()
            && let Some(shown) = self.shown.last_mut()
        {
            shown.push_str(line);
            shown.push('\n');
        }
    }

    fn end(&self) {
        for (name, shown) in self.failed.iter().zip(&self.shown) {
            println!("\n{name} FAILED");
            println!("{}", shown.trim());
        }
    }
}
