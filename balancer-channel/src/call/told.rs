//! What is told in the log of RPCs that do not go straight through. Nothing is told of those that do.

use std::sync::Arc;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::attempt::Attempt;
use crate::env::TokioEnv;

/// Tells of an RPC at DEBUG, now and then at most; at TRACE always.
macro_rules! told {
    ($env:expr, $($told:tt)+) => {
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::trace!(authority = %$env.authority(), $($told)+);
        } else if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(untold) = $env.may_speak()
        {
            tracing::debug!(authority = %$env.authority(), untold, $($told)+);
        }
    };
}

pub(super) use told;

/// An RPC that waits for a picker; tells how long it did, and for what, however that ends.
pub(super) struct Waiting(Option<Box<Wait>>);

struct Wait {
    env: Arc<TokioEnv>,
    path: Option<PathAndQuery>,
    why: Option<String>,
    since: Instant,
}

// === impl Waiting ===

impl Waiting {
    /// Costs nothing where nobody listens.
    pub(super) fn begin(attempt: &Attempt) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self(None);
        }
        Self(Some(Box::new(Wait {
            env: attempt.core().env().clone(),
            path: attempt.request.head.uri().path_and_query().cloned(),
            why: attempt.why_it_waits(),
            since: Instant::now(),
        })))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(wait) = &self.0 else { return };
        let path = wait.path.as_ref().map(PathAndQuery::path);
        let waited = wait.since.elapsed();
        let why = wait.why.as_deref().unwrap_or("no picker had a connection");
        told!(
            wait.env,
            path,
            ?waited,
            why,
            "an RPC has waited for a connection"
        );
    }
}
