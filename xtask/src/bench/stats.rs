//! Paired ratios and how sure they are.

/// A median with the interval that a bootstrap gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The 2.5th percentile of the resampled medians.
    pub low: f64,
    /// The 97.5th.
    pub high: f64,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// It may not be above.
    AtMost(f64),
    /// It may not be below.
    AtLeast(f64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Met.
    Pass,
    /// Missed by the whole interval.
    Fail,
    /// The interval is wider than 5 % either way, or the bar lies inside it. Not a pass.
    Inconclusive,
}

/// How often a bootstrap draws.
const RESAMPLES: usize = 2_000;

/// Wider than this either way, an interval says nothing.
const WIDTH: f64 = 0.05;

/// The ratios of figures that were measured in the same rounds.
pub fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

/// The middle one, or the mean of the middle two; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

// === impl Estimate ===

impl Estimate {
    /// The median of the values, with a 95 % interval.
    pub fn of(values: &[f64]) -> Self {
        // xorshift: the same draws for the same values.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound.max(1) as u64).unwrap_or_default()
        };
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let sample: Vec<f64> = values.iter().map(|_| values[draw(values.len())]).collect();
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Self {
            median: median(values),
            low: medians[RESAMPLES / 40],
            high: medians[RESAMPLES - 1 - RESAMPLES / 40],
        }
    }

    /// A count: nothing to be unsure of.
    pub fn exact(value: f64) -> Self {
        Self {
            median: value,
            low: value,
            high: value,
        }
    }

    /// Whether the interval is too wide to say anything.
    pub fn is_wide(&self) -> bool {
        (self.high - self.low) / 2.0 > WIDTH * self.median.abs()
    }

    /// Whether the bar is met.
    pub fn against(&self, bar: Bar) -> Verdict {
        let (met, missed) = match bar {
            Bar::AtMost(bound) => (self.high <= bound, self.low > bound),
            Bar::AtLeast(bound) => (self.low >= bound, self.high < bound),
        };
        // A bar that the whole interval lies beyond is missed, however wide that is.
        match (met, missed) {
            (_, true) => Verdict::Fail,
            (true, _) if !self.is_wide() => Verdict::Pass,
            _ => Verdict::Inconclusive,
        }
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.low == self.high {
            write!(f, "{:.3}", self.median)
        } else {
            write!(f, "{:.3} [{:.3}, {:.3}]", self.median, self.low, self.high)
        }
    }
}

// === impl Bar, Verdict ===

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Inconclusive => "INCONCLUSIVE",
        })
    }
}
