//! `cargo xtask mutants`: whether the kit catches what is wrong, and stays silent on what is right.
//!
//! The table comes from the program of `balancer-mutants`; what the table does not have, from its
//! tests: the law that catches a mutant by itself, the channels, the right policies.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::report::Outcome;
use crate::workspace::{Workspace, run as run_command};

/// Prints the kill table: for each wrong policy whether it looks right at first sight, the law that
/// caught it, after how many events, and how short the script became. Then, without a filter: each law
/// catches a mutant by itself, wrong channels are named by the witness, right policies raise no alarm.
///
/// Fails when a mutant survives, shows at first sight, or a right policy raises an alarm.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Only mutants with this in their name; then nothing but the table.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// The tables as JSON on stdout, and nothing else there: an object with a list of rows for each
    /// table, by the name of its first column.
    #[arg(long)]
    json: bool,
}

const PACKAGE: &str = "balancer-mutants";

/// The tests that say what the table does not, each with what they prove.
const PROOFS: &[(&str, &[&str], &str)] = &[
    (
        "kills",
        &["every_law_catches_a_mutant_by_itself"],
        "each law catches a mutant with the others off",
    ),
    (
        "channels",
        &[],
        "the witness names wrong channels, and none that is right",
    ),
    ("right", &[], "right policies raise no alarm"),
];

/// Runs the command.
///
/// # Errors
/// A mutant survived, a right policy raised an alarm, or something does not build. The table has been
/// printed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let mut build = workspace.cargo(["build", "--release", "-p", PACKAGE, "--bin", PACKAGE]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let program = executable(build)?;
    let mut command = std::process::Command::new(&program);
    command.args(&options.filter).current_dir(workspace.root());
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tables = tables(&text);
    if options.json {
        println!("{:#}", json!(tables));
    } else {
        print!("{text}");
    }
    let rows: usize = tables.values().map(Vec::len).sum();
    if rows == 0 {
        match &options.filter {
            Some(filter) => bail!("--filter: {filter}: must be part of a mutant's name"),
            None => bail!("{PACKAGE} printed no table"),
        }
    }
    if !output.status.success() {
        bail!("a mutant survived or showed at first sight, or a right policy raised an alarm");
    }
    if options.filter.is_none() {
        prove(workspace, options.json)?;
    }
    Ok(Outcome::pass())
}

/// The kill table and its proofs, as CI runs them.
///
/// # Errors
/// As [`run`].
pub fn run_all(workspace: &Workspace) -> Result<Outcome> {
    run(workspace, &Options::default())
}

/// Runs the tests that say what the table does not.
fn prove(workspace: &Workspace, quiet: bool) -> Result<()> {
    for (test, only, what) in PROOFS {
        let mut command = workspace.cargo(["test", "--release", "--quiet", "-p", PACKAGE]);
        command.args(["--test", test, "--"]).args(*only);
        if quiet {
            command.stdout(std::process::Stdio::null());
            let status = command.status().context("cannot start cargo")?;
            if !status.success() {
                bail!("not so: {what}");
            }
        } else {
            println!("\n{what}");
            run_command(command).with_context(|| format!("not so: {what}"))?;
        }
    }
    Ok(())
}

/// Builds a program and answers where it is.
fn executable(mut build: std::process::Command) -> Result<String> {
    let output = build
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("{PACKAGE} does not build: {}", output.status);
    }
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(executable) = artifact.executable
        {
            return Ok(executable.into_string());
        }
    }
    bail!("cargo built no program of {PACKAGE}")
}

/// The tables of a text, as Markdown has them: by the name of their first column, a list of rows. A
/// row of numbers alone below the names, `|---|`, is no row.
pub fn tables(text: &str) -> BTreeMap<String, Vec<Value>> {
    let mut tables: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut columns: Option<Vec<String>> = None;
    for line in text.lines() {
        let cells = line
            .trim()
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'));
        let Some(cells) = cells else {
            // Remarks on a row stand between rows, indented.
            if !line.starts_with(' ') {
                columns = None;
            }
            continue;
        };
        let cells: Vec<_> = cells
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        let rule = |cell: &String| !cell.is_empty() && cell.chars().all(|c| "-:".contains(c));
        if cells.iter().all(rule) {
            continue;
        }
        let Some(names) = &columns else {
            columns = Some(cells);
            continue;
        };
        let mut row = Map::new();
        for (name, cell) in names.iter().zip(cells) {
            let value = cell.parse().map_or(Value::String(cell), |n: u64| json!(n));
            row.insert(name.clone(), value);
        }
        let table = names.first().cloned().unwrap_or_default();
        tables.entry(table).or_default().push(Value::Object(row));
    }
    tables
}
