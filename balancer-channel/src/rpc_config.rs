//! What calls need of a service config.

use balancer_channel_core::ParsedConfig;
use balancer_registry::{Limits, MethodConfig, Registry, ServiceConfig, ServiceConfigError};
use std::sync::Arc;

use crate::call::{Throttle, Throttles};

/// A service config as calls use it.
#[derive(Debug)]
pub(crate) struct RpcConfig {
    config: ServiceConfig,
    throttle: Option<Arc<Throttle>>,
}

// === impl RpcConfig ===

impl RpcConfig {
    /// Parses `json`, as far as `limits` allow; policies come from `registry`, and the count of
    /// failures from `throttles`.
    pub(crate) fn parse(
        json: &str,
        registry: &Registry,
        limits: &Limits,
        throttles: &Throttles,
    ) -> Result<ParsedConfig<Self>, ServiceConfigError> {
        let config = ServiceConfig::parse_with(json, registry, limits)?;
        for warning in config.warnings() {
            tracing::warn!(%warning, "service config");
        }
        Ok(ParsedConfig {
            policy: config.resolve().policy().clone(),
            json: config.json().into(),
            rpc: Arc::new(Self {
                throttle: config.retry_throttling().map(|found| throttles.of(found)),
                config,
            }),
        })
    }

    /// The service whose health is asked of each backend.
    pub(crate) fn health_service(&self) -> Option<Arc<str>> {
        self.config.health_check_service_name().cloned()
    }

    /// How many connections a SubConn may have.
    pub(crate) fn max_connections(&self) -> usize {
        self.config.max_connections_per_subchannel() as usize
    }

    /// What is said of RPCs to `path`.
    #[inline]
    pub(crate) fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method_config(path)
    }

    /// The budget for further attempts.
    #[inline]
    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }
}
