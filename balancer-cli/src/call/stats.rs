//! What came of RPCs.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use balancer_api::Code;
use hdrhistogram::Histogram;
use tonic::Status;

/// Counts and times of RPCs that have ended.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Microseconds.
    latency: Histogram<u64>,
    slowest: Duration,
    codes: BTreeMap<Code, u64>,
    errors: HashMap<(Code, String), u64>,
}

/// The longest time that is told from longer ones.
const LONGEST_US: u64 = 3_600_000_000;
/// Of distinct errors; what servers write into messages has no end.
const MOST_ERRORS: usize = 64;
/// Of characters.
const LONGEST_MESSAGE: usize = 1024;

// === impl Stats ===

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LONGEST_US, 3)
                .expect("the bounds are an hour apart and the precision is allowed"),
            slowest: Duration::ZERO,
            codes: BTreeMap::new(),
            errors: HashMap::new(),
        }
    }

    pub(crate) fn record(&mut self, took: Duration, result: &Result<(), Status>) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.latency.saturating_record(us.clamp(1, LONGEST_US));
        self.slowest = self.slowest.max(took);
        let code = match result {
            Ok(()) => Code::Ok,
            Err(status) => Code::from_i32(status.code() as i32),
        };
        *self.codes.entry(code).or_default() += 1;
        if let Err(status) = result {
            let message = status.message().chars().take(LONGEST_MESSAGE).collect();
            self.count_error((code, message), 1);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let merged = self.latency.add(&other.latency);
        debug_assert!(merged.is_ok(), "all have the same bounds");
        self.slowest = self.slowest.max(other.slowest);
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        for (error, count) in other.errors {
            self.count_error(error, count);
        }
    }

    /// RPCs that have ended.
    pub(crate) fn rpcs(&self) -> u64 {
        self.codes.values().sum()
    }

    pub(crate) fn ok(&self) -> u64 {
        self.codes.get(&Code::Ok).copied().unwrap_or(0)
    }

    pub(crate) fn codes(&self) -> &BTreeMap<Code, u64> {
        &self.codes
    }

    /// The errors, the most frequent first.
    pub(crate) fn errors(&self) -> Vec<(Code, &str, u64)> {
        let errors = self.errors.iter();
        let mut errors: Vec<_> = errors
            .map(|((code, message), count)| (*code, message.as_str(), *count))
            .collect();
        errors.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        errors
    }

    /// The time within which that part of the RPCs ended; zero without any.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        match self.latency.is_empty() {
            true => Duration::ZERO,
            // A bucket's end may lie behind the slowest of all.
            false => Duration::from_micros(self.latency.value_at_quantile(part)).min(self.slowest),
        }
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.slowest
    }

    fn count_error(&mut self, error: (Code, String), count: u64) {
        let is_known = self.errors.contains_key(&error);
        let key = if is_known || self.errors.len() < MOST_ERRORS {
            error
        } else {
            (error.0, "(other messages)".to_owned())
        };
        *self.errors.entry(key).or_default() += count;
    }
}
