//! What a command tells its caller: it passed, and what it had to leave out.

use std::fmt;

/// A command that did not fail. What it could not check is listed, so that a skip is never taken
/// for a pass.
#[derive(Debug, Default)]
#[must_use]
pub struct Outcome {
    /// What was left out, and why.
    pub skipped: Vec<Skip>,
}

/// Something a command could not check here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// What was left out.
    pub what: String,
    /// Why it could not be done, and what would make it possible.
    pub why: String,
}

// === impl Outcome ===

impl Outcome {
    /// Everything was checked.
    pub fn pass() -> Self {
        Self::default()
    }

    /// Nothing was checked.
    pub fn skip(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            skipped: vec![Skip {
                what: what.into(),
                why: why.into(),
            }],
        }
    }

    /// Adds the skips of a part.
    pub fn absorb(&mut self, part: Outcome) {
        self.skipped.extend(part.skipped);
    }
}

// === impl Skip ===

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SKIP {}: {}", self.what, self.why)
    }
}
