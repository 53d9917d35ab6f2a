//! Where figures were made: they are worth little without it.

use std::{fs, process::Command};

use crate::workspace::{Workspace, read};

/// The circumstances of a run.
#[derive(Debug)]
pub(super) struct Machine {
    commit: String,
    compiler: String,
    processors: String,
    system: String,
    load: Option<f64>,
}

// === impl Machine ===

impl Machine {
    /// Looks around, before anything is measured.
    pub(super) fn look(workspace: &Workspace) -> Self {
        let output = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).current_dir(workspace.root());
            read(command).unwrap_or_default().trim().to_owned()
        };
        let dirty = output("git", &["status", "--porcelain", "--untracked-files=no"]);
        let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
            .unwrap_or("of an unknown kind");
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            commit: match dirty.is_empty() {
                true => commit,
                false => format!("{commit} with changes"),
            },
            compiler: output("rustc", &["--version"]),
            processors: format!("{count} × {model}"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            load: load.split(' ').next().and_then(|load| load.parse().ok()),
        }
    }

    /// What was measured.
    pub(super) fn commit(&self) -> &str {
        &self.commit
    }

    /// Whether somebody else used it.
    pub(super) fn shared(&self) -> bool {
        self.load.is_some_and(|load| load > 0.5)
    }

    /// For the head of the figures.
    pub(super) fn describe(&self) -> String {
        let Self {
            commit,
            compiler,
            processors,
            system,
            ..
        } = self;
        let load = match self.load {
            Some(load) if self.shared() => format!(
                " **The machine was shared**: its load average before the run was {load:.1}. Trust \
                 the counts; times are a story."
            ),
            _ => String::new(),
        };
        format!(
            "Commit `{commit}`, {compiler}, release profile without link-time optimisation; \
             {processors}, {system}.{load}"
        )
    }
}
