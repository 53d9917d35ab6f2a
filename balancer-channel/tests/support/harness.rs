//! What every test of a channel runs in: `#[tokio::test(crate = "crate::support::harness")]`.
//!
//! tokio's macro builds its runtime with what it finds here. When the test has ended, and with it all
//! that it held, no channel that was built on that runtime may hold a task, a socket or a timer.

use std::time::{Duration, Instant};

use balancer_channel::ledger::{Held, Watch, watch};
#[allow(unused_imports, reason = "for the macro")]
pub(crate) use tokio::pin;

/// Where tokio's macro looks for it.
pub(crate) mod runtime {
    #[allow(unused_imports, reason = "for the macro")]
    pub(crate) use super::Builder;
}

/// Describes a runtime, as far as tests do.
pub(crate) struct Builder(tokio::runtime::Builder);

/// A runtime that looks for leaks.
pub(crate) struct Runtime(tokio::runtime::Runtime);

/// For what it takes peers to read the end of their connections, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// So long may it be by the clock of the test, where that stands still otherwise.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(5);

impl Builder {
    pub(crate) fn new_current_thread() -> Self {
        // Leaks: looked for at the end of `block_on`.
        Self(tokio::runtime::Builder::new_current_thread())
    }

    pub(crate) fn new_multi_thread() -> Self {
        // Leaks: looked for at the end of `block_on`.
        Self(tokio::runtime::Builder::new_multi_thread())
    }

    pub(crate) fn enable_all(mut self) -> Self {
        self.0.enable_all();
        self
    }

    pub(crate) fn worker_threads(mut self, threads: usize) -> Self {
        self.0.worker_threads(threads);
        self
    }

    pub(crate) fn start_paused(mut self, paused: bool) -> Self {
        self.0.start_paused(paused);
        self
    }

    pub(crate) fn build(mut self) -> std::io::Result<Runtime> {
        self.0.build().map(Runtime)
    }
}

impl Runtime {
    /// Runs a test.
    ///
    /// # Panics
    /// As the test does; and when one of its channels has left something behind.
    pub(crate) fn block_on<F: Future>(&self, test: F) -> F::Output {
        self.block_on_within(PATIENCE, test)
    }

    /// As [`block_on`](Self::block_on), for a test that leaves something behind.
    pub(crate) fn block_on_within<F: Future>(&self, patience: Duration, test: F) -> F::Output {
        let watch = watch(self.0.handle());
        let result = self.0.block_on(test);
        let left = self.0.block_on(given_back(&watch, patience));
        assert_eq!(
            left,
            Held::default(),
            "left behind by the {} channels of this test",
            watch.channels()
        );
        result
    }
}

/// What is still held after so long; nothing, as soon as that is so.
pub(crate) async fn given_back(watch: &Watch, patience: Duration) -> Held {
    let started = Instant::now();
    let mut slept = Duration::ZERO;
    loop {
        let held = watch.held();
        if held == Held::default() || started.elapsed() > patience {
            return held;
        }
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        if slept < VIRTUAL_PATIENCE {
            let turn = Duration::from_millis(1);
            tokio::time::sleep(turn).await;
            slept += turn;
        }
    }
}
