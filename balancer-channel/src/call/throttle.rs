//! The budget for retries and hedges of a channel (gRFC A6).

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use balancer_registry::RetryThrottling;

/// Tokens that failures take and successes give back. Nothing is tried again while no more than
/// half of them are left.
#[derive(Debug)]
pub(crate) struct Throttle {
    config: RetryThrottling,
    milli_tokens: AtomicU32,
    /// Whether it was told that it throttles.
    told: AtomicBool,
}

/// The throttle of a channel's last service config that had one: a config that says the same goes on
/// with its count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttles(Arc<Mutex<Option<Arc<Throttle>>>>);

// === impl Throttle ===

impl Throttle {
    fn new(config: RetryThrottling) -> Self {
        Self {
            config,
            milli_tokens: AtomicU32::new(config.max_milli_tokens),
            told: AtomicBool::new(false),
        }
    }

    /// An RPC ended well.
    pub(crate) fn succeeded(&self) {
        let RetryThrottling {
            max_milli_tokens: max,
            milli_token_ratio: ratio,
            ..
        } = self.config;
        // Full is the usual state: then nothing is written.
        let given = self.milli_tokens.fetch_update(Relaxed, Relaxed, |tokens| {
            (tokens < max).then(|| tokens.saturating_add(ratio).min(max))
        });
        // Told when it is full again, so that one at the brink is not told for every RPC.
        if given.is_err() && self.told.load(Relaxed) && self.told.swap(false, Relaxed) {
            tracing::debug!("RPCs may be tried again as before");
        }
    }

    /// An attempt failed in a way that another one might not. Whether there may be one.
    pub(crate) fn failed(&self) -> bool {
        let _ = self
            .milli_tokens
            .fetch_update(Relaxed, Relaxed, |tokens| Some(tokens.saturating_sub(1000)));
        let allows = self.allows();
        if !allows && !self.told.load(Relaxed) && !self.told.swap(true, Relaxed) {
            tracing::info!("too many RPCs fail: no more of them are tried again");
        }
        allows
    }

    /// Whether there may be another attempt.
    pub(crate) fn allows(&self) -> bool {
        self.milli_tokens.load(Relaxed) > self.config.max_milli_tokens / 2
    }
}

// === impl Throttles ===

impl Throttles {
    /// The throttle of a service config.
    pub(crate) fn of(&self, config: RetryThrottling) -> Arc<Throttle> {
        // A leaf; nothing is called under it.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(throttle) if throttle.config == config => throttle.clone(),
            _ => last.insert(Arc::new(Throttle::new(config))).clone(),
        }
    }
}
