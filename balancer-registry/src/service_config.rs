//! The gRPC service config, parsed once.

use std::{fmt, sync::Arc};

use balancer_api::{ChildConfig, ConfigError, ConfigWarning, ParseContext};

use crate::{
    Limits, MethodConfig, PolicySource, Registry, Resolution, RetryThrottling, ServiceConfigError,
    SkippedPolicy,
    fields::{Fields, Unknown},
    json,
    method_config::Methods,
    path::{Path, shown},
    policy,
    report::Report,
    resolver::Resolver,
    shape::{CONNECTION_SCALING, HEALTH_CHECK, TOP},
};

/// The policy of a service config that names none.
pub const DEFAULT_POLICY: &str = "pick_first";

/// A service config: which policy balances the load, and how RPCs are to be treated.
///
/// It is parsed and validated once for each resolver result; afterwards nobody checks again. Share
/// it in an `Arc`. Unknown fields are warned of and ignored, a known field with a bad value makes
/// the whole config invalid (gRFC A21), and so does a key given twice.
///
/// The text may come from an attacker: [`Limits`] bound it, parsing takes time in proportion to its
/// length, and no text makes it panic or overflow the stack.
///
/// `Debug` tells the policy and some numbers and shows none of the text.
///
/// ```
/// # use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
/// # use std::{sync::Arc, time::Duration};
/// # struct Fake;
/// # impl Builder for Fake {
/// #     fn name(&self) -> &str { "round_robin" }
/// #     fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> { unreachable!() }
/// # }
/// # let registry = balancer_registry::Registry::new();
/// # registry.register(Arc::new(Fake)).unwrap();
/// use balancer_registry::ServiceConfig;
/// let config = ServiceConfig::parse(
///     r#"{
///         "loadBalancingConfig": [{"round_robin": {}}],
///         "methodConfig": [
///             {"name": [{"service": "greeter.Greeter"}], "timeout": "1.5s"},
///             {"name": [{}], "waitForReady": true}
///         ]
///     }"#,
///     &registry,
/// )?;
/// assert_eq!(config.resolve().name(), "round_robin");
/// let method = config.method_config("/greeter.Greeter/SayHello");
/// assert_eq!(method.and_then(|m| m.timeout), Some(Duration::from_millis(1500)));
/// assert_eq!(config.method_config("/other.Service/Call").and_then(|m| m.wait_for_ready), Some(true));
/// # Ok::<(), balancer_registry::ServiceConfigError>(())
/// ```
pub struct ServiceConfig {
    json: Box<str>,
    resolution: Resolution,
    methods: Methods,
    retry_throttling: Option<RetryThrottling>,
    health_check_service_name: Option<Arc<str>>,
    max_connections_per_subchannel: u32,
    warnings: Vec<ConfigWarning>,
}

const LIST: &str = "loadBalancingConfig";
const LEGACY: &str = "loadBalancingPolicy";

// === impl ServiceConfig ===

impl ServiceConfig {
    /// Parses a service config with the default [`Limits`]; policies come from `registry`.
    ///
    /// The text may be bytes from anywhere. Equal configuration of the same policy gives the same
    /// [`LbConfig`](balancer_api::LbConfig) as the last time, until a registration changes.
    ///
    /// # Errors
    /// What is wrong, each with its path, the value and the rule.
    ///
    /// # Panics
    /// Not even if a policy's parser does: that makes the config invalid. (With `panic = "abort"`
    /// nothing can contain it.)
    ///
    /// # Blocking
    /// Some milliseconds at worst; not for the path of an RPC.
    pub fn parse(json: impl AsRef<[u8]>, registry: &Registry) -> Result<Self, ServiceConfigError> {
        Self::parse_with(json, registry, &Limits::default())
    }

    /// As [`parse`](Self::parse), with other limits.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(
        json: impl AsRef<[u8]>,
        registry: &Registry,
        limits: &Limits,
    ) -> Result<Self, ServiceConfigError> {
        Self::parse_as(json.as_ref(), registry, limits, None)
    }

    /// As [`parse_with`](Self::parse_with), where the policy is decided already: what the config says
    /// of load balancing is not looked at, be it right or wrong. A warning says so.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but none of a policy.
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
    /// use balancer_registry::{Limits, PolicySource, ServiceConfig};
    /// let ours = ServiceConfig::parse(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#, &registry)?;
    /// let theirs = r#"{"loadBalancingConfig":[{"xds":{}}],"retryThrottling":{"maxTokens":10,"tokenRatio":1}}"#;
    /// let config =
    ///     ServiceConfig::parse_with_policy(theirs, &registry, &Limits::default(), ours.resolve())?;
    /// assert_eq!(config.resolve().name(), "round_robin");
    /// assert_eq!(config.resolve().source(), PolicySource::Fixed);
    /// assert!(config.retry_throttling().is_some());
    /// # Ok::<(), balancer_registry::ServiceConfigError>(())
    /// ```
    pub fn parse_with_policy(
        json: impl AsRef<[u8]>,
        registry: &Registry,
        limits: &Limits,
        policy: &Resolution,
    ) -> Result<Self, ServiceConfigError> {
        Self::parse_as(json.as_ref(), registry, limits, Some(policy))
    }

    fn parse_as(
        json: &[u8],
        registry: &Registry,
        limits: &Limits,
        fixed: Option<&Resolution>,
    ) -> Result<Self, ServiceConfigError> {
        let mut report = Report::new(limits);
        let draft = read(json, registry, limits, fixed, &mut report);
        let warnings = report.finish()?;
        draft
            .map(|draft| Self { warnings, ..draft })
            .ok_or_else(|| {
                debug_assert!(false, "a config that cannot be read has an error");
                ServiceConfigError::internal()
            })
    }

    /// Which policy runs, with which configuration, and why the others that are named do not.
    pub fn resolve(&self) -> &Resolution {
        &self.resolution
    }

    /// What is said of RPCs to the method at `path`, such as `/greeter.Greeter/SayHello`: the
    /// method's own entry, else its service's, else the default one.
    ///
    /// # Blocking
    /// Made for the path of every RPC: no lock, no allocation, at most two look-ups by hash.
    pub fn method_config(&self, path: &str) -> Option<&MethodConfig> {
        self.methods.get(path)
    }

    /// The budget for retries.
    pub fn retry_throttling(&self) -> Option<RetryThrottling> {
        self.retry_throttling
    }

    /// The service whose health is asked of each backend (gRFC A17). `None`: no health is asked;
    /// the empty name is that of the whole server.
    pub fn health_check_service_name(&self) -> Option<&Arc<str>> {
        self.health_check_service_name.as_ref()
    }

    /// How many connections a SubConn may have (gRFC A105): 1 unless the config says more, at most
    /// [`Limits::max_connections_per_subchannel`].
    pub fn max_connections_per_subchannel(&self) -> u32 {
        self.max_connections_per_subchannel
    }

    /// What is accepted but probably not meant.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// The text that it was parsed from. May be private to its owner: not for logs.
    pub fn json(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for ServiceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceConfig")
            .field("bytes", &self.json.len())
            .field("policy", &self.resolution)
            .field("method_names", &self.methods.len())
            .field("retry_throttling", &self.retry_throttling)
            .field("warnings", &self.warnings.len())
            .finish_non_exhaustive()
    }
}

/// Reads everything, and reports what is wrong. `None` only with an error in the report.
fn read(
    bytes: &[u8],
    registry: &Registry,
    limits: &Limits,
    fixed: Option<&Resolution>,
    report: &mut Report,
) -> Option<ServiceConfig> {
    let doc = json::scan(bytes, limits, report)?;
    let unknown = Unknown::Warn(registry);
    let top = Fields::read(doc.root(), &Path::Root, &TOP, &unknown, report)?;
    let resolution = match fixed {
        Some(fixed) => Some(keep_policy(&top, fixed, report)),
        None => read_policy(&top, registry, limits, report),
    };
    let methods = Methods::read(&top, limits, &unknown, report);
    let retry_throttling = RetryThrottling::read(&top, &unknown, report);
    let health_check_service_name = read_health_check(&top, &unknown, report);
    let max_connections_per_subchannel = read_scaling(&top, limits, &unknown, report);
    Some(ServiceConfig {
        json: doc.text().into(),
        resolution: resolution?,
        methods,
        retry_throttling,
        health_check_service_name,
        max_connections_per_subchannel,
        warnings: Vec::new(),
    })
}

fn keep_policy(top: &Fields<'_, '_>, fixed: &Resolution, report: &mut Report) -> Resolution {
    for field in [LIST, LEGACY] {
        if top.value(field).is_some() {
            top.warn(field, report, || {
                format!("is ignored: the policy is fixed, {}", fixed.name())
            });
        }
    }
    fixed.clone().fixed()
}

fn read_policy(
    top: &Fields<'_, '_>,
    registry: &Registry,
    limits: &Limits,
    report: &mut Report,
) -> Option<Resolution> {
    let legacy = top.string(LEGACY, report);
    if legacy.is_none() && top.value(LEGACY).is_some() {
        return None;
    }
    let resolver = Resolver::new(registry, limits);
    let mut cx = ParseContext::new(&resolver, 0);
    let resolution = match (top.value(LIST), legacy) {
        (Some(list), legacy) => {
            let chosen = policy::choose(list, &resolver, &mut cx, limits.max_skipped);
            if let Some(name) = legacy {
                top.warn(LEGACY, report, || {
                    format!("{} is ignored: there is a {LIST}", shown(&name))
                });
            }
            chosen.map_err(|error| error.within(LIST)).map(|chosen| {
                if chosen.more_skipped > 0 {
                    let message = format!(
                        "{} more skipped policies are not listed",
                        chosen.more_skipped
                    );
                    top.warn(LIST, report, || message);
                }
                Resolution::new(
                    chosen.policy,
                    chosen.name,
                    chosen.json,
                    PolicySource::LoadBalancingConfig(chosen.index),
                    chosen.skipped,
                )
            })
        }
        (None, Some(name)) => legacy_policy(&name, LEGACY, &resolver, &mut cx),
        (None, None) => default_policy(LIST, registry),
    };
    let within = if top.value(LIST).is_some() { LIST } else { "" };
    for warning in cx.take_warnings() {
        report.warn_with(|| warning.within(within));
    }
    resolution.map_err(|error| report.error_with(|| error)).ok()
}

/// The policy of the deprecated field, whose values other clients write `ROUND_ROBIN`.
fn legacy_policy(
    name: &str,
    field: &str,
    resolver: &Resolver<'_>,
    cx: &mut ParseContext<'_>,
) -> Result<Resolution, ConfigError> {
    let registry = resolver.registry;
    let found = registry
        .find_exactly(name)
        .or_else(|| registry.find(&name.to_ascii_lowercase()));
    let Some(found) = found else {
        cx.warn(
            field,
            format!(
                "{} is not registered; {DEFAULT_POLICY} is used",
                shown(name)
            ),
        );
        let mut resolution = default_policy(field, registry)?;
        resolution.skip(SkippedPolicy::new(shown(name), "not registered"));
        return Ok(resolution);
    };
    // As if the list said so: the policy learns its defaults from its own parser.
    let json = "{}";
    let config = policy::parse(&found, json, resolver, cx, field)?;
    Ok(Resolution::new(
        ChildConfig::new(found.builder, Some(config)),
        found.name,
        json,
        PolicySource::LoadBalancingPolicy,
        Vec::new(),
    ))
}

fn default_policy(field: &str, registry: &Registry) -> Result<Resolution, ConfigError> {
    let found = registry.find(DEFAULT_POLICY).ok_or_else(|| {
        let rule =
            format!("no policy is chosen and the default, {DEFAULT_POLICY}, is not registered");
        ConfigError::new(field, "", rule)
    })?;
    Ok(Resolution::new(
        ChildConfig::new(found.builder, None),
        found.name,
        "{}",
        PolicySource::Default,
        Vec::new(),
    ))
}

fn read_health_check(
    top: &Fields<'_, '_>,
    unknown: &Unknown<'_>,
    report: &mut Report,
) -> Option<Arc<str>> {
    let value = top.value("healthCheckConfig")?;
    let path = Path::Key(&Path::Root, "healthCheckConfig");
    let fields = Fields::read(value, &path, &HEALTH_CHECK, unknown, report)?;
    let name = fields.string("serviceName", report)?;
    Some(Arc::from(&*name))
}

fn read_scaling(
    top: &Fields<'_, '_>,
    limits: &Limits,
    unknown: &Unknown<'_>,
    report: &mut Report,
) -> u32 {
    const NAME: &str = "maxConnectionsPerSubchannel";
    let path = Path::Key(&Path::Root, "connectionScaling");
    let asked = top.value("connectionScaling").and_then(|value| {
        let fields = Fields::read(value, &path, &CONNECTION_SCALING, unknown, report)?;
        let asked = fields.u32(NAME, 0..=u32::MAX, report)?;
        let allowed = limits.max_connections_per_subchannel.max(1);
        let used = asked.clamp(1, allowed);
        if used != asked {
            fields.warn(NAME, report, || {
                format!("{asked} is outside of 1 to {allowed}; {used} is used")
            });
        }
        Some(used)
    });
    asked.unwrap_or(1)
}
