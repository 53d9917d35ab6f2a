//! Figures that stand by themselves, and what they may be.

use super::stats::{Bar, Estimate};

/// A figure, and what it may be.
#[derive(Debug)]
pub(super) struct Held {
    pub what: String,
    pub unit: &'static str,
    pub is: Estimate,
    pub bar: Option<Bar>,
}

/// Figures in the order of the document.
#[derive(Debug, Default)]
pub(super) struct Rows(pub Vec<Held>);

// === impl Rows ===

impl Rows {
    /// Adds one.
    pub(super) fn hold(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        is: Estimate,
        bar: Option<Bar>,
    ) {
        self.0.push(Held {
            what: what.into(),
            unit,
            is,
            bar,
        });
    }
}
