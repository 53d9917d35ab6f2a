//! Which crates have suites, and in which of their tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, Package, TargetKind};

use super::absolute;
use crate::workspace::Workspace;

/// What a crate without a suite is told.
pub(super) const NO_SUITE: &str = "none of its tests uses `conformance!`: write \
    `balancer_testkit::conformance!(your_builder());` into tests/conformance.rs";

/// The crate that has the macro.
const KIT: &str = "balancer-testkit";

/// A crate whose suites can be run.
#[derive(Debug)]
pub(super) struct Tested {
    /// The package's name.
    pub(super) name: String,
    /// Its manifest.
    pub(super) manifest: PathBuf,
    /// What cargo is told to build: `--lib`, or `--test NAME`.
    pub(super) targets: Vec<Vec<String>>,
}

/// The crate that `wanted` names, or every member that has a suite.
pub(super) fn crates(workspace: &Workspace, wanted: Option<&str>) -> Result<Vec<Tested>> {
    let members = workspace.metadata()?.packages;
    let Some(wanted) = wanted else {
        let tested = members.iter().map(Tested::of);
        return Ok(tested.filter(|tested| !tested.targets.is_empty()).collect());
    };
    let member = members.iter().find(|package| package.name == wanted);
    let outside;
    let package = match member {
        Some(package) => package,
        None if Path::new(wanted).join("Cargo.toml").is_file() => {
            outside = package_in(wanted)?;
            &outside
        }
        None => {
            let tested = members.iter().map(Tested::of);
            let names = tested.filter(|tested| !tested.targets.is_empty());
            let names: Vec<_> = names.map(|tested| tested.name).collect();
            bail!(
                "CRATE: {wanted}: must be a directory with a Cargo.toml, or a member of the workspace; \
                 those with suites are {}",
                names.join(", ")
            );
        }
    };
    let tested = Tested::of(package);
    if tested.targets.is_empty() {
        bail!("{}: {NO_SUITE}", tested.name);
    }
    Ok(vec![tested])
}

/// The package whose manifest lies in that directory.
fn package_in(directory: &str) -> Result<Package> {
    let manifest = absolute(directory).join("Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(&manifest)
        .no_deps()
        .exec()
        .with_context(|| format!("`cargo metadata` failed for {}", manifest.display()))?;
    let same = |package: &&Package| {
        let listed = package.manifest_path.as_std_path();
        listed == manifest || listed.canonicalize().ok() == manifest.canonicalize().ok()
    };
    let package = metadata.packages.iter().find(same).cloned();
    package.with_context(|| format!("{} has no package, only a workspace", manifest.display()))
}

/// Whether some line of code in that file asks for a suite.
fn asks_for_suite(text: &str) -> bool {
    let mut code = text.lines().map(str::trim_start);
    code.any(|line| !line.starts_with("//") && line.contains("conformance!("))
}

fn any_file_asks(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return any_file_asks(&path);
        }
        path.extension().is_some_and(|ext| ext == "rs")
            && fs::read_to_string(&path).is_ok_and(|text| asks_for_suite(&text))
    })
}

// === impl Tested ===

impl Tested {
    fn of(package: &Package) -> Self {
        let mut targets = Vec::new();
        for target in &package.targets {
            let source = target.src_path.as_std_path();
            let is = |kind: &TargetKind| target.kind.contains(kind);
            if is(&TargetKind::Test) {
                // A test in a directory of its own has its modules beside it.
                let asks = match source.file_name().is_some_and(|name| name == "main.rs") {
                    true => source.parent().is_some_and(any_file_asks),
                    false => fs::read_to_string(source).is_ok_and(|text| asks_for_suite(&text)),
                };
                if asks {
                    targets.push(vec!["--test".to_owned(), target.name.clone()]);
                }
            } else if is(&TargetKind::Lib) {
                // Where the macro lives it is also spoken of.
                let uses_kit = package.dependencies.iter().any(|dep| dep.name == KIT);
                if uses_kit && source.parent().is_some_and(any_file_asks) {
                    targets.push(vec!["--lib".to_owned()]);
                }
            }
        }
        Self {
            name: package.name.to_string(),
            manifest: package.manifest_path.clone().into_std_path_buf(),
            targets,
        }
    }
}
