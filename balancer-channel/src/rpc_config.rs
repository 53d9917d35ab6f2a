//! What calls need of a service config.

use balancer_channel_core::ParsedConfig;
use balancer_registry::{MethodConfig, Registry, ServiceConfig, ServiceConfigError};
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
    /// Parses `json`; policies come from `registry`, and the count of failures from `throttles`.
    pub(crate) fn parse(
        json: &str,
        registry: &Registry,
        throttles: &Throttles,
    ) -> Result<ParsedConfig<Self>, ServiceConfigError> {
        let config = ServiceConfig::parse(json, registry)?;
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
