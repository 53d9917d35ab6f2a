//! What a row came to, and the table of them all.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::{Row, Size};
use crate::workspace::Workspace;

/// The committed table.
const FILE: &str = "docs/reliability.md";

/// What a row came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The row's number.
    pub id: u32,
    /// What was measured, or why it was not.
    pub measured: String,
    /// Whether that is what it should be.
    pub verdict: Verdict,
}

/// Whether a row reached its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Pass,
    /// It did not.
    Fail,
    /// It was not measured.
    Skip,
}

// === impl Entry ===

impl Entry {
    /// A row that was measured.
    pub fn new(id: u32, measured: String, verdict: Verdict) -> Self {
        Self {
            id,
            measured,
            verdict,
        }
    }

    /// A row that could not be measured, though it should have been.
    pub(super) fn fail(id: u32, why: &str) -> Self {
        Self::new(id, why.to_owned(), Verdict::Fail)
    }

    /// A row that is not measured here.
    pub(super) fn skip(id: u32, why: &str) -> Self {
        Self::new(id, why.to_owned(), Verdict::Skip)
    }
}

// === impl Verdict ===

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// Reads a line of a scenario, if it speaks for a row.
pub fn parse(line: &str) -> Option<Entry> {
    // libtest writes its own words before the first line of a test.
    let (_, line) = line.rsplit_once("row\t")?;
    let mut fields = line.split('\t');
    let id = fields.next()?.parse().ok()?;
    let measured = fields.next()?.to_owned();
    let verdict = match fields.next()? {
        "PASS" => Verdict::Pass,
        "FAIL" => Verdict::Fail,
        "SKIP" => Verdict::Skip,
        _ => return None,
    };
    Some(Entry::new(id, measured, verdict))
}

/// Prints the rows.
pub(super) fn print(rows: &[&Row], entries: &[Entry]) {
    println!();
    for (row, entry) in with_rows(rows, entries) {
        println!(
            "{:>2} {} · {} · {} · {} · {}",
            row.id,
            row.what,
            entry.measured,
            row.goal,
            row.peer,
            entry.verdict.word()
        );
    }
    println!("{}", summary(entries));
}

/// The table as it is committed.
pub fn markdown(rows: &[&Row], entries: &[Entry], made: &str) -> String {
    let mut text = String::from(
        "# Reliability\n\n\
         Faults are made on purpose, over loopback or in virtual time, and what an application sees of them is counted.\n\
         Every row is one run of `cargo xtask reliability --row N`; a row that could not run says SKIP and why, which is no\n\
         pass. \"–\" where no other implementation is known to publish a figure.\n\n",
    );
    let _ = writeln!(text, "{made}\n\n{}\n", summary(entries));
    text.push_str("| row | what | measured | goal | best peer | |\n|--:|---|---|---|---|---|\n");
    for (row, entry) in with_rows(rows, entries) {
        text.push_str(&line(row, entry));
    }
    text
}

fn line(row: &Row, entry: &Entry) -> String {
    let cells = [row.what, &entry.measured, row.goal, row.peer];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    let [what, measured, goal, peer] = cells;
    let verdict = entry.verdict.word();
    let id = row.id;
    format!("| {id} | {what} | {measured} | {goal} | {peer} | {verdict} |\n")
}

/// The committed table with these rows measured anew, on another commit.
pub fn amended(table: &str, rows: &[&Row], entries: &[Entry], commit: &str) -> String {
    let mut text = String::new();
    for old in table.lines() {
        let new = with_rows(rows, entries)
            .find(|(row, _)| old.starts_with(&format!("| {} |", row.id)))
            .map(|(row, entry)| line(row, entry));
        match new {
            Some(new) => text.push_str(&new),
            None => {
                text.push_str(old);
                if old.starts_with("Made by ") {
                    let ids: Vec<String> = entries.iter().map(|e| e.id.to_string()).collect();
                    let _ = write!(text, " Measured again on {commit}: {}.", ids.join(", "));
                }
                text.push('\n');
            }
        }
    }
    let of = |verdict: Verdict| {
        let end = format!("| {} |", verdict.word());
        text.lines().filter(|line| line.ends_with(&end)).count()
    };
    let [pass, fail, skip] = [Verdict::Pass, Verdict::Fail, Verdict::Skip].map(of);
    let counts = |line: &&str| line.ends_with(" skip.");
    let Some(old) = text.lines().find(counts).map(str::to_owned) else {
        return text;
    };
    text.replacen(&old, &counted(pass, fail, skip), 1)
}

/// Writes the committed table.
pub(super) fn write(
    workspace: &Workspace,
    rows: &[&Row],
    entries: &[Entry],
    size: Size,
    commit: &str,
) -> Result<()> {
    let command = match size {
        Size::Full => "cargo xtask reliability --full --write",
        Size::Ci | Size::Short => "cargo xtask reliability --write",
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let made = format!("Made by `{command}` on commit {commit}, on {cores} cores.");
    let path = workspace.root().join(FILE);
    let table = match rows.len() == super::ROWS.len() {
        true => markdown(rows, entries, &made),
        false => {
            let table = fs::read_to_string(&path);
            let table = table.with_context(|| format!("there is no {FILE} to amend"))?;
            amended(&table, rows, entries, commit)
        }
    };
    fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {FILE}");
    Ok(())
}

fn with_rows<'a>(
    rows: &'a [&Row],
    entries: &'a [Entry],
) -> impl Iterator<Item = (&'a Row, &'a Entry)> {
    entries.iter().filter_map(|entry| {
        let row = rows.iter().find(|row| row.id == entry.id)?;
        Some((*row, entry))
    })
}

fn summary(entries: &[Entry]) -> String {
    let of = |verdict| entries.iter().filter(|e| e.verdict == verdict).count();
    let [pass, fail, skip] = [Verdict::Pass, Verdict::Fail, Verdict::Skip].map(of);
    counted(pass, fail, skip)
}

fn counted(pass: usize, fail: usize, skip: usize) -> String {
    format!("{pass} pass, {fail} fail, {skip} skip.")
}
