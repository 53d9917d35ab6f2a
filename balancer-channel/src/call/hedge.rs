//! Attempts side by side: `hedgingPolicy` (gRFC A6).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use balancer_api::{Code, Status};
use balancer_registry::HedgingPolicy;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;

use super::{
    attempt::Attempt,
    origin::{Ended, Failure, Origin},
    pushback::Pushback,
    told::told,
};
use crate::deadline::poll_timer;

/// An RPC that is sent once more before it is known that the attempts before have failed.
///
/// The first attempt that succeeds, or fails in a way that is not named non-fatal, is the RPC's
/// result; the others are cancelled then.
pub(super) struct Hedging {
    origin: Origin,
    policy: Arc<HedgingPolicy>,
    /// By number.
    running: Vec<(u32, Box<Attempt>)>,
    next: Next,
    /// The result, if no other attempt brings a better one.
    last: Option<Failure>,
}

/// When the next attempt is made.
enum Next {
    Now,
    At(Pin<Box<Sleep>>),
    Never,
}

// === impl Hedging ===

impl Hedging {
    pub(super) fn new(origin: Origin, policy: Arc<HedgingPolicy>) -> Self {
        Self {
            origin,
            policy,
            running: Vec::new(),
            next: Next::Now,
            last: None,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Body>, tonic::Status>> {
        loop {
            if let Some(result) = self.poll_running(cx) {
                self.cancel_others(None);
                return Poll::Ready(result);
            }
            if let Some(only) = self.origin.body.committed() {
                self.cancel_others(Some(only));
                self.next = Next::Never;
            }
            if let Poll::Ready(due) = self.poll_next(cx) {
                match due {
                    Ok(()) => self.start(),
                    Err(status) => return Poll::Ready(Err(status)),
                }
            } else if matches!(self.next, Next::Never) && self.running.is_empty() {
                return Poll::Ready(self.last.take().map_or_else(
                    || Err(tonic::Status::internal("no attempt is left")),
                    |failure| failure.result,
                ));
            } else {
                return Poll::Pending;
            }
        }
    }

    /// Ready when another attempt is due.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        match &mut self.next {
            Next::Now => Poll::Ready(Ok(())),
            Next::At(sleep) => poll_timer(sleep.as_mut(), cx),
            Next::Never => Poll::Pending,
        }
    }

    /// Makes an attempt, if there may be one, and sees when the next is due.
    fn start(&mut self) {
        let is_first = self.origin.made == 0;
        let throttle = self.origin.throttle();
        if !is_first && throttle.is_some_and(|throttle| !throttle.allows()) {
            self.next = Next::Never;
            return;
        }
        let number = self.origin.made;
        if !is_first {
            told!(self.origin.model().core().env(), number, "an RPC is hedged");
        }
        let others = self.running.iter().map(|(_, attempt)| &**attempt);
        let attempt = self.origin.attempt(others);
        self.running.push((number, attempt));
        self.next = if self.origin.made >= self.policy.max_attempts {
            Next::Never
        } else {
            self.after(self.policy.hedging_delay)
        };
    }

    fn after(&self, delay: Duration) -> Next {
        /// Longer than anybody waits.
        const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
        if delay.is_zero() {
            return Next::Now;
        }
        let env = self.origin.model().core().env();
        Next::At(Box::pin(env.sleep(Instant::now() + delay.min(FAR))))
    }

    /// The RPC's result, if an attempt has brought it.
    fn poll_running(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Option<Result<http::Response<Body>, tonic::Status>> {
        let mut at = 0;
        while let Some((_, attempt)) = self.running.get_mut(at) {
            let Poll::Ready(result) = attempt.poll(cx) else {
                at += 1;
                continue;
            };
            let (_, mut attempt) = self.running.remove(at);
            match self.origin.ended(&mut attempt, result, cx) {
                Ended::Begun(response) => return Some(Ok(attempt.begun(response, cx))),
                Ended::Failed(failure) => {
                    let codes = self.policy.non_fatal_status_codes;
                    if failure.is_last_word() || !codes.contains(failure.code()) {
                        return Some(failure.result);
                    }
                    let may_go_on = self.origin.may_go_on(&failure, codes);
                    if !matches!(self.next, Next::Never) {
                        self.next = match failure.pushback {
                            _ if !may_go_on => Next::Never,
                            Pushback::None => Next::Now,
                            Pushback::After(wait) => self.after(wait),
                            Pushback::Never => Next::Never,
                        };
                    }
                    self.last = Some(failure);
                }
            }
        }
        None
    }

    /// Ends the attempts that can no longer win.
    fn cancel_others(&mut self, winner: Option<u32>) {
        let status = Status::new(
            Code::Cancelled,
            "another attempt of the RPC went on instead",
        );
        for (number, attempt) in &mut self.running {
            if Some(*number) != winner {
                attempt.stop(&status);
            }
        }
        self.running.retain(|(number, _)| Some(*number) == winner);
    }

    /// What it is waiting for when the deadline passes.
    pub(super) fn waits_for(&self) -> String {
        let text = match self.running.last() {
            Some((_, attempt)) => attempt.waits_for(),
            None => "the deadline passed before another attempt".to_owned(),
        };
        match &self.last {
            None => text,
            Some(failure) => format!("{text}; another attempt failed with {failure}"),
        }
    }
}
