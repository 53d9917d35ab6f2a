//! One line for each case, and a verdict at the end.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;

/// How long a case may take: far longer than any should.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of the cases so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    failed: Vec<&'static str>,
}

// === impl Report ===

impl Report {
    /// Runs one case; it fails by panicking.
    pub(crate) async fn case(&mut self, name: &'static str, case: impl Future<Output = ()>) {
        let started = Instant::now();
        let case = AssertUnwindSafe(case).catch_unwind();
        let verdict = match tokio::time::timeout(PATIENCE, case).await {
            Ok(Ok(())) => "PASS".to_owned(),
            // The panic's own words are on stderr.
            Ok(Err(_)) => "FAIL".to_owned(),
            Err(_) => format!("FAIL\tdid not end within {PATIENCE:?}"),
        };
        if verdict != "PASS" {
            self.failed.push(name);
        }
        let (verdict, why) = verdict.split_once('\t').unwrap_or((&verdict, ""));
        let took = started.elapsed().as_millis();
        println!("case\t{name}\t{verdict}\t{took}\t{why}");
    }

    /// Panics if a case failed.
    pub(crate) fn finish(self) {
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join(", "));
    }
}
