//! What the rules look at: crates with their arrows, and the text of every file of the repository.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Package, TargetKind};

use crate::workspace::{Workspace, read};

/// The workspace as plain data.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The workspace's packages.
    pub crates: Vec<Crate>,
    /// The repository's text files: those that git tracks and those it would if asked to.
    pub files: Vec<File>,
}

/// One package of the workspace.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    /// The package's name.
    pub name: String,
    /// Its directory, from the workspace root.
    pub dir: String,
    /// Whether it may be published.
    pub published: bool,
    /// The root files of its libraries and binaries, from the workspace root.
    pub roots: Vec<String>,
    /// Its direct dependencies.
    pub deps: Vec<Dep>,
}

/// A direct dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dep {
    /// The package's name, not a local rename.
    pub name: String,
    /// What it is needed for.
    pub kind: Kind,
    /// Whether only a feature turns it on.
    pub optional: bool,
}

/// What a dependency is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The crate itself.
    Normal,
    /// Its tests, examples and benchmarks.
    Dev,
    /// Its build script.
    Build,
}

/// A text file of the repository.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// Its path from the workspace root, with `/` between the parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

// === impl Tree ===

impl Tree {
    /// Reads the workspace.
    ///
    /// # Errors
    /// When cargo or git cannot be asked.
    pub fn load(workspace: &Workspace) -> Result<Self> {
        let root = workspace.root();
        let metadata = workspace.metadata()?;
        let crates = metadata
            .packages
            .iter()
            .map(|package| Crate::load(root, package))
            .collect();
        Ok(Self {
            crates,
            files: files(root)?,
        })
    }

    /// The crate of that name.
    pub fn get(&self, name: &str) -> Option<&Crate> {
        self.crates.iter().find(|krate| krate.name == name)
    }

    /// The text of the file at that path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// The Rust files.
    pub fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }
}

// === impl Crate ===

impl Crate {
    fn load(root: &Path, package: &Package) -> Self {
        let relative = |path: &Path| {
            let path = path.strip_prefix(root).unwrap_or(path);
            path.to_string_lossy().replace('\\', "/")
        };
        let manifest = package.manifest_path.as_std_path();
        let is_root = |kind: &TargetKind| {
            matches!(
                kind,
                TargetKind::Lib | TargetKind::ProcMacro | TargetKind::Bin
            )
        };
        let roots = package
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(is_root));
        let deps = package.dependencies.iter().map(|dep| Dep {
            name: dep.name.clone(),
            kind: match dep.kind {
                DependencyKind::Development => Kind::Dev,
                DependencyKind::Build => Kind::Build,
                _ => Kind::Normal,
            },
            optional: dep.optional,
        });
        Self {
            name: package.name.to_string(),
            dir: relative(manifest.parent().unwrap_or(manifest)),
            // No list of registries means any; an empty one is `publish = false`.
            published: package
                .publish
                .as_ref()
                .is_none_or(|registries| !registries.is_empty()),
            roots: roots
                .map(|target| relative(target.src_path.as_std_path()))
                .collect(),
            deps: deps.collect(),
        }
    }
}

/// The text files that git tracks or would track; new files are looked at before they are added.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(root);
    let listed = read(git).context("tidy looks at the files git knows")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // What was deleted but is still in the index has no text, nor has an image.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(File {
                path: path.to_owned(),
                text,
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}
