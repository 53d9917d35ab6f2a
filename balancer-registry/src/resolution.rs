//! Which policy a service config chose, and why.

use std::{fmt, sync::Arc};

use balancer_api::{Builder, ChildConfig, LbConfig};

/// The policy that a [`ServiceConfig`](crate::ServiceConfig) chose, ready to be built, and the
/// explanation of the choice.
///
/// `Debug` shows names and reasons, not the configuration.
///
/// ```
/// # use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
/// # use std::sync::Arc;
/// # struct Fake;
/// # impl Builder for Fake {
/// #     fn name(&self) -> &str { "round_robin" }
/// #     fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> { unreachable!() }
/// # }
/// # let registry = balancer_registry::Registry::new();
/// # registry.register(Arc::new(Fake)).unwrap();
/// use balancer_registry::ServiceConfig;
/// let json = r#"{"loadBalancingConfig":[{"xds":{}},{"round_robin":{}},{"pick_first":{}}]}"#;
/// let config = ServiceConfig::parse(json, &registry)?;
/// let choice = config.resolve();
/// assert_eq!(choice.name(), "round_robin");
/// assert_eq!(choice.source().to_string(), "loadBalancingConfig[1]");
/// assert_eq!(choice.skipped()[0].to_string(), "xds: not registered");
/// assert_eq!(choice.skipped()[1].to_string(), "pick_first: not parsed: round_robin before it was chosen");
/// # Ok::<(), balancer_registry::ServiceConfigError>(())
/// ```
#[derive(Clone)]
pub struct Resolution {
    policy: ChildConfig,
    name: Arc<str>,
    json: Box<str>,
    source: PolicySource,
    skipped: Box<[SkippedPolicy]>,
}

/// Which part of a service config chose the policy.
///
/// ```
/// use balancer_registry::PolicySource;
/// assert_eq!(PolicySource::LoadBalancingConfig(2).to_string(), "loadBalancingConfig[2]");
/// assert_eq!(PolicySource::LoadBalancingPolicy.to_string(), "loadBalancingPolicy");
/// assert_eq!(PolicySource::Default.to_string(), "default");
/// assert_eq!(PolicySource::Fixed.to_string(), "fixed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicySource {
    /// This entry of `loadBalancingConfig`.
    LoadBalancingConfig(usize),
    /// The deprecated `loadBalancingPolicy`.
    LoadBalancingPolicy,
    /// None: the default policy, `pick_first`, is used.
    Default,
    /// None: the application has fixed the policy.
    Fixed,
}

/// A policy that a service config names and that was not chosen.
///
/// ```
/// # use balancer_registry::SkippedPolicy;
/// fn explain(skipped: &SkippedPolicy) -> String {
///     format!("{} was not chosen: {}", skipped.name(), skipped.reason())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedPolicy {
    name: String,
    reason: String,
}

// === impl Resolution ===

impl Resolution {
    pub(crate) fn new(
        policy: ChildConfig,
        name: Arc<str>,
        json: impl Into<Box<str>>,
        source: PolicySource,
        skipped: Vec<SkippedPolicy>,
    ) -> Self {
        Self {
            policy,
            name,
            json: json.into(),
            source,
            skipped: skipped.into(),
        }
    }

    /// The same choice, made by the application.
    pub(crate) fn fixed(self) -> Self {
        Self {
            source: PolicySource::Fixed,
            skipped: Box::default(),
            ..self
        }
    }

    pub(crate) fn skip(&mut self, skipped: SkippedPolicy) {
        self.skipped = Box::new([skipped]);
    }

    /// The chosen policy with its configuration, as a channel builds it.
    pub fn policy(&self) -> &ChildConfig {
        &self.policy
    }

    /// Makes the chosen policy's balancers.
    pub fn builder(&self) -> &Arc<dyn Builder> {
        self.policy.builder()
    }

    /// The chosen policy's configuration, to hand to its balancer with each resolver result. `None`
    /// for the default policy.
    pub fn config(&self) -> Option<&LbConfig> {
        self.policy.config()
    }

    /// The name that the chosen policy is registered under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chosen policy's configuration as its parser got it: equal JSON is equal text here.
    pub fn config_json(&self) -> &str {
        &self.json
    }

    /// What chose it.
    pub fn source(&self) -> PolicySource {
        self.source
    }

    /// The others that were named, in their order, each with the reason.
    pub fn skipped(&self) -> &[SkippedPolicy] {
        &self.skipped
    }
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolution")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

// === impl PolicySource ===

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadBalancingConfig(index) => write!(f, "loadBalancingConfig[{index}]"),
            Self::LoadBalancingPolicy => f.write_str("loadBalancingPolicy"),
            Self::Default => f.write_str("default"),
            Self::Fixed => f.write_str("fixed"),
        }
    }
}

// === impl SkippedPolicy ===

impl SkippedPolicy {
    pub(crate) fn new(name: String, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { name, reason }
    }

    /// Its name in the service config, escaped and cut to 256 characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it was not chosen.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for SkippedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}
