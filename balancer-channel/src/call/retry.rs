//! Attempts one after the other: `retryPolicy` (gRFC A6).

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use balancer_api::ConnectivityState;
use balancer_channel_core::{BoxFuture, Core, Env};
use balancer_registry::RetryPolicy;
use futures_util::{
    StreamExt,
    future::{Either, select},
};
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    attempt::Attempt,
    origin::{Ended, Failure, Origin},
    pushback::Pushback,
    told::told,
};
use crate::{deadline::poll_timer, env::TokioEnv};

/// An RPC that is tried again when it fails.
pub(super) struct Retry {
    state: State,
    origin: Origin,
    policy: Arc<RetryPolicy>,
    /// How many waits the policy has set since the server last did.
    waits: u32,
    /// Why it is tried again, for the message of a deadline.
    last: String,
}

enum State {
    Running(Box<Attempt>),
    BackingOff(BoxFuture<Result<(), tonic::Status>>),
}

// === impl Retry ===

impl Retry {
    pub(super) fn new(mut origin: Origin, policy: Arc<RetryPolicy>) -> Self {
        Self {
            state: State::Running(origin.attempt([])),
            origin,
            policy,
            waits: 0,
            last: String::new(),
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Body>, tonic::Status>> {
        loop {
            match &mut self.state {
                State::Running(attempt) => {
                    let result = ready!(attempt.poll(cx));
                    match self.origin.ended(attempt, result, cx) {
                        Ended::Begun(response) => {
                            return Poll::Ready(Ok(attempt.begun(response, cx)));
                        }
                        Ended::Failed(failure) => match self.wait_after(&failure) {
                            None => return Poll::Ready(failure.result),
                            Some(wait) => {
                                self.last = failure.to_string();
                                let core = self.origin.model().core().clone();
                                told!(core.env(), ?wait, why = self.last, "an RPC is tried again");
                                self.state = State::BackingOff(back_off(core, wait));
                            }
                        },
                    }
                }
                State::BackingOff(sleep) => {
                    if let Err(status) = ready!(sleep.as_mut().poll(cx)) {
                        return Poll::Ready(Err(status));
                    }
                    self.state = State::Running(self.origin.attempt([]));
                }
            }
        }
    }

    /// How long to wait before the next attempt, if there is one.
    fn wait_after(&mut self, failure: &Failure) -> Option<Duration> {
        let policy = &*self.policy;
        let may = self
            .origin
            .may_go_on(failure, policy.retryable_status_codes);
        if !may || self.origin.made >= policy.max_attempts || self.origin.body.committed().is_some()
        {
            return None;
        }
        if let Pushback::After(wait) = failure.pushback {
            self.waits = 0;
            return Some(wait);
        }
        let random = self.origin.model().core().env().random();
        let wait = back_off_of(policy, self.waits, random);
        self.waits += 1;
        Some(wait)
    }

    /// What it is waiting for when the deadline passes.
    pub(super) fn waits_for(&self) -> String {
        let text = match &self.state {
            State::Running(attempt) => attempt.waits_for(),
            State::BackingOff(_) => "the deadline passed before another attempt".to_owned(),
        };
        if self.last.is_empty() {
            return text;
        }
        let failed = self.origin.made - u32::from(matches!(self.state, State::Running(_)));
        format!("{text}; attempt {failed} failed with {}", self.last)
    }
}

/// The wait after `waits` others, between four and six fifths of what the policy says.
fn back_off_of(policy: &RetryPolicy, waits: u32, random: u64) -> Duration {
    let exponent = i32::try_from(waits).unwrap_or(i32::MAX);
    let grown = policy.initial_backoff.as_secs_f64() * policy.backoff_multiplier.powi(exponent);
    let wait = grown.min(policy.max_backoff.as_secs_f64());
    // 53 bits, evenly between 0 and 1.
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::try_from_secs_f64(wait * (0.8 + 0.4 * fraction)).unwrap_or(policy.max_backoff)
}

/// Ends after `wait`, or when the channel closes: the next pick says so.
fn back_off(core: Core<TokioEnv>, wait: Duration) -> BoxFuture<Result<(), tonic::Status>> {
    /// Longer than anybody waits.
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    Box::pin(async move {
        let until = Instant::now() + wait.min(FAR);
        let mut sleep = Box::pin(core.env().sleep(until));
        let slept = std::future::poll_fn(|cx| poll_timer(sleep.as_mut(), cx));
        let mut states = core.states();
        let closed = Box::pin(async move {
            while let Some(state) = states.next().await {
                if state == ConnectivityState::Shutdown {
                    break;
                }
            }
        });
        match select(std::pin::pin!(slept), closed).await {
            Either::Left((slept, _)) => slept,
            Either::Right(_) => Ok(()),
        }
    })
}
