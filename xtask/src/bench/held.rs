//! Figures that stand by themselves, and what they may be.

use anyhow::Result;

use super::{
    rounds::{Effort, TIMES},
    stats::{Bar, Estimate},
};

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

/// Measures `N` figures a round: as many rounds as were asked for, and on while one of them is unsure.
pub(super) fn until_sure<const N: usize>(
    effort: Effort,
    mut round: impl FnMut() -> Result<[f64; N]>,
) -> Result<[Estimate; N]> {
    let mut rounds: Vec<[f64; N]> = Vec::new();
    loop {
        for _ in 0..effort.rounds {
            rounds.push(round()?);
        }
        let estimate =
            |at: usize| Estimate::of(&rounds.iter().map(|all| all[at]).collect::<Vec<_>>());
        let estimates = std::array::from_fn(estimate);
        if rounds.len() >= TIMES * effort.rounds || !estimates.iter().any(Estimate::is_wide) {
            return Ok(estimates);
        }
    }
}

/// Measures two in turn, so that neither is always the first.
#[derive(Debug, Default)]
pub(super) struct Turn(bool);

// === impl Turn ===

impl Turn {
    /// The two, in the order that was not the last one.
    pub(super) fn pair<A, B>(
        &mut self,
        one: impl FnOnce() -> Result<A>,
        other: impl FnOnce() -> Result<B>,
    ) -> Result<(A, B)> {
        self.0 = !self.0;
        if self.0 {
            Ok((one()?, other()?))
        } else {
            let other = other()?;
            Ok((one()?, other))
        }
    }
}

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
