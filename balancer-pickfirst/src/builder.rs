//! The builder and the policy's configuration.

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, ConfigError, ConfigFields, LbConfig, ParseContext,
};

use crate::balancer::PickFirstBalancer;

/// The policy's name in a service config.
pub const NAME: &str = "pick_first";

/// Makes balancers that send every RPC to the first backend that connects.
///
/// ```
/// use balancer_api::Builder;
/// use balancer_pickfirst::PickFirst;
///
/// let builder = PickFirst::new();
/// assert_eq!(builder.name(), "pick_first");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PickFirst;

/// The policy's configuration. A composite that configures its child itself makes one and puts it
/// into an [`LbConfig`]; everybody else writes JSON.
///
/// ```
/// use balancer_api::LbConfig;
/// use balancer_pickfirst::PickFirstConfig;
///
/// let config = PickFirstConfig::new().with_shuffle_address_list(true);
/// let config = LbConfig::new(r#"{"shuffleAddressList":true}"#, config);
/// assert!(config.downcast_ref::<PickFirstConfig>().is_some());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PickFirstConfig {
    /// `shuffleAddressList`: whether the endpoints of a result are put in random order. The
    /// addresses within an endpoint keep theirs.
    pub shuffle_address_list: bool,
}

/// A builder ready to be registered.
///
/// ```
/// assert_eq!(balancer_pickfirst::builder().name(), "pick_first");
/// ```
pub fn builder() -> Arc<dyn Builder> {
    Arc::new(PickFirst::new())
}

// === impl PickFirst ===

impl PickFirst {
    /// A builder of the policy; it has nothing to set.
    pub const fn new() -> Self {
        Self
    }
}

impl Builder for PickFirst {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> &str {
        "every RPC to the first backend that connects"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(PickFirstBalancer::new(cc))
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut fields = ConfigFields::parse(json)?;
        let shuffle = fields.bool("shuffleAddressList")?.unwrap_or(false);
        fields.finish(cx);
        let config = PickFirstConfig::new().with_shuffle_address_list(shuffle);
        Ok(LbConfig::new(json, config))
    }
}

// === impl PickFirstConfig ===

impl PickFirstConfig {
    /// The defaults: the resolver's order.
    pub const fn new() -> Self {
        Self {
            shuffle_address_list: false,
        }
    }

    /// Sets [`shuffle_address_list`](Self::shuffle_address_list).
    #[must_use]
    pub const fn with_shuffle_address_list(mut self, shuffle: bool) -> Self {
        self.shuffle_address_list = shuffle;
        self
    }
}
