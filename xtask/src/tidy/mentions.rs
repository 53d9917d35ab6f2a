//! Rule: nothing in the repository names a machine's path, a file outside it, or a registry's host.

use super::{Finding, Tree};

/// Directories of somebody's machine. Split in two, or this file would break its own rule.
const PATHS: &[(&str, &str)] = &[
    (concat!("/", "home"), "a home directory"),
    (concat!("/", "root"), "a home directory"),
    (
        concat!("/", "tmp"),
        "a machine's temporary directory: ask std::env::temp_dir, or mktemp",
    ),
    (concat!("/", "work"), "a machine's working directory"),
    (concat!("/", "Users"), "a home directory"),
];

/// Files a clone does not have, and hosts that a mirror would replace.
const WORDS: &[(&str, &str)] = &[
    (concat!("../", "shared"), "a file outside the repository"),
    (
        concat!("crates", ".io"),
        "a registry's host: name the package, its client knows the host",
    ),
    (
        concat!("pypi", ".org"),
        "a registry's host: name the package, its client knows the host",
    ),
    (
        concat!("python", "hosted.org"),
        "a registry's host: name the package, its client knows the host",
    ),
    (
        concat!("npmjs", ".org"),
        "a registry's host: name the package, its client knows the host",
    ),
    (
        concat!("proxy.golang", ".org"),
        "a registry's host: name the package, its client knows the host",
    ),
];

/// Cargo writes it, with the index each package came from.
const WRITTEN_BY_CARGO: &str = "Cargo.lock";

/// Finds mentions of what a user's clone does not have.
pub fn mentions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .files
        .iter()
        .filter(|file| !file.path.ends_with(WRITTEN_BY_CARGO))
    {
        for (index, line) in file.text.lines().enumerate() {
            let place = || format!("{}:{}", file.path, index + 1);
            for (word, what) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(Finding::new(place(), format!("`{word}` is {what}")));
            }
            for (path, what) in PATHS.iter().filter(|(path, _)| names_directory(line, path)) {
                findings.push(Finding::new(place(), format!("`{path}` is {what}")));
            }
        }
    }
    findings
}

/// Whether the line names that directory or something in it: as a path of its own, not as a part of
/// a URL or of a longer path, nor as the start of a longer name.
fn names_directory(line: &str, directory: &str) -> bool {
    let starts_a_path = |before: &str| {
        let last = before.chars().next_back();
        last.is_none_or(|c| {
            !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | ')' | '>' | '*')
        })
    };
    let ends_a_name = |after: &str| {
        let next = after.chars().next();
        next.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'))
    };
    line.match_indices(directory)
        .any(|(at, _)| starts_a_path(&line[..at]) && ends_a_name(&line[at + directory.len()..]))
}
