//! Rules: what the contract and the policies cannot call, so that they stay pure state machines.
//!
//! Clippy does the work; these rules see to it that its list is whole and that each policy turns it
//! on. Clippy cannot see a map that is made by `Default` or `collect`, so that is looked for here.

use super::arrows::Role;
use super::{Crate, Finding, Tree};

/// Paths that `clippy.toml` has to ban.
pub const BANNED: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::thread::Builder::spawn",
    "std::hash::RandomState::new",
    "std::collections::HashMap::new",
    "std::collections::HashSet::new",
    "std::fs::read",
    "std::fs::File::open",
    "std::net::TcpStream::connect",
    "std::net::TcpListener::bind",
    "std::net::UdpSocket::bind",
    "std::env::var",
    "std::env::args",
    "std::process::Command::new",
    "std::process::exit",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
];

const DENY: &str = "#![deny(clippy::disallowed_methods)]";

/// Finds calls that nobody bans, bans without a reason, and policies that do not turn them on.
pub fn banned_calls(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let clippy = tree.text("clippy.toml").unwrap_or_default();
    for path in BANNED {
        let entry = format!("path = \"{path}\"");
        match clippy.lines().find(|line| line.contains(&entry)) {
            None => findings.push(Finding::new("clippy.toml", format!("must ban `{path}`"))),
            Some(line) if !line.contains("reason = \"") => {
                findings.push(Finding::new(
                    "clippy.toml",
                    format!("must say why `{path}` is banned"),
                ));
            }
            Some(_) => {}
        }
    }
    for root in pure_crates(tree).flat_map(|krate| &krate.roots) {
        let text = tree.text(root).unwrap_or_default();
        if !text.lines().any(|line| line.trim() == DENY) {
            findings.push(Finding::new(
                root,
                format!("a contract or policy crate must say `{DENY}`"),
            ));
        }
    }
    findings
}

/// Finds hash maps and sets without a named hasher in the sources of policies and contract: the
/// standard one is keyed by chance, so two runs of one seed would differ.
pub fn random_state(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in pure_crates(tree) {
        let sources = format!("{}/src/", krate.dir);
        for file in tree
            .rust_files()
            .filter(|file| file.path.starts_with(&sources))
        {
            for (name, hasher) in [("HashMap", 3), ("HashSet", 2)] {
                for line in generics_shorter_than(&file.text, name, hasher) {
                    let place = format!("{}:{line}", file.path);
                    let message =
                        format!("this {name} hashes by chance: name a hasher, or use a BTree");
                    findings.push(Finding::new(place, message));
                }
            }
        }
    }
    findings
}

/// The crates whose objects run unchanged in the channel, in the kit and in a simulator.
fn pure_crates(tree: &Tree) -> impl Iterator<Item = &Crate> {
    tree.crates
        .iter()
        .filter(|krate| matches!(Role::of(&krate.name), Role::Api | Role::Policy))
}

/// The lines where `name<…>` has fewer than `wanted` arguments.
fn generics_shorter_than(text: &str, name: &str, wanted: usize) -> Vec<usize> {
    let open = format!("{name}<");
    let mut lines = Vec::new();
    for (at, _) in text.match_indices(&open) {
        let comment = text[..at]
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.trim_start().starts_with("//"));
        // Part of a longer name, such as an `IndexHashMap`, is not ours to judge.
        let longer = text[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        if !comment && !longer && arguments(&text[at + open.len()..]) < wanted {
            lines.push(text[..at].lines().count().max(1));
        }
    }
    lines
}

/// How many arguments a list has whose opening bracket was just read.
fn arguments(text: &str) -> usize {
    let (mut depth, mut commas, mut argument_open) = (0_usize, 0, false);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // The arrow of a function type closes nothing.
            '>' if before == '-' => {}
            '>' | ')' | ']' if depth == 0 => break,
            '>' | ')' | ']' => depth -= 1,
            // A trailing comma opens no argument.
            ',' if depth == 0 => (commas, argument_open) = (commas + 1, false),
            _ => {}
        }
        if !(c.is_whitespace() || c == ',' && depth == 0) {
            argument_open = true;
        }
        before = c;
    }
    commas + usize::from(argument_open)
}
