//! How a channel is described.

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::{Builder, Dialer, Endpoint, TransportCredentials};
use balancer_channel_core::{Backoff, Core, Resolver, Settings};
use balancer_registry::{Limits, Registry, ServiceConfigError};
use http::{HeaderValue, uri::Authority};

use crate::{
    CallCredentials, Channel, Target, TargetError,
    env::{CallRules, TokioEnv},
    ledger::Ledger,
    policies,
    proxy::{HttpProxy, HttpProxyError, ProxyEnv},
    resolver::{DnsResolver, FixedResolver},
    rpc_config::ConfigParser,
    runtime,
    target::{Kind, Scheme as TargetScheme},
    transport::{
        Connector, H2Options, KeepaliveOptions, ReplayBody, ReplayBudget, Security, Spawn,
        TlsConfig, TlsConfigError, USER_TIMEOUT,
    },
};

/// Describes a channel; [`build`](Self::build) makes it.
///
/// One thing has to be said: how connections are secured. There is no default that could be
/// plaintext by accident.
#[must_use = "a description is not a channel"]
pub struct ChannelBuilder {
    target: String,
    security: Option<Chosen>,
    default_service_config: Option<String>,
    fixed_policy: Option<String>,
    registry: Option<Registry>,
    policies: Vec<Arc<dyn Builder>>,
    resolver: Option<Arc<dyn Resolver>>,
    ignore_resolver_config: bool,
    authority: Option<String>,
    user_agent: Option<String>,
    dialer: Option<Arc<dyn Dialer>>,
    keepalive: Option<KeepaliveOptions>,
    backoff: Backoff,
    min_connect_timeout: Option<Duration>,
    max_queued_rpcs: Option<usize>,
    max_endpoints: Option<usize>,
    min_resolution_interval: Duration,
    warm_up: Option<Duration>,
    health_checks: bool,
    limits: Limits,
    max_connecting: usize,
    max_header_list: u32,
    user_timeout: Option<Duration>,
    proxy: Option<HttpProxy>,
    proxy_from_env: bool,
    txt_service_config: bool,
    refresh_dns: bool,
    idle_timeout: Option<Duration>,
    replay_budget: usize,
    rules: CallRules,
}

/// No peer is pinged more often (gRFC A8).
const MIN_KEEPALIVE: Duration = Duration::from_secs(10);

/// As in other gRPCs.
const MAX_RESPONSE_MESSAGE: u32 = 4 << 20;

/// How connections are to be secured.
#[derive(Debug)]
enum Chosen {
    Plaintext,
    Tls(TlsConfig),
    Custom(Arc<dyn TransportCredentials>),
}

/// Why a channel could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The target is malformed.
    Target(TargetError),
    /// Neither TLS nor plaintext nor other credentials were chosen.
    NoSecurity,
    /// The target's scheme says one thing, the credentials another.
    SecurityMismatch {
        /// The target's scheme.
        scheme: &'static str,
        /// What was chosen.
        chosen: &'static str,
    },
    /// Call credentials were given, and connections were chosen to be plaintext.
    CallCredentialsOnPlaintext,
    /// The default service config is invalid.
    ServiceConfig(ServiceConfigError),
    /// A policy cannot be registered.
    Policy(String),
    /// The TLS configuration is unusable.
    Tls(TlsConfigError),
    /// The authority is malformed.
    Authority(String),
    /// The environment's proxy is unusable.
    Proxy(HttpProxyError),
    /// The user agent is malformed.
    UserAgent(String),
    /// A setting is out of range.
    Setting {
        /// The builder's method.
        name: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        rule: &'static str,
    },
    /// There is no tokio runtime here to run the channel on.
    NoRuntime,
    /// The tokio runtime lacks what the channel needs of it.
    RuntimeWithout {
        /// `timers` or `I/O`.
        what: &'static str,
        /// The method of the runtime's builder that gives it.
        enable: &'static str,
    },
}

// === impl ChannelBuilder ===

impl ChannelBuilder {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            security: None,
            default_service_config: None,
            fixed_policy: None,
            registry: None,
            policies: Vec::new(),
            resolver: None,
            ignore_resolver_config: false,
            authority: None,
            user_agent: None,
            dialer: None,
            keepalive: None,
            backoff: Backoff::default(),
            min_connect_timeout: None,
            max_queued_rpcs: None,
            max_endpoints: None,
            min_resolution_interval: Duration::from_secs(30),
            warm_up: None,
            health_checks: true,
            limits: Limits::default(),
            max_connecting: 64,
            max_header_list: 16 << 10,
            user_timeout: Some(USER_TIMEOUT),
            proxy: None,
            proxy_from_env: false,
            txt_service_config: false,
            refresh_dns: false,
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            replay_budget: ReplayBudget::DEFAULT_MAX,
            rules: CallRules {
                replay_limit: ReplayBody::DEFAULT_LIMIT,
                max_request_message: None,
                max_response_message: MAX_RESPONSE_MESSAGE,
                credentials: None,
                retries: true,
            },
        }
    }

    /// Connections are readable and forgeable by whoever is on the path.
    pub fn plaintext(mut self) -> Self {
        self.security = Some(Chosen::Plaintext);
        self
    }

    /// Connections are secured by TLS. The certificate's name is checked against the authority.
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.security = Some(Chosen::Tls(config));
        self
    }

    /// Connections are secured by credentials of the application's own.
    pub fn credentials(mut self, credentials: Arc<dyn TransportCredentials>) -> Self {
        self.security = Some(Chosen::Custom(credentials));
        self
    }

    /// Authenticates every RPC; see [`CallCredentials`].
    pub fn call_credentials(mut self, credentials: Arc<dyn CallCredentials>) -> Self {
        self.rules.credentials = Some(credentials);
        self
    }

    /// How large a message of a request may be, in bytes on the wire: of any size, unless a service
    /// config allows less. A larger one ends its RPC with RESOURCE_EXHAUSTED and is not sent.
    pub fn max_request_message_bytes(mut self, max: u32) -> Self {
        self.rules.max_request_message = Some(max);
        self
    }

    /// How large a message of a response may be, in bytes on the wire: 4 MiB, or less where a service
    /// config says so. A larger one ends its RPC with RESOURCE_EXHAUSTED; `u32::MAX` is no limit. tonic's
    /// generated clients have a limit of their own beside it, 4 MiB, too, unless told otherwise.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), balancer_channel::BuildError> {
    /// let channel = balancer_channel::Channel::builder("dns:///greeter.prod:50051")
    ///     .plaintext()
    ///     .max_response_message_bytes(64 << 20)
    ///     .build()?;
    /// // let client = GreeterClient::new(channel).max_decoding_message_size(64 << 20);
    /// # Ok(()) }
    /// ```
    pub fn max_response_message_bytes(mut self, max: u32) -> Self {
        self.rules.max_response_message = max;
        self
    }

    /// The service config while the resolver gives none, as JSON: which policy balances the load,
    /// time-outs and retries by method.
    pub fn default_service_config(mut self, json: impl Into<String>) -> Self {
        self.default_service_config = Some(json.into());
        self
    }

    /// A policy, by name and without configuration, that no service config can change: what one says of
    /// load balancing is not even looked at.
    pub fn fixed_policy(mut self, name: impl Into<String>) -> Self {
        self.fixed_policy = Some(name.into());
        self
    }

    /// Where policies are found by name; [`Registry::global`] by default.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Registers a policy for this channel alone.
    pub fn policy(mut self, builder: Arc<dyn Builder>) -> Self {
        self.policies.push(builder);
        self
    }

    /// Where endpoints come from, in place of what the target's scheme says.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Ignores service configs that the resolver brings.
    pub fn ignore_resolver_service_config(mut self) -> Self {
        self.ignore_resolver_config = true;
        self
    }

    /// The `:authority` of requests and the name that certificates are checked against, in place of
    /// the target's.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Goes before the channel's own name in `user-agent`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Opens byte streams, in place of TCP and unix sockets.
    pub fn dialer(mut self, dialer: Arc<dyn Dialer>) -> Self {
        self.dialer = Some(dialer);
        self
    }

    /// Connects through an HTTP proxy (gRFC A1). The proxy resolves the name of a `dns:` target. Takes
    /// the place of a [`dialer`](Self::dialer).
    pub fn http_proxy(mut self, proxy: HttpProxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Connects to a `dns:` target through the HTTP proxy that the environment names, if it names
    /// one: the first of `grpc_proxy`, `https_proxy`, `HTTPS_PROXY` and `http_proxy`, unless
    /// `no_grpc_proxy`, `no_proxy` or `NO_PROXY` exempts the host. Not read unless this is called.
    pub fn http_proxy_from_env(mut self) -> Self {
        self.proxy_from_env = true;
        self
    }

    /// Pings a silent peer every `time` while RPCs are in flight (also without any, if
    /// `without_calls`), and gives the connection up when nothing comes back within `timeout`
    /// (gRFC A8). Off by default. A shorter `time` than 10 s counts as 10 s: a server may take more
    /// pings for an attack.
    pub fn keepalive(mut self, time: Duration, timeout: Duration, without_calls: bool) -> Self {
        self.keepalive = Some(KeepaliveOptions {
            time: time.max(MIN_KEEPALIVE),
            timeout,
            without_streams: without_calls,
        });
        self
    }

    /// The back-off between attempts to connect: 1 s, growing by 1.6 to 120 s, ± 20 %; from one first dial
    /// to the next.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long connecting to a SubConn's addresses may take at least: 20 s. Of a channel's attempts 64
    /// run at once, not counting those older than a second; waiting for a turn is no part of this time.
    pub fn min_connect_timeout(mut self, timeout: Duration) -> Self {
        self.min_connect_timeout = Some(timeout);
        self
    }

    /// How many RPCs may wait for a connection: 100,000. More fail with RESOURCE_EXHAUSTED.
    pub fn max_queued_rpcs(mut self, max: usize) -> Self {
        self.max_queued_rpcs = Some(max);
        self
    }

    /// How many endpoints a resolver may give: 10,000. A longer list is refused.
    pub fn max_endpoints(mut self, max: usize) -> Self {
        self.max_endpoints = Some(max);
        self
    }

    /// How many bytes of its request an RPC remembers, so that it can be sent again: 256 KiB; and
    /// how many all RPCs of the channel do together: 16 MiB, requests of up to 16 KiB not counted.
    /// What is larger can be sent once only.
    pub fn replay_buffer(mut self, per_rpc: usize, per_channel: usize) -> Self {
        self.rules.replay_limit = per_rpc;
        self.replay_budget = per_channel;
        self
    }

    /// Whether `retryPolicy` and `hedgingPolicy` of service configs are heeded. On by default; off, each
    /// RPC is one attempt, whatever a config says. What no server's application has seen is sent again
    /// all the same (the transparent retries of gRFC A6).
    pub fn retries(mut self, on: bool) -> Self {
        self.rules.retries = on;
        self
    }

    /// How long DNS is not asked again after it has answered: 30 s.
    pub fn min_resolution_interval(mut self, interval: Duration) -> Self {
        self.min_resolution_interval = interval;
        self
    }

    /// Holds the first RPCs until every backend has been tried once, or for `wait` from the first
    /// connection on, so that a burst at the start does not all go to whoever connected first.
    pub fn warm_up(mut self, wait: Duration) -> Self {
        self.warm_up = Some(wait);
        self
    }

    /// After so long without an RPC the channel falls asleep, as by [`Channel::enter_idle`]; `None`
    /// and zero: never. 30 minutes by default. RPCs that wait or are in flight hold it awake, calls of policies
    /// do not. It may take a sixteenth longer.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Whether a `dns:` target's service config is looked for in the TXT records of
    /// `_grpc_config.` and the host (gRFC A2). Off by default: whoever can forge an answer could
    /// choose the config.
    pub fn txt_service_config(mut self, on: bool) -> Self {
        self.txt_service_config = on;
        self
    }

    /// Whether DNS is asked again when its answer's time to live is over, up to a tenth later and
    /// not before [`min_resolution_interval`](Self::min_resolution_interval). Off by default, as in
    /// every gRPC: then it is asked again only when a connection is lost or cannot be made, and
    /// backends that were added are not heard of before. Resolvers of one's own take part by
    /// [`Resolution::valid_for`](crate::Resolution::valid_for).
    pub fn refresh_dns(mut self, on: bool) -> Self {
        self.refresh_dns = on;
        self
    }

    /// Whether backends are asked for their health (gRFC A17) where the service config names a
    /// service and the policy takes such news, as `round_robin` does. On by default: a connected
    /// backend counts as READY only while its `grpc.health.v1.Health/Watch` says SERVING; one without
    /// that method counts as healthy.
    pub fn health_checks(mut self, on: bool) -> Self {
        self.health_checks = on;
        self
    }

    /// How many connections a service config may allow a SubConn (gRFC A105): 10; 1 turns it off. A
    /// config that asks for more gets this many, and a warning.
    ///
    /// A SubConn has one connection, unless the service config says
    /// `"connectionScaling": {"maxConnectionsPerSubchannel": n}`. Then another one is dialled when an
    /// RPC waits for a stream and the server allows no more on those that there are
    /// (MAX_CONCURRENT_STREAMS): one at a time, to the same address, and with the back-off of every
    /// attempt. RPCs take the first stream that any of them has, the oldest first; while one is left
    /// the backend counts as READY, and no RPC fails because another went. A config that comes later
    /// counts at once; one that allows fewer closes none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), balancer_channel::BuildError> {
    /// let channel = balancer_channel::Channel::builder("dns:///greeter.prod:50051")
    ///     .plaintext()
    ///     .default_service_config(r#"{"connectionScaling": {"maxConnectionsPerSubchannel": 4}}"#)
    ///     .max_connections_per_subchannel(4)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn max_connections_per_subchannel(mut self, max: u32) -> Self {
        self.limits.max_connections_per_subchannel = max;
        self
    }

    /// How many attempts to connect run at once: 64, at least 1. Those older than a second are not counted,
    /// so that addresses which swallow everything hold nobody up.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let none = balancer_channel::Channel::builder("dns:///greeter.prod:50051")
    ///     .plaintext()
    ///     .max_concurrent_connects(0);
    /// let error = none.build().unwrap_err().to_string();
    /// assert_eq!(error, "max_concurrent_connects is 0: it must be at least 1");
    /// # }
    /// ```
    pub fn max_concurrent_connects(mut self, max: usize) -> Self {
        self.max_connecting = max;
        self
    }

    /// How large the headers of a response may be, as HTTP/2 counts them (32 bytes for each beside name
    /// and value): 16 KiB; from 1 KiB to 16 MiB. A server is told so. Larger ones fail their RPC; of
    /// trailers the rest is left out.
    pub fn max_header_list_bytes(mut self, max: u32) -> Self {
        self.max_header_list = max;
        self
    }

    /// How long TCP may wait for an acknowledgement before a connection counts as lost
    /// (`TCP_USER_TIMEOUT`, gRFC A18): 20 s, in whole milliseconds; from 1 ms to 24 days. `None`: what
    /// the system does, which may take a quarter of an hour. Linux, Android and Fuchsia only; sockets of
    /// a [`dialer`](Self::dialer) of the application's are left alone.
    pub fn tcp_user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = timeout.into();
        self
    }

    /// How large and deep service configs may be, and what they may ask for, those of the application
    /// itself included. Takes the place of what
    /// [`max_connections_per_subchannel`](Self::max_connections_per_subchannel) said before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use balancer_channel::{Channel, Limits};
    /// let mut limits = Limits::default();
    /// limits.max_bytes = 30;
    /// let error = Channel::builder("dns:///greeter.prod:50051")
    ///     .plaintext()
    ///     .service_config_limits(limits)
    ///     .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
    ///     .build()
    ///     .unwrap_err()
    ///     .to_string();
    /// assert!(error.contains("30 bytes"), "{error}");
    /// # }
    /// ```
    pub fn service_config_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether numbers and times are such that the channel can work with them.
    fn check_settings(&self) -> Result<(), BuildError> {
        const MOST_HEADERS: u32 = 16 << 20;
        // What the system takes, in milliseconds.
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
        let check = |good: bool, name, value: &dyn fmt::Debug, rule| match good {
            true => Ok(()),
            false => Err(BuildError::Setting {
                name,
                value: format!("{value:?}"),
                rule,
            }),
        };
        check(
            self.max_connecting > 0,
            "max_concurrent_connects",
            &self.max_connecting,
            "at least 1",
        )?;
        check(
            (1 << 10..=MOST_HEADERS).contains(&self.max_header_list),
            "max_header_list_bytes",
            &self.max_header_list,
            "from 1024 (1 KiB) to 16777216 (16 MiB)",
        )?;
        let Some(timeout) = self.user_timeout else {
            return Ok(());
        };
        check(
            (Duration::from_millis(1)..=LONGEST).contains(&timeout),
            "tcp_user_timeout",
            &timeout,
            "from 1 ms to 24 days, or None",
        )
    }

    /// Makes the channel. It does nothing before its first RPC or [`Channel::connect`].
    ///
    /// It runs on the tokio runtime that it is built within. That needs timers, and I/O unless byte
    /// streams come from a [`dialer`](Self::dialer).
    ///
    /// # Errors
    /// See [`BuildError`]; each says what is wrong with which setting.
    ///
    /// # Panics
    /// Never. A runtime without timers or I/O makes tokio panic, which is caught here; a panic hook may
    /// still print it.
    pub fn build(self) -> Result<Channel, BuildError> {
        self.check_settings()?;
        let target: Target = self.target.parse().map_err(BuildError::Target)?;
        let security = self.security.ok_or(BuildError::NoSecurity)?;
        check_scheme(target.scheme(), &security)?;
        if matches!(security, Chosen::Plaintext) && self.rules.credentials.is_some() {
            return Err(BuildError::CallCredentialsOnPlaintext);
        }
        let handle = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let asks_dns = self.resolver.is_none() && matches!(target.kind(), Kind::Dns { .. });
        let proxied = self.proxy.is_some() || self.proxy_from_env;
        runtime::check(self.dialer.is_none() || asks_dns || proxied)?;

        let authority = self.authority.as_deref().unwrap_or(target.authority());
        let authority: Authority = authority
            .parse()
            .map_err(|_| BuildError::Authority(authority.to_owned()))?;
        let own = concat!("balancer-channel/", env!("CARGO_PKG_VERSION"));
        let user_agent = match &self.user_agent {
            Some(first) => HeaderValue::try_from(format!("{first} {own}"))
                .map_err(|_| BuildError::UserAgent(first.clone()))?,
            None => HeaderValue::from_static(own),
        };

        let registry = self.registry.unwrap_or_else(|| {
            policies::register_shipped(Registry::global());
            Registry::global().clone()
        });
        let registry = Registry::layered_over(&registry);
        for policy in self.policies {
            let registered = registry.register(policy);
            registered.map_err(|error| BuildError::Policy(error.to_string()))?;
        }
        let json = self.default_service_config.as_deref().unwrap_or("{}");
        let mut configs = ConfigParser::new(registry, self.limits);
        let fixed_policy = self.fixed_policy.map(|name| configs.fix_policy(&name));
        let fixed_policy = fixed_policy
            .transpose()
            .map_err(BuildError::ServiceConfig)?;
        let default_config = configs.parse(json).map_err(BuildError::ServiceConfig)?;

        let host = match target.kind() {
            Kind::Dns { host, port, .. } => Some((host, *port)),
            Kind::Fixed(_) => None,
        };
        let mut proxy = self.proxy;
        if let (None, true, Some((host, _))) = (&proxy, self.proxy_from_env, host) {
            proxy = ProxyEnv::read().for_host(host).map_err(BuildError::Proxy)?;
        }
        let resolver = self.resolver.unwrap_or_else(|| match target.kind() {
            Kind::Dns { host, port, .. } if proxy.is_some() => {
                let unresolved = match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                };
                Arc::new(FixedResolver(vec![Endpoint::from(unresolved.as_str())]))
            }
            Kind::Dns {
                host, port, server, ..
            } => {
                let dns = DnsResolver::new(host, *port, *server, self.min_resolution_interval);
                Arc::new(dns.with_txt(self.txt_service_config && host != "localhost"))
            }
            Kind::Fixed(endpoints) => Arc::new(FixedResolver(endpoints.clone())),
        });

        let mut settings = Settings::new(
            target.as_str(),
            authority.as_str(),
            resolver,
            default_config,
        );
        settings.fixed_policy = fixed_policy;
        settings.ignore_resolver_config = self.ignore_resolver_config;
        settings.backoff = self.backoff;
        settings.warm_up = self.warm_up;
        settings.health_checks = self.health_checks;
        settings.refresh = self.refresh_dns;
        settings.idle_timeout = self.idle_timeout;
        let dialer = match proxy {
            Some(proxy) => {
                let proxy = proxy.with_user_timeout(self.user_timeout);
                Some(Arc::new(proxy) as Arc<dyn Dialer>)
            }
            None => self.dialer,
        };
        settings.dialer = dialer.clone();
        if let Some(timeout) = self.min_connect_timeout {
            settings.min_connect_timeout = timeout;
        }
        settings.max_connecting = self.max_connecting;
        if let Some(max) = self.max_queued_rpcs {
            settings.max_waiting = max;
        }
        if let Some(max) = self.max_endpoints {
            settings.max_endpoints = max;
        }

        let ledger = Ledger::new(&handle);
        let security = match security {
            Chosen::Plaintext => Security::Plaintext,
            Chosen::Tls(config) => {
                let client = config.client().map_err(BuildError::Tls)?;
                settings.dial_creds = Some(Arc::new(client.for_others()));
                Security::Tls(client)
            }
            Chosen::Custom(credentials) => {
                settings.dial_creds = Some(credentials.clone());
                Security::Custom(credentials)
            }
        };
        let connector = Connector {
            security,
            dialer,
            user_timeout: self.user_timeout,
            authority,
            user_agent,
            options: H2Options {
                keepalive: self.keepalive,
                max_header_list_size: self.max_header_list,
                ..H2Options::default()
            },
            replay: ReplayBudget::new(self.replay_budget),
            spawn: Spawn {
                tasks: ledger.tasks.clone(),
                runtime: handle.clone(),
                #[cfg(test)]
                kept: Arc::default(),
            },
            sockets: ledger.sockets.clone(),
        };
        let env = TokioEnv::new(handle, ledger, connector, configs, self.rules);
        Ok(Channel::new(Core::new(Arc::new(env), settings)))
    }
}

fn check_scheme(scheme: Option<TargetScheme>, security: &Chosen) -> Result<(), BuildError> {
    match (scheme, matches!(security, Chosen::Plaintext)) {
        (Some(TargetScheme::Http), false) => Err(BuildError::SecurityMismatch {
            scheme: "http",
            chosen: "secured connections",
        }),
        (Some(TargetScheme::Https), true) => Err(BuildError::SecurityMismatch {
            scheme: "https",
            chosen: "plaintext",
        }),
        _ => Ok(()),
    }
}

impl fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("target", &self.target)
            .field("security", &self.security)
            .field("default_service_config", &self.default_service_config)
            .finish_non_exhaustive()
    }
}

// === impl BuildError ===

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::NoSecurity => f.write_str(
                "no transport security was chosen: call tls(..), credentials(..), or, where nothing \
                 has to be protected, plaintext()",
            ),
            Self::SecurityMismatch { scheme, chosen } => {
                write!(f, "the target's scheme is {scheme} but {chosen} were chosen")
            }
            Self::CallCredentialsOnPlaintext => f.write_str(
                "call credentials would be sent in plaintext: call tls(..) or credentials(..)",
            ),
            Self::ServiceConfig(error) => write!(f, "default service config: {error}"),
            Self::Policy(error) => write!(f, "policy: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Authority(text) => write!(f, "authority {text:?} is not host or host:port"),
            Self::Proxy(error) => error.fmt(f),
            Self::UserAgent(text) => write!(f, "user agent {text:?} is not a header value"),
            Self::Setting { name, value, rule } => {
                write!(f, "{name} is {value}: it must be {rule}")
            }
            Self::NoRuntime => f.write_str("a channel must be built within a tokio runtime"),
            Self::RuntimeWithout { what, enable } => write!(
                f,
                "the tokio runtime has no {what}: call {enable}() or enable_all() on its builder"
            ),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target(error) => Some(error),
            Self::ServiceConfig(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Proxy(error) => Some(error),
            _ => None,
        }
    }
}
