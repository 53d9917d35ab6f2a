//! A copy of the workspace that is changed only where the sources are, so that little is built anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{Workspace, read};

/// A copy of the workspace, and what is built of it.
#[derive(Debug)]
pub(super) struct Copy {
    /// The copy's root.
    pub(super) tree: PathBuf,
    /// A target directory of its own: packages that are called the same and lie the same way below their
    /// roots would take each other's place in a shared one.
    pub(super) target: PathBuf,
}

// === impl Copy ===

impl Copy {
    /// Brings the copy to where the workspace is, with the files of `changed` in place of their own.
    pub(super) fn make(workspace: &Workspace, changed: BTreeMap<String, String>) -> Result<Self> {
        let target = workspace.metadata()?.target_directory.into_std_path_buf();
        let copy = Self {
            tree: target.join("breaks").join("tree"),
            target: target.join("breaks").join("target"),
        };
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "-co", "--exclude-standard"]);
        let listed = read({
            git.current_dir(workspace.root());
            git
        })?;
        let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let source = workspace.root().join(name);
            // A file that was deleted is listed until the commit says so, too.
            if source.is_file() {
                let bytes = std::fs::read(&source);
                let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
                files.insert(copy.tree.join(name), bytes);
            }
        }
        for (name, text) in changed {
            files.insert(copy.tree.join(name), text.into_bytes());
        }
        std::fs::create_dir_all(&copy.tree)
            .with_context(|| format!("cannot make {}", copy.tree.display()))?;
        remove_others(&copy.tree, &files)?;
        for (path, bytes) in &files {
            write_if_changed(path, bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(copy)
    }
}

/// Deletes what the workspace no longer has.
fn remove_others(directory: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let cannot = || format!("cannot read {}", directory.display());
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let gone = if path.is_dir() {
            remove_others(&path, files)?;
            // Fails for those that have something in them, as it should.
            let _ = std::fs::remove_dir(&path);
            continue;
        } else {
            !files.contains_key(&path)
        };
        if gone {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

/// Leaves the time of a file alone that has not changed: cargo goes by it.
fn write_if_changed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, bytes)
}
