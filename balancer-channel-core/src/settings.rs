//! What an application chooses for a channel, as far as the core is concerned.

use std::{fmt, time::Duration};

use balancer_api::{ChildConfig, Dialer, TransportCredentials};

use crate::{Backoff, env::ParsedConfig, resolver::Resolver, sync::Arc};

/// A channel's settings. [`new`](Self::new) has gRPC's defaults for the rest.
#[non_exhaustive]
pub struct Settings<R> {
    /// The target as the application gave it.
    pub target: Arc<str>,
    /// The `:authority` of RPCs.
    pub authority: Arc<str>,
    /// Where the endpoints come from. Dropped and built again around idleness.
    pub resolver: Arc<dyn Resolver>,
    /// Used while the resolver gives no service config.
    pub default_config: ParsedConfig<R>,
    /// A policy that no service config can change.
    pub fixed_policy: Option<ChildConfig>,
    /// Whether service configs from the resolver are ignored.
    pub ignore_resolver_config: bool,
    /// Whether the resolver is asked again when a result says that it is too old
    /// ([`Resolution::valid_for`](crate::Resolution::valid_for)), a little later than that and never
    /// before the resolver's floor. Off: only on request, as gRPC does.
    pub refresh: bool,
    /// For connections, resolutions and rebuilt policies.
    pub backoff: Backoff,
    /// A pass over a SubConn's addresses is given at least this long.
    pub min_connect_timeout: Duration,
    /// How many RPCs may wait for a picker; more fail with RESOURCE_EXHAUSTED.
    pub max_waiting: usize,
    /// How many endpoints a resolver may give; a longer list is refused and the old one kept.
    pub max_endpoints: usize,
    /// How many attempts to connect run at once; at least one does. One older than a second does not
    /// count any more. Waiting for others is no part of the time that connecting may take.
    pub max_connecting: usize,
    /// The first READY picker is held until every SubConn has left CONNECTING once, or for so long.
    pub warm_up: Option<Duration>,
    /// After so long without an RPC the channel falls asleep: resolver, policy and connections are
    /// given up until the next one. `None` and zero: never.
    pub idle_timeout: Option<Duration>,
    /// Whether backends are asked for their health (gRFC A17) where policy and service config want
    /// it.
    pub health_checks: bool,
    /// Handed to policies.
    pub dial_creds: Option<Arc<dyn TransportCredentials>>,
    /// Handed to policies.
    pub dialer: Option<Arc<dyn Dialer>>,
}

// === impl Settings ===

impl<R> Settings<R> {
    /// Settings for `target` with endpoints from `resolver`.
    pub fn new(
        target: impl Into<Arc<str>>,
        authority: impl Into<Arc<str>>,
        resolver: Arc<dyn Resolver>,
        default_config: ParsedConfig<R>,
    ) -> Self {
        Self {
            target: target.into(),
            authority: authority.into(),
            resolver,
            default_config,
            fixed_policy: None,
            ignore_resolver_config: false,
            refresh: false,
            backoff: Backoff::default(),
            min_connect_timeout: Duration::from_secs(20),
            max_waiting: 100_000,
            max_endpoints: 10_000,
            max_connecting: 64,
            warm_up: None,
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            health_checks: true,
            dial_creds: None,
            dialer: None,
        }
    }
}

impl<R> fmt::Debug for Settings<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("target", &self.target)
            .field("authority", &self.authority)
            .field("default_config", &self.default_config)
            .finish_non_exhaustive()
    }
}
