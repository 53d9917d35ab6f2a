//! Policies that only have a name and a parser, and words for what tests ask.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod corpus;

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, ChildConfig, ClientConn, ConfigError, ConfigFields, LbConfig,
    ParseContext,
};
use balancer_registry::{Registry, ServiceConfig, ServiceConfigError};

/// A policy without configuration.
pub(crate) struct Plain(pub(crate) &'static str);

/// A policy with the field `choiceCount`, at least 2.
pub(crate) struct Counting(pub(crate) &'static str);

/// What [`Counting`] parses.
#[derive(Debug)]
pub(crate) struct CountingConfig(pub(crate) Option<u32>);

/// A policy with children, in the field `childPolicy`.
pub(crate) struct Nest(pub(crate) &'static str);

/// What [`Nest`] parses.
#[derive(Debug)]
pub(crate) struct NestConfig(pub(crate) Option<ChildConfig>);

/// A policy whose parser panics.
pub(crate) struct Panicking(pub(crate) &'static str);

/// A registry of the first four, `round_robin`, `least_request`, `nest` and `pick_first`.
pub(crate) fn registry() -> Registry {
    let registry = Registry::new();
    let all: [Arc<dyn Builder>; 4] = [
        Arc::new(Plain("round_robin")),
        Arc::new(Plain("pick_first")),
        Arc::new(Counting("least_request")),
        Arc::new(Nest("nest")),
    ];
    for builder in all {
        let replaced = registry.register(builder).expect("a good name");
        assert!(replaced.is_none(), "each name is registered once");
    }
    registry
}

/// Parses with the policies of [`registry`].
pub(crate) fn parse(json: impl AsRef<[u8]>) -> Result<ServiceConfig, ServiceConfigError> {
    ServiceConfig::parse(json, &registry())
}

/// A config that must be right.
pub(crate) fn accept(json: impl AsRef<[u8]>) -> ServiceConfig {
    let text = String::from_utf8_lossy(json.as_ref()).into_owned();
    parse(json).unwrap_or_else(|error| panic!("{text} must be accepted: {error}"))
}

/// The errors of a config that must be wrong, as (path, value, rule).
pub(crate) fn refuse(json: impl AsRef<[u8]>) -> Vec<(String, String, String)> {
    let text: String = String::from_utf8_lossy(json.as_ref())
        .chars()
        .take(300)
        .collect();
    match parse(json) {
        Ok(config) => panic!("{text} must be refused, but is {config:?}"),
        Err(error) => error
            .errors()
            .iter()
            .map(|error| {
                (
                    error.path().into(),
                    error.value().into(),
                    error.rule().into(),
                )
            })
            .collect(),
    }
}

/// The one error of a config that must be wrong.
pub(crate) fn refuse_once(json: impl AsRef<[u8]>) -> (String, String, String) {
    let mut errors = refuse(json);
    assert_eq!(errors.len(), 1, "must have one error: {errors:?}");
    errors.remove(0)
}

/// The warnings of a config that must be right, as they read.
pub(crate) fn warnings(json: impl AsRef<[u8]>) -> Vec<String> {
    accept(json)
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn nothing_to_build() -> Box<dyn Balancer> {
    unreachable!("these tests build no balancer")
}

impl Builder for Plain {
    fn name(&self) -> &str {
        self.0
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        nothing_to_build()
    }
}

impl Builder for Counting {
    fn name(&self) -> &str {
        self.0
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        nothing_to_build()
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut fields = ConfigFields::parse(json)?;
        let count = fields.u32("choiceCount", 2..=u32::MAX)?;
        fields.finish(cx);
        Ok(LbConfig::new(json, CountingConfig(count)))
    }
}

impl Builder for Nest {
    fn name(&self) -> &str {
        self.0
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        nothing_to_build()
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut fields = ConfigFields::parse(json)?;
        let child = fields.child_policy("childPolicy", cx)?;
        fields.finish(cx);
        Ok(LbConfig::new(json, NestConfig(child)))
    }
}

impl Builder for Panicking {
    fn name(&self) -> &str {
        self.0
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        nothing_to_build()
    }

    fn parse_config(&self, json: &str, _: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        panic!("cannot stand {json}")
    }
}
