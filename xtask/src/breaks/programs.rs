//! The test programs of the copy, their tests, and how one of them is run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use super::copy::Copy;
use super::weave::SWITCH;
use crate::workspace::{Workspace, read};

/// The packages whose tests are seen to fail, and what the tables call them.
const PACKAGES: &[(&str, &str)] = &[
    ("balancer-channel", "channel"),
    ("balancer-channel-core", "core"),
];

/// A test that has not ended by then hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// The same for one that explores interleavings or schedules.
const LONG_LIMIT: Duration = Duration::from_secs(120);

/// How often it is looked whether a test has ended.
const LOOK: Duration = Duration::from_millis(2);

/// What is built together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Build {
    Plain,
    Loom,
    Shuttle,
}

/// Test programs and the tests in them that are not ignored.
#[derive(Debug, Default)]
pub(super) struct Programs {
    programs: BTreeMap<String, Program>,
    /// In the order in which the programs list them.
    tests: Vec<String>,
}

/// A test that was run.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) end: End,
    /// All that it wrote.
    pub(super) said: String,
    pub(super) took: Duration,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    Failed,
    Hung,
}

#[derive(Debug)]
struct Program {
    executable: PathBuf,
    /// Where cargo would start it.
    directory: PathBuf,
}

// === impl Build ===

impl Build {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Loom, Self::Shuttle];

    /// Which one has a test, by its target.
    pub(super) fn of(test: &str) -> Self {
        match target(test).split_once('/') {
            Some((_, "loom")) => Self::Loom,
            Some((_, "shuttle")) => Self::Shuttle,
            _ => Self::Plain,
        }
    }

    /// The target, where it is not all of them.
    fn test(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Loom => Some("loom"),
            Self::Shuttle => Some("shuttle"),
        }
    }

    /// Without these its targets are not built. Our packages are the same with and without.
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Loom => &["balancer-channel/loom", "balancer-channel-core/loom"],
            Self::Shuttle => &["balancer-channel-core/shuttle"],
        }
    }
}

/// The target of a test: `core/machine` of `core/machine rig::it_works`.
pub(super) fn target(test: &str) -> &str {
    test.split_once(' ').map_or(test, |(target, _)| target)
}

// === impl Programs ===

impl Programs {
    /// Builds test programs of the copy, and lists their tests.
    pub(super) fn build(
        workspace: &Workspace,
        copy: &Copy,
        builds: &BTreeSet<Build>,
    ) -> Result<Self> {
        // In one call: each set of features of other people's packages would be built anew.
        let mut cargo = workspace.cargo(["test", "--no-run", "--quiet"]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        cargo.arg("--target-dir").arg(&copy.target);
        cargo.args(PACKAGES.iter().flat_map(|(name, _)| ["-p", name]));
        let features = builds.iter().flat_map(|build| build.features());
        cargo.args(features.flat_map(|feature| ["--features", feature]));
        if !builds.contains(&Build::Plain) {
            let tests = builds.iter().filter_map(|build| build.test());
            cargo.args(tests.flat_map(|test| ["--test", test]));
        }
        // What is broken on purpose may well leave something unused.
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        cargo.env("RUSTFLAGS", format!("{flags} --cap-lints allow"));
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "none");
        cargo.current_dir(&copy.tree);
        Self::of(cargo)
    }

    fn of(mut cargo: Command) -> Result<Self> {
        let output = cargo.stderr(Stdio::inherit()).output();
        let output = output.context("cannot start cargo")?;
        if !output.status.success() {
            bail!("with the breaks in it, the workspace does not build");
        }
        let mut all = Self::default();
        for message in Message::parse_stream(output.stdout.as_slice()) {
            let Message::CompilerArtifact(artifact) = message? else {
                continue;
            };
            let (true, Some(executable)) = (artifact.profile.test, artifact.executable) else {
                continue;
            };
            let directory = artifact
                .manifest_path
                .parent()
                .unwrap_or(&artifact.manifest_path);
            let package = directory.file_name().unwrap_or_default();
            let Some((_, short)) = PACKAGES.iter().find(|(name, _)| *name == package) else {
                continue;
            };
            let kind = match artifact.target.is_lib() {
                true => "lib",
                false => &artifact.target.name,
            };
            let target = format!("{short}/{kind}");
            let program = Program {
                executable: executable.into_std_path_buf(),
                directory: directory.to_owned().into_std_path_buf(),
            };
            let ignored = program.list(&["--ignored"])?;
            let tests = program.list(&[])?;
            let tests = tests.difference(&ignored);
            all.tests
                .extend(tests.map(|test| format!("{target} {test}")));
            all.programs.insert(target, program);
        }
        Ok(all)
    }

    /// Every test that is not ignored.
    pub(super) fn tests(&self) -> &[String] {
        &self.tests
    }

    /// Runs one test in a process of its own, with a break switched on, or none.
    pub(super) fn run(&self, test: &str, switched: Option<&str>) -> Result<Ran> {
        let target = target(test);
        let program = self.programs.get(target);
        let program = program.with_context(|| format!("there is no program {target}"))?;
        let name = test.get(target.len() + 1..).unwrap_or_default();
        let mut said = tempfile::tempfile().context("cannot make a file for what a test says")?;
        let share = || said.try_clone().context("cannot share a file");
        let mut command = program.command();
        command.args(["--exact", name]);
        command
            .stdin(Stdio::null())
            .stdout(share()?)
            .stderr(share()?);
        command.env_remove(SWITCH);
        command.envs(switched.map(|name| (SWITCH, name)));
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {target}"))?;
        let limit = match Build::of(test) {
            Build::Plain => LIMIT,
            Build::Loom | Build::Shuttle => LONG_LIMIT,
        };
        let started = Instant::now();
        let end = loop {
            match child.try_wait().context("cannot wait for a test")? {
                Some(status) if status.success() => break End::Passed,
                Some(status) => {
                    // Somebody else's work, as the system's when memory runs out: it proves nothing.
                    #[cfg(unix)]
                    if std::os::unix::process::ExitStatusExt::signal(&status) == Some(9) {
                        bail!("{test} was killed from outside");
                    }
                    break End::Failed;
                }
                None if started.elapsed() > limit => {
                    // It may have ended just now.
                    let _ = child.kill();
                    let status = child.wait().context("cannot wait for a test")?;
                    break if status.success() {
                        End::Passed
                    } else {
                        End::Hung
                    };
                }
                None => std::thread::sleep(LOOK),
            }
        };
        let took = started.elapsed();
        let mut bytes = Vec::new();
        let back = std::io::Seek::rewind(&mut said);
        let read = back.and_then(|()| std::io::Read::read_to_end(&mut said, &mut bytes));
        read.context("cannot read what a test says")?;
        Ok(Ran {
            end,
            said: String::from_utf8_lossy(&bytes).into_owned(),
            took,
        })
    }
}

// === impl Program ===

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory);
        command
    }

    fn list(&self, arguments: &[&str]) -> Result<BTreeSet<String>> {
        let mut command = self.command();
        command.arg("--list").args(arguments);
        let listed = read(command)?;
        let tests = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        Ok(tests.map(str::to_owned).collect())
    }
}

// === impl End ===

impl End {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passes",
            Self::Failed => "fails",
            Self::Hung => "hangs",
        }
    }
}
