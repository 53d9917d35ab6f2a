//! Rule: the code that README and chapter show is code that a test runs.

use super::{Finding, Tree};
use crate::ci;

/// The chapter, and the crate whose sources it shows.
const CHAPTER: &str = "docs/write-a-policy.md";
const GUIDE: &str = "docs/guide/";

/// The proof that the README shows, where it runs. Its other snippets are doctests.
const README: &str = "README.md";
const PROOF: &str = "balancer-roundrobin/tests/conformance.rs";

/// A fenced block of a Markdown file.
struct Block<'a> {
    line: usize,
    language: &'a str,
    text: String,
}

/// Finds blocks of Rust that no source has word for word, and fences of a kind that nothing checks.
pub fn shown_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut kits = 0;
    for block in blocks(tree.text(CHAPTER).unwrap_or_default()) {
        let mut find = |message: &str| {
            findings.push(Finding::new(format!("{CHAPTER}:{}", block.line), message));
        };
        match block.language {
            "rust" => {
                let mut sources = tree.rust_files();
                let shown = sources
                    .any(|file| file.path.starts_with(GUIDE) && file.text.contains(&block.text));
                if !shown {
                    find("must be word for word in a file of docs/guide");
                }
            }
            // The guide's test compares one block with what the kit prints.
            "text" => {
                kits += 1;
                if kits > 1 || !block.text.starts_with("law `") {
                    find("must be what docs/guide/tests/chapter.rs compares: one block, the kit's");
                }
            }
            "console" if block.text.lines().all(|line| line.starts_with("$ cargo ")) => {}
            _ => find("must be rust, the kit's text, or cargo's commands: nothing checks the rest"),
        }
    }
    for block in blocks(tree.text(README).unwrap_or_default()) {
        let mut find = |message: String| {
            findings.push(Finding::new(format!("{README}:{}", block.line), message));
        };
        if block.language.contains("ignore") {
            find("must be compiled: nothing checks what is ignored".into());
        }
        if block.text.contains("conformance!(") {
            // What is hidden makes a program of it.
            let seen: Vec<_> = block
                .text
                .lines()
                .filter(|l| !l.starts_with("# "))
                .collect();
            let runs = tree.text(PROOF).unwrap_or_default();
            if !runs.contains(&seen.join("\n")) {
                find(format!("must be word for word in {PROOF}, which runs it"));
            }
        }
        let known = [ci::TEST, ci::DEMO].map(|words| format!("$ cargo {}", words.join(" ")));
        for line in block.text.lines().filter(|line| line.starts_with("$ ")) {
            let command = line.split(" #").next().unwrap_or(line).trim_end();
            // balancer-cli/tests/cli/readme.rs runs its own.
            if !command.starts_with("$ balancer ") && !known.iter().any(|known| known == command) {
                find(format!(
                    "`{command}` must be a command that CI or a test runs"
                ));
            }
        }
    }
    findings
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block {
                    line: index + 1,
                    language,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}
