//! How a verb ends.

use std::{fmt, process::ExitCode};

/// The exit code of bad usage, targets and configs; clap's too.
pub(crate) const UNUSABLE: u8 = 2;

/// A verb did what it was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// And all is well.
    Good,
    /// And found that something is not: an RPC failed, a config is invalid.
    Bad,
    /// Until somebody pressed Ctrl-C.
    Interrupted,
}

/// A verb could not do what it was asked to do: one line that says why.
#[derive(Debug)]
pub(crate) struct Unusable(String);

// === impl Outcome ===

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Good => 0,
            Outcome::Bad => 1,
            // 128 + SIGINT, as shells have it.
            Outcome::Interrupted => 130,
        })
    }
}

// === impl Unusable ===

impl Unusable {
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
