//! Every interleaving of the small models of the channel and its core.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::reliability::heard;
use crate::report::Outcome;
use crate::workspace::Workspace;

/// The races that must be among the models.
pub const RACES: &[&str] = &[
    "publish / park",
    "park / publish / cancel",
    "publish / close",
    "park / close",
    "two publishes / one waiter",
    "enter idle / RPC",
    "done / drop",
    "done / complete / cancel",
    "state cell: ready / goaway",
    "remove / pick",
    "admit / release / goaway",
    "retire picker / last reader",
];

/// A model that was explored to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What it calls itself.
    pub name: String,
    /// How many interleavings it has.
    pub interleavings: u64,
    /// With up to so many preemptions.
    pub bound: u32,
}

/// How many preemptions are explored in every run. More are where there is the time.
pub const BOUND: u32 = 2;

/// Explores all models within [`BOUND`].
///
/// # Errors
/// As [`explore`].
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    println!("{}", summary(&explore(workspace, BOUND)?));
    Ok(Outcome::pass())
}

/// Explores all models with up to `bound` preemptions; a model that takes too long says that it was
/// explored with fewer.
///
/// # Errors
/// A model fails, or does not build, or one of [`RACES`] is no model any more.
pub fn explore(workspace: &Workspace, bound: u32) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for package in ["balancer-channel-core", "balancer-channel"] {
        let mut cargo = workspace.cargo(["test", "--quiet", "--release", "-p", package]);
        cargo.args(["--features", "loom", "--test", "loom", "--", "--nocapture"]);
        cargo.env("BALANCER_LOOM_BOUND", bound.to_string());
        let (lines, success) = heard(cargo)?;
        if !success {
            bail!("a model of {package} fails");
        }
        models.extend(lines.iter().filter_map(|line| parse(line)));
    }
    let missing = |race: &&&str| !models.iter().any(|model| model.name == **race);
    let missing: Vec<&str> = RACES.iter().filter(missing).copied().collect();
    if !missing.is_empty() {
        bail!("no model explored {}", missing.join(", "));
    }
    Ok(models)
}

/// Reads `model <name>: <n> interleavings, bound <b>`.
pub fn parse(line: &str) -> Option<Model> {
    // libtest may write its own words before the first line of a test.
    let (_, line) = line.rsplit_once("model ")?;
    let (name, rest) = line.rsplit_once(": ")?;
    let (interleavings, rest) = rest.split_once(" interleavings, bound ")?;
    let bound = rest.split_whitespace().next()?;
    Some(Model {
        name: name.to_owned(),
        interleavings: interleavings.parse().ok()?,
        bound: bound.parse().ok()?,
    })
}

/// How many models there were, of how many interleavings, within which bound.
pub fn summary(models: &[Model]) -> String {
    let mut bounds: BTreeMap<u32, usize> = BTreeMap::new();
    for model in models {
        *bounds.entry(model.bound).or_default() += 1;
    }
    let bounds = bounds
        .iter()
        .map(|(bound, count)| match *count == models.len() {
            true => format!("up to {bound} preemptions"),
            false => format!("{count} of them with up to {bound} preemptions"),
        });
    let bounds: Vec<String> = bounds.collect();
    let interleavings: u64 = models.iter().map(|model| model.interleavings).sum();
    format!(
        "0 in {interleavings} interleavings of {} models, {}",
        models.len(),
        bounds.join(", ")
    )
}
