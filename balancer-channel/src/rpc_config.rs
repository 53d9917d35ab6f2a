//! What calls need of a service config.

use balancer_channel_core::ParsedConfig;
use balancer_registry::{MethodConfig, Registry, ServiceConfig, ServiceConfigError};
use std::sync::Arc;

/// A service config as calls use it.
#[derive(Debug)]
pub(crate) struct RpcConfig {
    config: ServiceConfig,
}

// === impl RpcConfig ===

impl RpcConfig {
    /// Parses `json`; policies come from `registry`.
    pub(crate) fn parse(
        json: &str,
        registry: &Registry,
    ) -> Result<ParsedConfig<Self>, ServiceConfigError> {
        let config = ServiceConfig::parse(json, registry)?;
        for warning in config.warnings() {
            tracing::warn!(%warning, "service config");
        }
        Ok(ParsedConfig {
            policy: config.resolve().policy().clone(),
            json: config.json().into(),
            rpc: Arc::new(Self { config }),
        })
    }

    /// What is said of RPCs to `path`.
    #[inline]
    pub(crate) fn method(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method_config(path)
    }
}
