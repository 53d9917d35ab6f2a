//! What a row says: the line that `cargo xtask reliability` reads, and how much is measured.

use std::fmt::Display;

/// How much is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Seconds.
    Ci,
    /// All rows together within a quarter of an hour.
    Short,
    /// As much as the goal says.
    Full,
}

// === impl Size ===

impl Size {
    /// What was asked for.
    pub(crate) fn asked() -> Self {
        match std::env::var("BALANCER_RELIABILITY").as_deref() {
            Ok("full") => Self::Full,
            Ok("short") => Self::Short,
            _ => Self::Ci,
        }
    }

    /// The figure of that size.
    pub(crate) fn of<T>(self, ci: T, short: T, full: T) -> T {
        match self {
            Self::Ci => ci,
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// Says what a row came to. Fails the test when the goal was missed.
#[track_caller]
pub(crate) fn row(id: &str, measured: impl Display, pass: bool) {
    let verdict = if pass { "PASS" } else { "FAIL" };
    println!("row\t{id}\t{measured}\t{verdict}");
    assert!(pass, "row {id} missed its goal: {measured}");
}

/// Says why a row could not be measured here, which is no pass.
pub(crate) fn skip(id: &str, why: &str) {
    println!("row\t{id}\t{why}\tSKIP");
}
