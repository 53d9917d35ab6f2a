//! `cargo xtask tidy`: the workspace's own rules, each a pure function over a [`Tree`].

mod allowed;
mod arrows;
mod bans;
mod leaks;
mod mentions;
mod shown;
mod sources;
mod tree;

use anyhow::{Result, bail};

use crate::report::Outcome;
use crate::workspace::Workspace;

pub use allowed::third_party;
pub use arrows::arrows;
pub use bans::{BANNED, banned_calls, random_state};
pub use leaks::{LeakChecks, leak_checks, leaks};
pub use mentions::mentions;
pub use shown::shown_code;
pub use sources::{
    forbids_unsafe, lengths, lints_inherited, purpose, readme_commands, shared_versions,
};
pub use tree::{Crate, Dep, File, Kind, Tree};

/// Every rule, in the order in which they are run.
pub const RULES: &[Rule] = &[
    Rule {
        name: "arrows",
        what: "who may depend on whom",
        check: arrows,
    },
    Rule {
        name: "third-party",
        what: "what contract and policies may depend on",
        check: third_party,
    },
    Rule {
        name: "purpose",
        what: "each .rs file opens with its purpose",
        check: purpose,
    },
    Rule {
        name: "unsafe",
        what: "each crate root forbids unsafe code",
        check: forbids_unsafe,
    },
    Rule {
        name: "lints",
        what: "each crate inherits the workspace lints",
        check: lints_inherited,
    },
    Rule {
        name: "versions",
        what: "other people's versions are chosen once",
        check: shared_versions,
    },
    Rule {
        name: "mentions",
        what: "nothing names a machine, an outside file, a registry",
        check: mentions,
    },
    Rule {
        name: "bans",
        what: "policies cannot call a clock, a thread, the system",
        check: banned_calls,
    },
    Rule {
        name: "random-state",
        what: "policies' maps do not hash by chance",
        check: random_state,
    },
    Rule {
        name: "leaks",
        what: "after each test of a channel it is looked for leaks",
        check: leaks,
    },
    Rule {
        name: "length",
        what: "files stay readable in one sitting",
        check: lengths,
    },
    Rule {
        name: "readme",
        what: "the README shows the commands CI runs",
        check: readme_commands,
    },
    Rule {
        name: "shown",
        what: "code in README and chapter is code that a test runs",
        check: shown_code,
    },
];

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What a finding calls it.
    pub name: &'static str,
    /// What it holds, in a few words.
    pub what: &'static str,
    /// Finds what breaks it.
    pub check: fn(&Tree) -> Vec<Finding>,
}

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A file, a crate or an arrow between crates.
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Checks every rule against the workspace.
///
/// # Errors
/// When a rule is broken; each finding has been printed.
pub fn run(workspace: &Workspace) -> Result<Outcome> {
    let tree = Tree::load(workspace)?;
    let mut broken = 0;
    for rule in RULES {
        let findings = (rule.check)(&tree);
        let verdict = if findings.is_empty() { "ok" } else { "BROKEN" };
        println!("{:<13} {verdict:<7} {}", rule.name, rule.what);
        for Finding { place, message } in &findings {
            println!("    {place}: {message}");
        }
        broken += usize::from(!findings.is_empty());
    }
    if broken > 0 {
        bail!("{broken} of {} rules are broken", RULES.len());
    }
    Ok(Outcome::pass())
}

// === impl Finding ===

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}
