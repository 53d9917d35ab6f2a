//! What a full run has found so far, so that it goes on where it was broken off.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result};

use super::{Entry, Size, Verdict, parse};
use crate::workspace::{Workspace, read};

/// Found by earlier runs of the same commit. Only passes: everything else is tried again.
#[derive(Debug)]
pub(super) struct Memory {
    found: Vec<Entry>,
    file: Option<File>,
}

// === impl Memory ===

impl Memory {
    /// Remembers nothing.
    pub(super) fn none() -> Self {
        Self {
            found: Vec::new(),
            file: None,
        }
    }

    /// The memory of this commit, if the run is a full one of what was committed.
    pub(super) fn open(
        workspace: &Workspace,
        commit: &str,
        size: Size,
        fresh: bool,
    ) -> Result<Self> {
        if size != Size::Full || commit.ends_with(CHANGED) || commit.is_empty() {
            return Ok(Self::none());
        }
        let target = workspace.metadata()?.target_directory;
        let directory = target.join("reliability").into_std_path_buf();
        fs::create_dir_all(&directory)?;
        let path = directory.join(commit);
        if fresh {
            let _ = fs::remove_file(&path);
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            found: text.lines().filter_map(parse).collect(),
            file: Some(file),
        })
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.found.iter().find(|entry| entry.id == id)
    }

    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        if let (Some(file), Verdict::Pass) = (&mut self.file, entry.verdict) {
            writeln!(file, "row\t{}\t{}\tPASS", entry.id, entry.measured)?;
        }
        Ok(())
    }
}

/// What a commit is called whose files were changed since.
const CHANGED: &str = ", changed";

/// What is checked out; empty where there is no git.
pub(super) fn commit(workspace: &Workspace) -> String {
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(args).current_dir(workspace.root());
        read(git)
    };
    let Ok(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return String::new();
    };
    // The table is not what is measured.
    let but_the_table = ":!docs/reliability.md";
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changed = git(&[&status[..], &[".", but_the_table]].concat());
    let changed = changed.map_or(true, |changed| !changed.trim().is_empty());
    let suffix = if changed { CHANGED } else { "" };
    format!("{}{suffix}", commit.trim())
}
