//! Asking the resolver, and what its answers do.

use std::{panic::AssertUnwindSafe, pin::pin, time::Duration};

use balancer_api::{ResolveError, ResolvedAddrs};
use futures_channel::oneshot;
use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable, poll_fn, select},
    task::AtomicWaker,
};

use super::Actor;
use crate::{
    contain::{contain, defuse},
    env::Env,
    queue::{Item, Verdict},
    resolver::{Resolution, Resolver, resolve_contained},
    shared::Shared,
    sync::{Arc, AtomicBool, Ordering, lock},
};

/// The task that asks the resolver, seen from the balancer's.
pub(super) struct Driver {
    number: u64,
    abort: AbortHandle,
    requests: Arc<Requests>,
}

/// What the driver is asked for.
#[derive(Default)]
struct Requests {
    resolve: AtomicBool,
    reset_backoff: AtomicBool,
    waker: AtomicWaker,
}

/// For a resolver that cannot say; what DNS gets.
const FLOOR: Duration = Duration::from_secs(30);

// === impl Driver ===

impl Driver {
    pub(super) fn reset_backoff(&self) {
        self.requests.reset_backoff.store(true, Ordering::SeqCst);
        self.requests.waker.wake();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Asks again and again: at once when the resolver says that something changed, on request but not
/// before the floor, and with growing back-off after an error or a rejection.
async fn ask<E: Env>(shared: Arc<Shared<E>>, requests: Arc<Requests>, number: u64) {
    let resolver: Arc<dyn Resolver> = shared.settings.resolver.clone();
    let backoff = shared.settings.backoff.clone();
    let mut failures = 0;
    loop {
        requests.resolve.store(false, Ordering::SeqCst);
        let started = shared.env.now();
        let result = resolve_contained(&*resolver).await;
        let valid_for = result.as_ref().map(|found| found.valid_for).ok();
        let (answer, verdict) = oneshot::channel();
        shared
            .queue
            .push(Item::Resolved(number, Box::new(result), answer));
        // No verdict: the channel is closing, or sleeps.
        let Ok(verdict) = verdict.await else { return };
        let changed = pin!(changed(&*resolver));
        if let (Some(valid_for), Verdict::Accepted) = (valid_for, &verdict) {
            failures = 0;
            let floor = min_interval(&*resolver);
            let now = shared.env.now();
            let earliest = now + floor;
            let stale = valid_for
                .filter(|_| shared.settings.refresh)
                .map(|valid_for| now + spread(valid_for.max(floor), shared.env.random()));
            let expired = pin!(async {
                match stale {
                    Some(at) => shared.env.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            });
            let requested = pin!(async {
                requests.wait(&requests.resolve).await;
                shared.env.sleep_until(earliest).await;
            });
            select(changed, select(requested, expired)).await;
        } else {
            if requests.reset_backoff.swap(false, Ordering::SeqCst) {
                failures = 0;
            }
            let wait = backoff.jittered(failures, shared.env.random());
            failures = failures.saturating_add(1);
            let reset = pin!(requests.wait(&requests.reset_backoff));
            let over = select(reset, shared.env.sleep_until(started + wait));
            select(changed, over).await;
            if requests.reset_backoff.swap(false, Ordering::SeqCst) {
                failures = 0;
            }
        }
    }
}

/// How long the resolver wants to be left alone.
fn min_interval(resolver: &dyn Resolver) -> Duration {
    match contain(|| resolver.min_interval()) {
        Ok(floor) => floor.unwrap_or(Duration::ZERO),
        Err(message) => {
            tracing::warn!(message, "the resolver panicked when asked for its interval");
            FLOOR
        }
    }
}

/// `wait`, at least a second, and up to a tenth more: clients that asked together do not go on
/// asking together.
fn spread(wait: Duration, random: u64) -> Duration {
    let wait = wait.max(Duration::from_secs(1));
    wait + (wait / 10).mul_f64(random as f64 / u64::MAX as f64)
}

/// When the resolver has something new; never, if it panics over the question.
async fn changed(resolver: &dyn Resolver) {
    let ended = match contain(|| resolver.changed()) {
        Ok(future) => AssertUnwindSafe(future)
            .catch_unwind()
            .await
            .map_err(defuse),
        Err(message) => Err(message),
    };
    if let Err(message) = ended {
        tracing::warn!(message, "the resolver panicked when asked for changes");
        std::future::pending::<()>().await;
    }
}

// === impl Requests ===

impl Requests {
    async fn wait(&self, flag: &AtomicBool) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if flag.load(Ordering::SeqCst) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

// === impl Actor: resolving ===

impl<E: Env> Actor<E> {
    pub(super) fn start_resolver(&mut self) {
        let requests = Arc::new(Requests::default());
        let (abort, registration) = AbortHandle::new_pair();
        let number = self.next_driver;
        self.next_driver += 1;
        let asking = ask(self.shared.clone(), requests.clone(), number);
        let asking = Abortable::new(asking, registration);
        self.shared.env.spawn(Box::pin(asking.map(drop)));
        self.driver = Some(Driver {
            number,
            abort,
            requests,
        });
    }

    /// Whether a result is of the resolver that is asked now.
    pub(super) fn is_driven_by(&self, number: u64) -> bool {
        let current = self.driver.as_ref().map(|driver| driver.number);
        current == Some(number)
    }

    pub(super) fn stop_resolver(&mut self) {
        self.driver = None;
    }

    /// A policy asked; only the newest is listened to.
    pub(super) fn resolve_now_from(&mut self, instance: u64) {
        if self.newest().is_some_and(|newest| newest.id == instance) {
            self.request_resolution();
        }
    }

    pub(super) fn request_resolution(&self) {
        if let Some(driver) = &self.driver {
            if !driver.requests.resolve.swap(true, Ordering::SeqCst) {
                // Not again before it was asked, which it is seldom.
                tracing::debug!("the resolver is to be asked again");
            }
            driver.requests.waker.wake();
        }
    }

    pub(super) fn handle_resolution(
        &mut self,
        result: Result<Resolution, ResolveError>,
    ) -> Verdict {
        match result {
            Err(error) => {
                tracing::debug!(%error, "the resolver failed");
                if self.config.is_none() {
                    self.config = Some(self.shared.settings.default_config.clone());
                }
                self.give_policy(Err(error))
            }
            Ok(resolution) => self.handle_good(resolution),
        }
    }

    fn handle_good(&mut self, resolution: Resolution) -> Verdict {
        tracing::debug!(
            endpoints = resolution.endpoints.len(),
            service_config = resolution.service_config.is_some(),
            "the resolver answered"
        );
        let max = self.shared.settings.max_endpoints;
        if resolution.endpoints.len() > max {
            let found = resolution.endpoints.len();
            let error = format!("the resolver gave {found} endpoints; at most {max} are allowed");
            tracing::warn!("{error}");
            return self.handle_resolution(Err(ResolveError::new(error)));
        }
        let mut bad_config = None;
        match resolution.service_config {
            Some(json) if !self.shared.settings.ignore_resolver_config => {
                let same = self
                    .config
                    .as_ref()
                    .is_some_and(|config| *config.json == *json);
                if !same {
                    match self.shared.env.parse_config(&json) {
                        Ok(config) => {
                            self.config = Some(config);
                            self.reconfigured = true;
                            self.refresh_health();
                            self.refresh_growth();
                        }
                        Err(error) => bad_config = Some(error),
                    }
                }
            }
            _ => {}
        }
        if !self.shared.settings.ignore_resolver_config {
            bad_config = bad_config.or(resolution.service_config_error);
        }
        if let Some(error) = &bad_config {
            tracing::warn!(%error, "the resolver gave an invalid service config");
            if self.config.is_none() {
                let message = format!("invalid service config: {error}");
                self.publish_without_policy(&message);
                return Verdict::Rejected(message.into());
            }
        }
        if self.config.is_none() {
            self.config = Some(self.shared.settings.default_config.clone());
        }
        let mut resolved =
            ResolvedAddrs::new(resolution.endpoints).with_attributes(resolution.attributes);
        if let Some(note) = resolution.note {
            resolved = resolved.with_note(note);
        }
        let verdict = self.give_policy(Ok(resolved));
        match bad_config {
            Some(error) => Verdict::Rejected(error.into()),
            None => verdict,
        }
    }

    /// Hands a result to the newest policy, which is switched first where the config says so.
    fn give_policy(&mut self, resolved: Result<ResolvedAddrs, ResolveError>) -> Verdict {
        self.resolved = Some(match (&resolved, self.resolved.take()) {
            // An error does not replace a list that a rebuilt policy could use.
            (Err(_), Some(Ok(list))) => Ok(list),
            _ => resolved.clone(),
        });
        self.choose_policy();
        let info = self.config.as_ref().map(|config| config.json.clone());
        lock(&self.shared.policy).service_config = info;
        self.deliver_resolved(resolved)
    }
}
