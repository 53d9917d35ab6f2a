//! A resolver that says what the script says, and minds how often it is asked.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

use balancer_api::{Endpoint, ResolveError, Timestamp};
use balancer_channel_core::{Backoff, BoxFuture, Resolution, Resolver};

use crate::{
    book::Book,
    law::Law,
    sim::{Sim, lock},
    world::ResolverPlan,
};

/// What it says from now on.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    List {
        endpoints: Vec<Endpoint>,
        config: Option<String>,
    },
    Error,
    Hang,
    Panic,
}

/// Clones are one resolver.
#[derive(Clone)]
pub(crate) struct SimResolver(Arc<Shared>);

struct Shared {
    sim: Arc<Sim>,
    book: Arc<Book>,
    backoff: Backoff,
    plan: ResolverPlan,
    /// Whether asking too often is judged: not where policies reject what is good.
    judged: bool,
    state: Mutex<State>,
}

struct State {
    answer: Answer,
    version: u64,
    /// The version that was last answered with.
    seen: u64,
    wakers: Vec<Waker>,
    last: Option<Last>,
    failures: u32,
}

/// The last answer.
struct Last {
    not_before: Timestamp,
    version: u64,
    reset: Option<Timestamp>,
}

// === impl SimResolver ===

impl SimResolver {
    pub(crate) fn new(
        sim: &Arc<Sim>,
        book: &Arc<Book>,
        backoff: Backoff,
        plan: ResolverPlan,
        judged: bool,
    ) -> Self {
        let first = plan.first.clone();
        Self(Arc::new(Shared {
            sim: sim.clone(),
            book: book.clone(),
            backoff,
            plan,
            judged,
            state: Mutex::new(State {
                answer: first,
                version: 1,
                seen: 0,
                wakers: Vec::new(),
                last: None,
                failures: 0,
            }),
        }))
    }

    pub(crate) fn say(&self, answer: Answer) {
        let wakers = {
            let mut state = lock(&self.0.state);
            state.answer = answer;
            state.version += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Resolver for SimResolver {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        let shared = self.0.clone();
        let asked = shared.sim.now();
        shared.sim.tell(format_args!("resolver: asked"));
        shared.judge(asked);
        if matches!(lock(&shared.state).answer, Answer::Panic) {
            shared.answered(asked, false);
            panic!("chaos: resolver");
        }
        Box::pin(async move {
            shared.sim.sleep_until(asked + shared.plan.delay).await;
            poll_fn(|cx| {
                let mut state = lock(&shared.state);
                let result = match &state.answer {
                    Answer::List { endpoints, config } => {
                        let mut found = Resolution::new(endpoints.iter().cloned());
                        found.valid_for = shared.plan.valid_for;
                        if let Some(config) = config {
                            found = found.with_service_config(config.as_str());
                        }
                        Ok(found)
                    }
                    Answer::Error => Err(ResolveError::new("no such host")),
                    Answer::Hang => {
                        state.wakers.push(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Answer::Panic => {
                        drop(state);
                        shared.answered(asked, false);
                        panic!("chaos: resolver");
                    }
                };
                drop(state);
                let good = matches!(&result, Ok(found) if !found.endpoints.is_empty()
                    && found.service_config.as_deref() != Some("bad"));
                shared.answered(asked, good);
                Poll::Ready(result)
            })
            .await
        })
    }

    fn changed(&self) -> BoxFuture<()> {
        let shared = self.0.clone();
        Box::pin(poll_fn(move |cx| {
            let mut state = lock(&shared.state);
            if !shared.plan.notifies {
                return Poll::Pending;
            }
            if state.version > state.seen {
                return Poll::Ready(());
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn min_interval(&self) -> Option<Duration> {
        self.0.plan.min_interval
    }
}

// === impl Shared ===

impl Shared {
    /// It is asked: was it too soon?
    fn judge(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        // Awake again.
        let anew = !self.book.is_anybody_there();
        if anew {
            state.failures = 0;
        }
        let Some(last) = &state.last else { return };
        let excused = anew || state.version > last.version || self.book.last_reset() != last.reset;
        let early = last.not_before - now;
        let failures = state.failures;
        drop(state);
        if self.judged && !excused && early > Duration::ZERO {
            let what = format_args!("resolver: asked {early:?} early after {failures} failures");
            self.sim.fail(Law::Backoff, what);
        }
    }

    fn answered(&self, asked: Timestamp, good: bool) {
        let now = self.sim.now();
        let reset = self.book.last_reset();
        let mut state = lock(&self.state);
        state.seen = state.version;
        if reset.is_some_and(|at| at >= asked) {
            state.failures = 0;
        }
        let micro = Duration::from_micros(1);
        let not_before = if good {
            state.failures = 0;
            now + self
                .plan
                .min_interval
                .unwrap_or_default()
                .saturating_sub(micro)
        } else {
            let least = self.backoff.exact(state.failures).mul_f64(0.8);
            state.failures += 1;
            asked + least.saturating_sub(micro)
        };
        let version = state.version;
        state.last = Some(Last {
            not_before,
            version,
            reset,
        });
    }
}
