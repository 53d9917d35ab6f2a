//! One RPC, from the first pick to the response.
//!
//! [`Attempt`] picks, sends, and sends again what no server's application can have seen. An RPC whose
//! method config says more, [`Retry`] or [`Hedging`], makes several of them out of one request.

mod attempt;
mod authorize;
mod end;
mod hedge;
mod origin;
mod pushback;
mod retry;
mod throttle;
mod told;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use balancer_channel_core::Core;
use balancer_registry::Attempts;
use tokio::time::Sleep;
use tonic::body::Body;

use crate::{
    deadline::poll_timer,
    env::{Awake, TokioEnv},
};
use attempt::{Attempt, Stopped};
use hedge::Hedging;
use origin::Origin;
use retry::Retry;
pub(crate) use throttle::{Throttle, Throttles};

/// An RPC on its way; see [`Channel`](crate::Channel).
///
/// It moves only when it is polled, as futures do, and looks at its deadline then. From the response on
/// it needs nobody: at the deadline the stream ends, whether or not the body is polled.
///
/// # Cancel safety
/// Dropping it cancels the RPC: its stream is reset, its place among the waiting given up, and
/// the policy told.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    /// The RPC's only attempt, or what is left of it when there are several.
    attempt: Attempt,
    /// Only where the method config says so.
    several: Option<Box<Several>>,
    /// Armed when the RPC has a deadline and has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// More than one attempt. Between two of them the channel is kept awake.
struct Several {
    attempts: Strategy,
    _awake: Awake,
}

enum Strategy {
    Retry(Retry),
    Hedge(Hedging),
}

// === impl ResponseFuture ===

impl ResponseFuture {
    pub(crate) fn new(core: Core<TokioEnv>, request: http::Request<Body>) -> Self {
        Self {
            attempt: Attempt::new(core, request),
            several: None,
            sleep: None,
            ended: false,
        }
    }

    fn poll_attempts(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Body>, tonic::Status>> {
        loop {
            if let Some(several) = &mut self.several {
                return match &mut several.attempts {
                    Strategy::Retry(retry) => retry.poll(cx),
                    Strategy::Hedge(hedging) => hedging.poll(cx),
                };
            }
            match ready!(self.attempt.poll(cx)) {
                Ok(response) => {
                    return Poll::Ready(Ok(self.attempt.begun(response, cx)));
                }
                Err(Stopped::Failed(failed)) => return Poll::Ready(Err(failed.status)),
                Err(Stopped::Several(attempts)) => {
                    let origin = Origin::of(&mut self.attempt);
                    let awake = self.attempt.core().env().stay_awake();
                    let attempts = match attempts {
                        Attempts::Retry(policy) => {
                            Some(Strategy::Retry(Retry::new(origin, policy)))
                        }
                        Attempts::Hedge(policy) => {
                            Some(Strategy::Hedge(Hedging::new(origin, policy)))
                        }
                        _ => None,
                    };
                    self.several = attempts.map(|attempts| {
                        Box::new(Several {
                            attempts,
                            _awake: awake,
                        })
                    });
                }
            }
        }
    }

    /// Ready with an error at the deadline.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<tonic::Status> {
        let Some(deadline) = self.attempt.deadline() else {
            return Poll::Pending;
        };
        // Anew where the service config came after the first pick and shortens it.
        if self.sleep.as_ref().map(|sleep| sleep.deadline()) != Some(deadline) {
            self.sleep = Some(Box::pin(self.attempt.core().env().sleep(deadline)));
        }
        let Some(sleep) = &mut self.sleep else {
            return Poll::Pending;
        };
        if let Err(gone) = ready!(poll_timer(sleep.as_mut(), cx)) {
            return Poll::Ready(gone);
        }
        let several = self.several.take();
        let waits_for = match several.as_ref().map(|several| &several.attempts) {
            None => return Poll::Ready(self.attempt.expire()),
            Some(Strategy::Retry(retry)) => retry.waits_for(),
            Some(Strategy::Hedge(hedging)) => hedging.waits_for(),
        };
        Poll::Ready(tonic::Status::deadline_exceeded(waits_for))
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<Body>, tonic::Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(Err(tonic::Status::internal("polled after its end")));
        }
        let result = match this.poll_attempts(cx) {
            Poll::Ready(result) => result,
            // A pick looks at the clock itself.
            Poll::Pending => Err(ready!(this.poll_deadline(cx))),
        };
        this.ended = true;
        this.several = None;
        this.sleep = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = self.several.as_ref();
        let several = several.map(|several| match several.attempts {
            Strategy::Retry(_) => "with retries",
            Strategy::Hedge(_) => "hedged",
        });
        f.debug_struct("ResponseFuture")
            .field("stage", &several.unwrap_or_else(|| self.attempt.stage()))
            .finish_non_exhaustive()
    }
}
