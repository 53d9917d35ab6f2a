//! Rule: after every test of a channel it is looked for what the channel has left behind.
//!
//! The tests of `balancer-channel` run in a harness that does, those of its core in a fixture that does.
//! What makes a runtime or a core for itself says in a comment who looks, or why nobody has to.

use super::{Finding, Tree};

/// Where the tests of channels are.
const TESTS: &[&str] = &["balancer-channel/tests/", "balancer-channel-core/tests/"];

/// Tests that build their channels by the fixture of the core, and in no other way.
const FIXTURE: &[&str] = &[
    "balancer-channel-core/tests/channel/",
    "balancer-channel-core/tests/conformance/",
];

/// What a test says where its harness is.
const HARNESS: &str = "crate = \"crate::";

/// How a test begins that has a runtime.
const TEST: &str = "#[tokio::test";

/// What opens the comment of who makes a runtime or a core for himself.
const REASON: &str = "// Leaks: ";

/// The tests of channels, as to whether their leaks are looked for.
#[derive(Debug, Default)]
pub struct LeakChecks {
    /// Tests that run in the harness or the fixture.
    pub checked: usize,
    /// Places that look themselves, or say why nobody has to.
    pub reasons: usize,
    /// What does neither.
    pub bare: Vec<Finding>,
}

/// Finds tests of channels after which nobody looks.
pub fn leaks(tree: &Tree) -> Vec<Finding> {
    leak_checks(tree).bare
}

/// Counts the tests of channels by who looks for their leaks.
pub fn leak_checks(tree: &Tree) -> LeakChecks {
    let mut checks = LeakChecks::default();
    let is_test = |path: &str| TESTS.iter().any(|tests| path.starts_with(tests));
    for file in tree.rust_files().filter(|file| is_test(&file.path)) {
        let in_fixture = FIXTURE.iter().any(|tests| file.path.starts_with(tests));
        let mut reason = false;
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().copied().enumerate() {
            if line.starts_with("//") {
                reason |= line.starts_with(REASON);
                continue;
            }
            // A long attribute is broken into lines.
            let rest =
                lines[number..].split_inclusive(|part| part.ends_with(')') || part.ends_with(']'));
            let whole = match line.starts_with(TEST) {
                true => rest.take(1).flatten().copied().collect(),
                false => line.to_owned(),
            };
            match kind(&whole) {
                Some(Line::Checked) => checks.checked += 1,
                Some(Line::Plain) => checks.checked += usize::from(in_fixture),
                Some(Line::Bare(_)) if reason => checks.reasons += 1,
                Some(Line::Bare(message)) => {
                    let place = format!("{}:{}", file.path, number + 1);
                    checks.bare.push(Finding::new(place, message));
                }
                None => {}
            }
            reason = false;
        }
    }
    checks
}

/// What a line is to this rule.
enum Line {
    /// A test in the harness.
    Checked,
    /// A test without a runtime.
    Plain,
    /// Something that has to give a reason.
    Bare(&'static str),
}

fn kind(line: &str) -> Option<Line> {
    if line.starts_with(TEST) && line.contains(HARNESS) && line.contains("harness\"") {
        return Some(Line::Checked);
    }
    if line.starts_with(TEST) {
        return Some(Line::Bare(
            "a test of a channel must run in `support/harness.rs`, by `crate = ...`, or say why not: `// Leaks: ...`",
        ));
    }
    if line == "#[test]" {
        return Some(Line::Plain);
    }
    let runtime = ["tokio::runtime::", "runtime::Runtime::new", " Runtime::new"];
    let makes = line.contains("::new") && runtime.iter().any(|part| line.contains(part));
    if makes {
        return Some(Line::Bare(
            "a test must leave the runtime to `support/harness.rs`, or say who looks for leaks: `// Leaks: ...`",
        ));
    }
    if line.contains("Core::new(") {
        return Some(Line::Bare(
            "a test must build its core by the fixture, or say who looks for leaks: `// Leaks: ...`",
        ));
    }
    None
}
