//! The builder that turns a `PickerBuilder` into a policy.

use std::{fmt, sync::Arc, time::Duration};

use super::{PickerBuilder, balancer::BaseBalancer};
use crate::{
    Balancer, BuildOptions, Builder, ClientConn, ConfigError, HealthReporting, LbConfig,
    NewSubConnOptions, ParseContext, Reconnect,
};

type Parser =
    dyn Fn(&str, &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> + Send + Sync + 'static;

/// A [`Builder`] of a policy on the [base](super).
///
/// SubConns reconnect when the base asks ([`Reconnect::WhenAsked`], which it does at once) and race
/// an endpoint's addresses 250 ms apart (gRFC A61), unless said otherwise.
pub struct BaseBuilder<F> {
    name: Arc<str>,
    description: Arc<str>,
    make: F,
    parser: Option<Box<Parser>>,
    options: NewSubConnOptions,
}

// === impl BaseBuilder ===

impl<F> BaseBuilder<F> {
    /// A policy called `name` in a service config, with a picker builder from `make` for each
    /// channel.
    pub fn new<P>(name: impl Into<Arc<str>>, make: F) -> Self
    where
        F: Fn() -> P + Send + Sync,
        P: PickerBuilder + 'static,
    {
        Self {
            name: name.into(),
            description: "".into(),
            make,
            parser: None,
            options: NewSubConnOptions::new()
                .with_reconnect(Reconnect::WhenAsked)
                .with_attempt_delay(Some(Duration::from_millis(250))),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<Arc<str>>) -> Self {
        self.description = description.into();
        self
    }

    /// How the policy's configuration is parsed; see [`Builder::parse_config`].
    #[must_use]
    pub fn with_config_parser(
        mut self,
        parser: impl Fn(&str, &mut ParseContext<'_>) -> Result<LbConfig, ConfigError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.parser = Some(Box::new(parser));
        self
    }

    /// What a SubConn does after a loss. The policy behaves the same either way.
    #[must_use]
    pub fn with_reconnect(mut self, reconnect: Reconnect) -> Self {
        self.options.reconnect = reconnect;
        self
    }

    /// See [`NewSubConnOptions::attempt_delay`].
    #[must_use]
    pub fn with_attempt_delay(mut self, delay: Option<Duration>) -> Self {
        self.options.attempt_delay = delay;
        self
    }

    /// See [`NewSubConnOptions::health`].
    #[must_use]
    pub fn with_health(mut self, health: HealthReporting) -> Self {
        self.options.health = health;
        self
    }
}

impl<F, P> Builder for BaseBuilder<F>
where
    F: Fn() -> P + Send + Sync,
    P: PickerBuilder + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(BaseBalancer::new(cc, (self.make)(), self.options.clone()))
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        match &self.parser {
            Some(parser) => parser(json, cx),
            None => {
                if !matches!(json.trim(), "" | "{}" | "null") {
                    cx.warn("", "this policy takes no configuration; it is ignored");
                }
                Ok(LbConfig::new(json, ()))
            }
        }
    }
}

impl<F> fmt::Debug for BaseBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseBuilder")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
