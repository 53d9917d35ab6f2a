//! What calls need of a service config.

use balancer_api::ChildConfig;
use balancer_channel_core::ParsedConfig;
use balancer_registry::{
    Limits, MethodConfig, Registry, Resolution, ServiceConfig, ServiceConfigError,
};
use std::sync::Arc;

use crate::call::{Throttle, Throttles};

/// Reads the service configs of one channel.
#[derive(Debug)]
pub(crate) struct ConfigParser {
    /// Where policies come from.
    registry: Registry,
    limits: Limits,
    /// Where the counts of failures are kept from one config to the next.
    throttles: Throttles,
    /// The policy, where no config may choose it.
    fixed: Option<Resolution>,
}

/// A service config as calls use it.
#[derive(Debug)]
pub(crate) struct RpcConfig {
    config: ServiceConfig,
    throttle: Option<Arc<Throttle>>,
}

// === impl ConfigParser ===

impl ConfigParser {
    pub(crate) fn new(registry: Registry, limits: Limits) -> Self {
        Self {
            registry,
            limits,
            throttles: Throttles::default(),
            fixed: None,
        }
    }

    /// Decides the policy, whatever configs say from now on.
    ///
    /// # Errors
    /// Nobody has registered it.
    pub(crate) fn fix_policy(&mut self, name: &str) -> Result<ChildConfig, ServiceConfigError> {
        let name = json_string(name);
        let json = format!(r#"{{"loadBalancingConfig":[{{{name}:{{}}}}]}}"#);
        let config = ServiceConfig::parse_with(json, &self.registry, &self.limits)?;
        let fixed = self.fixed.insert(config.resolve().clone());
        Ok(fixed.policy().clone())
    }

    pub(crate) fn parse(&self, json: &str) -> Result<ParsedConfig<RpcConfig>, ServiceConfigError> {
        let config = match &self.fixed {
            None => ServiceConfig::parse_with(json, &self.registry, &self.limits)?,
            Some(fixed) => {
                ServiceConfig::parse_with_policy(json, &self.registry, &self.limits, fixed)?
            }
        };
        for warning in config.warnings() {
            tracing::warn!(%warning, "service config");
        }
        let throttle = config.retry_throttling();
        Ok(ParsedConfig {
            policy: config.resolve().policy().clone(),
            json: config.json().into(),
            rpc: Arc::new(RpcConfig {
                throttle: throttle.map(|found| self.throttles.of(found)),
                config,
            }),
        })
    }
}

// === impl RpcConfig ===

impl RpcConfig {
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

/// A string as JSON writes it.
fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
