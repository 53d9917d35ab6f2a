//! Whether something grows.

use super::wire::Sample;

/// How something went, of which samples were taken.
#[derive(Debug)]
pub(super) struct Trend {
    /// By how much it grows in an hour, once it has warmed up.
    pub(super) per_hour: f64,
    /// The middle value of the second sixth of the time, when all has been used once.
    pub(super) first: f64,
    /// The middle value of the last sixth.
    pub(super) last: f64,
}

// === impl Trend ===

impl Trend {
    /// Of samples in their order. The first third is warming up: allocators keep what a first rush
    /// took. The slope is the median of the slopes between all pairs that are at least a third apart
    /// (Theil and Sen), so that a rush in the end says nothing.
    pub(super) fn of(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Self {
        let points: Vec<(f64, f64)> = samples
            .iter()
            .map(|sample| (sample.at_ms as f64 / 3_600_000.0, value(sample) as f64))
            .collect();
        let sixth = points.len() / 6;
        let warm = &points[2 * sixth..];
        let apart = warm.len() / 3;
        let mut slopes = Vec::new();
        for (n, from) in warm.iter().enumerate() {
            for to in warm.iter().skip(n + apart.max(1)) {
                slopes.push((to.1 - from.1) / (to.0 - from.0));
            }
        }
        Self {
            per_hour: median(slopes),
            first: median(points[sixth..2 * sixth].iter().map(|p| p.1).collect()),
            last: median(points[5 * sixth..].iter().map(|p| p.1).collect()),
        }
    }

    /// By how much it grew.
    pub(super) fn grown(&self) -> f64 {
        self.last - self.first
    }
}

/// Nothing has no middle, which is never within bounds.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// A scale is tried before it is used: level values with rushes are level, and the smallest leak
/// that counts is seen below them.
pub(super) fn shows_what_it_is_for() {
    let with_a_leak = |kib_per_hour: u64| {
        let samples: Vec<Sample> = (0..360)
            .map(|n| {
                let at_ms = n * 5_000;
                let rush = if n % 11 == 0 { 700 } else { n * 7 % 13 };
                Sample {
                    at_ms,
                    resident_kib: 20_000 + rush + kib_per_hour * at_ms / 3_600_000,
                    descriptors: 30,
                    tasks: 40,
                }
            })
            .collect();
        Trend::of(&samples, |sample| sample.resident_kib).per_hour
    };
    let (level, leak) = (with_a_leak(0), with_a_leak(1_100));
    assert!(level.abs() < 50.0, "level values rise by {level} an hour");
    assert!((1_050.0..1_150.0).contains(&leak), "{leak} of 1,100");
}
