//! The tables: what is broken on purpose, and who must see it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Where the tables are, below the workspace's root.
pub const TABLES: &str = "xtask/breaks";

/// What stands for the text that was found.
pub(super) const FOUND: &str = "$0";

/// What stands for the condition that the break is switched on.
pub(super) const BROKEN: &str = "$BROKEN";

/// One rule, broken on purpose behind a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The table it is from.
    pub table: String,
    /// What the switch is set to.
    pub name: String,
    /// What holds until it is broken, in a sentence.
    pub rule: String,
    /// Where, and how.
    pub places: Vec<Place>,
    /// The tests that must fail: `<target> <test>`.
    pub fails: Vec<String>,
}

/// One place that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The file, below the workspace's root.
    pub file: String,
    /// Occurs exactly once in it.
    pub find: String,
    /// What it becomes: has `$0` for what was found exactly once, and may have `$BROKEN` for the condition.
    pub replace: String,
}

/// Something in a table that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The table's file.
    pub table: String,
    /// The break's name, or its place in the table.
    pub of: String,
    /// The field and its value; empty where the error is about the whole.
    pub field: String,
    /// What must be so.
    pub rule: String,
}

/// A table, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "break", default)]
    breaks: Vec<toml::Table>,
}

/// A break, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    rule: String,
    file: String,
    find: String,
    replace: String,
    #[serde(default)]
    also: Vec<Place>,
    fails: Vec<String>,
}

/// Reads the tables of a workspace: every break, and everything that is wrong with them by themselves.
///
/// # Errors
/// A file cannot be read.
pub fn load(root: &Path) -> Result<(Vec<Break>, Vec<Wrong>)> {
    let directory = root.join(TABLES);
    let mut files = Vec::new();
    let entries = std::fs::read_dir(&directory).with_context(|| format!("cannot read {TABLES}"))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {TABLES}"))?
            .path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    let mut tables = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {TABLES}/{name}"))?;
        tables.push((format!("{TABLES}/{name}"), text));
    }
    Ok(parse(&tables))
}

/// Reads tables, each a file's name and its text.
pub fn parse(tables: &[(String, String)]) -> (Vec<Break>, Vec<Wrong>) {
    let (mut breaks, mut wrong) = (Vec::new(), Vec::new());
    for (table, text) in tables {
        match toml::from_str::<Table>(text) {
            Ok(read) => {
                for (index, entry) in read.breaks.into_iter().enumerate() {
                    match Break::read(table, index, entry) {
                        Ok(read) => breaks.push(read),
                        Err(error) => wrong.push(error),
                    }
                }
            }
            Err(error) => wrong.push(Wrong {
                table: table.clone(),
                of: String::new(),
                field: String::new(),
                rule: error.to_string().trim_end().to_owned(),
            }),
        }
    }
    wrong.extend(breaks.iter().flat_map(Break::wrong));
    wrong.extend(taken_twice(&breaks));
    (breaks, wrong)
}

fn taken_twice(breaks: &[Break]) -> Vec<Wrong> {
    let mut first: BTreeMap<&str, &Break> = BTreeMap::new();
    let mut wrong = Vec::new();
    for it in breaks {
        if let Some(other) = first.get(it.name.as_str()) {
            let rule = format!("must be no other break's name, and {} has it", other.table);
            wrong.push(it.wrong_in("name", &it.name, rule));
        } else {
            first.insert(&it.name, it);
        }
    }
    wrong
}

// === impl Break ===

impl Break {
    fn read(table: &str, index: usize, entry: toml::Table) -> Result<Self, Wrong> {
        let name = entry.get("name").and_then(toml::Value::as_str);
        let of = name.map_or_else(|| format!("number {}", index + 1), str::to_owned);
        let entry: Entry = entry.try_into().map_err(|error| Wrong {
            table: table.to_owned(),
            of,
            field: String::new(),
            rule: error.to_string().trim_end().to_owned(),
        })?;
        let first = Place {
            file: entry.file,
            find: entry.find,
            replace: entry.replace,
        };
        Ok(Self {
            table: table.to_owned(),
            name: entry.name,
            rule: entry.rule,
            places: std::iter::once(first).chain(entry.also).collect(),
            fails: entry.fails,
        })
    }

    /// An error about one of its fields.
    pub fn wrong_in(&self, field: &str, value: &str, rule: impl Into<String>) -> Wrong {
        Wrong {
            table: self.table.clone(),
            of: self.name.clone(),
            field: format!("{field} = {value:?}"),
            rule: rule.into(),
        }
    }

    /// What is wrong with it by itself.
    fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if self.name.is_empty() || !self.name.chars().all(allowed) {
            let rule = "must be of a-z, 0-9, `.`, `_` and `-`, and not empty";
            wrong.push(self.wrong_in("name", &self.name, rule));
        }
        if self.rule.trim().is_empty() {
            wrong.push(self.wrong_in("rule", &self.rule, "must say what is broken"));
        }
        for place in &self.places {
            if place.find.is_empty() {
                wrong.push(self.wrong_in("find", "", "must not be empty"));
            }
            let found = place.replace.matches(FOUND).count();
            if found != 1 {
                let rule = format!("must have {FOUND} exactly once, not {found} times");
                wrong.push(self.wrong_in("replace", &place.replace, rule));
            }
        }
        if !self.places.iter().any(|it| it.replace.contains(BROKEN)) {
            let rule = format!("must have {BROKEN}, or nothing switches it on");
            wrong.push(self.wrong_in("replace", &self.places[0].replace, rule));
        }
        if self.fails.is_empty() {
            let rule = "must name a test, or nobody would notice";
            let field = "fails = []".to_owned();
            wrong.push(Wrong {
                field,
                ..self.wrong_in("fails", "", rule)
            });
        }
        for (index, test) in self.fails.iter().enumerate() {
            if test.split_once(' ').is_none_or(|(target, name)| {
                !target.contains('/') || name.is_empty() || name.contains(' ')
            }) {
                let rule = "must be `<crate>/<target> <test>`, as in `core/machine rig::it_works`";
                wrong.push(self.wrong_in("fails", test, rule));
            }
            if self.fails[..index].contains(test) {
                wrong.push(self.wrong_in("fails", test, "must be named once"));
            }
        }
        wrong
    }
}

// === impl Wrong ===

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.table)?;
        if !self.of.is_empty() {
            write!(f, "break {}: ", self.of)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.rule)
    }
}
