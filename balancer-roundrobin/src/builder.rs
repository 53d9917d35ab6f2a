//! The builder: `round_robin` is the api's base with a rotation on top.

use std::{fmt, sync::Arc};

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, ConfigError, HealthReporting, LbConfig,
    ParseContext, base::BaseBuilder,
};

use crate::rotation::Rotation;

/// The policy's name in a service config.
pub const NAME: &str = "round_robin";

/// Makes balancers that send each RPC to the next READY backend in turn.
///
/// ```
/// use balancer_api::Builder;
/// use balancer_roundrobin::RoundRobin;
///
/// let builder = RoundRobin::new();
/// assert_eq!(builder.name(), "round_robin");
/// ```
pub struct RoundRobin {
    base: BaseBuilder<fn() -> Rotation>,
}

/// A builder ready to be registered.
///
/// ```
/// assert_eq!(balancer_roundrobin::builder().name(), "round_robin");
/// ```
pub fn builder() -> Arc<dyn Builder> {
    Arc::new(RoundRobin::new())
}

// === impl RoundRobin ===

impl RoundRobin {
    /// A builder of the policy; it has nothing to set.
    pub fn new() -> Self {
        let make: fn() -> Rotation = Rotation::default;
        let base = BaseBuilder::new(NAME, make)
            .with_description("each RPC to the next READY backend in turn")
            .with_health(HealthReporting::On);
        Self { base }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder for RoundRobin {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> &str {
        self.base.description()
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        self.base.build(cc, options)
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        self.base.parse_config(json, cx)
    }
}

impl fmt::Debug for RoundRobin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundRobin")
    }
}
