//! Load-balancing policies by name, and the gRPC service config.
//!
//! - A [`Registry`] finds the builder of a policy by its name. The channel and the command line
//!   put the policies that come with them into it; an application adds its own.
//! - A [`ServiceConfig`] is the JSON by which a resolver, or the application, says which policy
//!   balances a channel's load and how its RPCs are to be treated.
//!
//! ```
//! # use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
//! # use std::sync::Arc;
//! # struct RoundRobin;
//! # impl Builder for RoundRobin {
//! #     fn name(&self) -> &str { "round_robin" }
//! #     fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> { unreachable!() }
//! # }
//! use balancer_registry::{Registry, ServiceConfig};
//!
//! let registry = Registry::new();
//! registry.register(Arc::new(RoundRobin))?;
//!
//! let config = ServiceConfig::parse(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#, &registry)?;
//! let builder = config.resolve().builder();
//! assert_eq!(builder.name(), "round_robin");
//!
//! let error = ServiceConfig::parse(r#"{"loadBalancingConfig":[{"rount_robin":{}}]}"#, &registry);
//! assert_eq!(
//!     error.unwrap_err().to_string(),
//!     "invalid service config: loadBalancingConfig: [{\"rount_robin\":{}}]: none of these \
//!      policies is registered: rount_robin (registered: round_robin)",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The choice of a policy
//! `loadBalancingConfig` is a list of objects with one policy each; the first whose name is
//! registered decides, and if its configuration is invalid, the whole config is. Without the list,
//! the deprecated `loadBalancingPolicy` counts; without either, it is `pick_first`.
//! [`ServiceConfig::resolve`] explains the choice.
//!
//! # What is deliberately not here
//! No policy: they are registered from outside. No channel: when a config is used, kept or refused
//! is its affair. No JSON library: a config is untrusted, and its errors need the text, so the
//! crate reads it itself, in one pass and without recursion.

#![forbid(unsafe_code)]

mod attempts;
mod cache;
mod contain;
mod error;
mod fields;
mod json;
mod limits;
mod method_config;
mod path;
mod policy;
mod registration;
mod registry;
mod report;
mod resolution;
mod resolver;
mod service_config;
mod shape;
mod throttling;
mod txt;

pub use attempts::{Attempts, CodeSet, HedgingPolicy, RetryPolicy};
pub use error::ServiceConfigError;
pub use limits::Limits;
pub use method_config::MethodConfig;
pub use registration::{Registration, RegistrationError};
pub use registry::Registry;
pub use resolution::{PolicySource, Resolution, SkippedPolicy};
pub use service_config::{DEFAULT_POLICY, ServiceConfig};
pub use throttling::RetryThrottling;
pub use txt::{TxtChoices, TxtClient, parse_txt_choices};
