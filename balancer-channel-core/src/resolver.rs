//! Resolvers: where the endpoints come from.

use std::{
    panic::AssertUnwindSafe,
    task::{Poll, Waker},
    time::Duration,
};

use balancer_api::{Attributes, Endpoint, ResolveError};
use futures_util::{FutureExt, future::poll_fn};

use crate::{
    contain::{contain, defuse},
    env::BoxFuture,
    sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, lock},
};

/// Finds the endpoints of a target.
///
/// A resolver answers with the whole truth of the moment; the channel decides when to ask again:
/// when [`changed`](Self::changed) says so; on request of the policy, but not within the floor of
/// 30 s after the last success; and with a growing back-off after an error or a rejected result.
/// Since each answer is complete, changes that come faster than they can be used are naturally
/// taken together.
///
/// # Calls
/// One at a time. Dropped when the channel goes idle or closes.
///
/// # Panics
/// A panic counts as an error and is retried with back-off.
///
/// ```
/// use balancer_api::{Endpoint, ResolveError};
/// use balancer_channel_core::{BoxFuture, Resolution, Resolver};
///
/// struct Fixed(Vec<Endpoint>);
///
/// impl Resolver for Fixed {
///     fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
///         let endpoints = self.0.clone();
///         Box::pin(async move { Ok(Resolution::new(endpoints)) })
///     }
/// }
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// Looks the target up.
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>>;

    /// Ends when there is something new since the last [`resolve`](Self::resolve) began. By default
    /// never: then the channel asks when it has reason to.
    fn changed(&self) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    /// The least time between two successful resolutions on request. `None` for resolvers that
    /// cost nothing to ask.
    fn min_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }
}

/// What a resolver found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resolution {
    /// The endpoints, in the order of preference.
    pub endpoints: Vec<Endpoint>,
    /// The service config that came with them, as JSON.
    pub service_config: Option<String>,
    /// Why there is no service config although there should be one: counts as an invalid one.
    pub service_config_error: Option<String>,
    /// What to tell the policy of the whole result.
    pub attributes: Attributes,
    /// For error messages.
    pub note: Option<String>,
    /// How long it may be believed (a DNS time to live); `None` when nobody says. Asked again after
    /// that where [`Settings::refresh`](crate::Settings::refresh) is on.
    pub valid_for: Option<Duration>,
}

/// A resolver that gives what it was last told.
///
/// ```
/// use balancer_api::Endpoint;
/// use balancer_channel_core::{ManualResolver, Resolution};
/// let resolver = ManualResolver::new(["127.0.0.1:1".into()]);
/// resolver.update(Ok(Resolution::new(["127.0.0.1:2", "127.0.0.1:3"].map(Endpoint::from))));
/// ```
///
/// Clones share what they are told; each is a resolver of its own, for a channel of its own.
#[derive(Debug)]
pub struct ManualResolver {
    shared: Arc<Mutex<Manual>>,
    /// The version that this clone last answered with.
    resolved: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Manual {
    current: Option<Result<Resolution, ResolveError>>,
    version: u64,
    asked: usize,
    wakers: Vec<Waker>,
}

// === impl Resolution ===

impl Resolution {
    /// Just these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Sets [`service_config`](Self::service_config).
    #[must_use]
    pub fn with_service_config(mut self, json: impl Into<String>) -> Self {
        self.service_config = Some(json.into());
        self
    }

    /// Sets [`service_config_error`](Self::service_config_error).
    #[must_use]
    pub fn with_service_config_error(mut self, error: impl Into<String>) -> Self {
        self.service_config_error = Some(error.into());
        self
    }

    /// Sets [`attributes`](Self::attributes).
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets [`note`](Self::note).
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets [`valid_for`](Self::valid_for).
    #[must_use]
    pub fn with_valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }
}

// === impl ManualResolver ===

impl ManualResolver {
    /// A resolver that knows `endpoints` from the start.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::with(Some(Ok(Resolution::new(endpoints))))
    }

    /// A resolver that does not answer before the first [`update`](Self::update).
    pub fn silent() -> Self {
        Self::with(None)
    }

    fn with(current: Option<Result<Resolution, ResolveError>>) -> Self {
        let manual = Manual {
            current,
            version: 1,
            asked: 0,
            wakers: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(manual)),
            resolved: Arc::default(),
        }
    }

    /// Gives a new result to every channel that uses this resolver.
    pub fn update(&self, result: Result<Resolution, ResolveError>) {
        let wakers = {
            let mut manual = self.lock();
            manual.current = Some(result);
            manual.version += 1;
            std::mem::take(&mut manual.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives a new list; short for [`update`](Self::update).
    pub fn set_endpoints(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        self.update(Ok(Resolution::new(endpoints)));
    }

    /// How often it was asked.
    pub fn resolutions(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        lock(&self.shared)
    }
}

impl Clone for ManualResolver {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            resolved: Arc::default(),
        }
    }
}

impl Resolver for ManualResolver {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        self.lock().asked += 1;
        let (shared, resolved) = (self.shared.clone(), self.resolved.clone());
        Box::pin(poll_fn(move |cx| {
            let mut manual = lock(&shared);
            match manual.current.clone() {
                Some(current) => {
                    resolved.store(manual.version, Ordering::Relaxed);
                    Poll::Ready(current)
                }
                None => {
                    manual.wakers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    fn changed(&self) -> BoxFuture<()> {
        let shared = self.shared.clone();
        let seen = self.resolved.load(Ordering::Relaxed);
        Box::pin(poll_fn(move |cx| {
            let mut manual = lock(&shared);
            if manual.version > seen {
                Poll::Ready(())
            } else {
                manual.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }))
    }

    fn min_interval(&self) -> Option<Duration> {
        None
    }
}

/// Asks a resolver, and makes an error of its panic.
pub(crate) async fn resolve_contained(resolver: &dyn Resolver) -> Result<Resolution, ResolveError> {
    let answered = match contain(|| resolver.resolve()) {
        Ok(future) => AssertUnwindSafe(future)
            .catch_unwind()
            .await
            .map_err(defuse),
        Err(message) => Err(message),
    };
    answered.unwrap_or_else(|message| {
        Err(ResolveError::new(format!(
            "the resolver panicked: {message}"
        )))
    })
}
