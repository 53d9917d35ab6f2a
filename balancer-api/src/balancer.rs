//! Balancers: policies at work, and the builders that make them.

use std::{fmt, sync::Arc};

use crate::{
    Attributes, CallEvent, CallId, ClientConn, ConfigError, Dialer, Endpoint, LbConfig,
    ParseContext, Rejected, ResolveError, SubConn, SubConnState, TimerId, TransportCredentials,
};

/// Makes balancers of one policy.
///
/// A builder is registered under its [`name`](Self::name) and serves every channel of a process;
/// what belongs to one channel lives in the [`Balancer`] that it builds.
///
/// # Threads
/// Any thread, many at once.
///
/// # Panics
/// A panic in [`build`](Self::build) or [`parse_config`](Self::parse_config) is contained by
/// channel and registry: the policy counts as panicked, the config as invalid.
pub trait Builder: Send + Sync {
    /// The policy's name in a service config, such as `round_robin`. Not empty, always the same.
    fn name(&self) -> &str;

    /// One line for people.
    fn description(&self) -> &str {
        ""
    }

    /// Makes a balancer for the channel `cc`.
    ///
    /// The balancer may call `cc` from here on, also during `build`; no callback comes before
    /// `build` has returned, and [`Balancer::settle`] follows it.
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer>;

    /// Parses the policy's part of a service config: the JSON value beside its name.
    ///
    /// Unknown fields are ignored (say so with [`ParseContext::warn`]); a known field with a bad
    /// value makes the whole service config invalid. The result comes back to the balancer in
    /// [`ResolvedAddrs::config`]. By default any JSON is accepted and nothing kept, with a warning
    /// when there was something in it. [`ConfigFields`](crate::ConfigFields) reads the JSON.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the field, its value and the rule.
    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        if !matches!(json.trim(), "" | "{}" | "null") {
            cx.warn("", "this policy takes no configuration; it is ignored");
        }
        Ok(LbConfig::new(json, ()))
    }
}

/// A load-balancing policy at work for one channel.
///
/// It learns through these callbacks and acts through its [`ClientConn`]: it makes a SubConn for
/// each endpoint, watches their states, and publishes a [`Picker`](crate::Picker) whenever the
/// choice changes. Most policies need not write this trait: see [`base`](crate::base).
///
/// # Calls
/// One caller, one call at a time, never from within a call to [`ClientConn`]; nothing before
/// `build` returned and nothing once [`close`](Self::close) began. A run of callbacks (at most 128
/// events) ends with one [`settle`](Self::settle).
///
/// # Blocking
/// Callbacks run on the channel's own task: they must not block and need no lock.
///
/// # Panics
/// A panic is contained. RPCs of this channel fail INTERNAL, the policy is dropped, rebuilt after
/// the connection back-off and given the last resolver result. What the panicking callback had
/// asked of the ClientConn does not happen.
pub trait Balancer: Send {
    /// `sub_conn` has a new state.
    ///
    /// SubConns that the policy does not know (removed ones among them) are to be ignored.
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>);

    /// The resolver has a result, or could not get one.
    ///
    /// - A list: make SubConns for new endpoints and [`connect`](SubConn::connect) them, remove
    ///   those of endpoints that are gone (before `settle` has published they must be out of the
    ///   picker), keep the rest. The same list again changes nothing.
    /// - An error, before any good list: report TRANSIENT_FAILURE with it. After one: go on as
    ///   before; only in TRANSIENT_FAILURE, show it in the picker's message.
    /// - An empty list: remove everything, report TRANSIENT_FAILURE, answer [`Rejected`].
    ///
    /// # Errors
    /// [`Rejected`] makes the resolver back off and resolve again.
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected>;

    /// The policy is over. It need not remove its SubConns, cancel its timers or calls: the channel
    /// does. Its pickers stay callable. From here on it asks for nothing: no callback follows, and
    /// one that came late all the same must find it silent.
    fn close(&mut self);

    /// A timer of [`ClientConn::set_timer`] is due. Never for one that was cancelled.
    fn handle_timer(&mut self, id: TimerId) {
        let _ = id;
    }

    /// Something happened on a call of [`ClientConn::start_call`].
    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let _ = (id, event);
    }

    /// An RPC waits or the application asked to connect, while the policy reported IDLE: connect.
    fn exit_idle(&mut self) {}

    /// A run of callbacks is over: build a picker if something changed, and publish it.
    ///
    /// Publishing here rather than in each callback makes a burst of a thousand state changes cost
    /// one picker. Also called after build, [`ClientConn::wake`], a timer, a call event and
    /// [`exit_idle`](Self::exit_idle); never after close.
    fn settle(&mut self) {}
}

/// What a balancer is told of its channel when it is built.
///
/// ```
/// use balancer_api::BuildOptions;
/// let options = BuildOptions::new("dns:///greeter.prod:50051").with_authority("greeter.prod");
/// assert_eq!(&*options.authority, "greeter.prod");
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    /// The channel's transport credentials, to dial a remote balancer with. `None`: plaintext.
    pub dial_creds: Option<Arc<dyn TransportCredentials>>,
    /// The channel's dialer, where the application gave one.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// The target that the application gave.
    pub target: Arc<str>,
    /// The `:authority` of the channel's RPCs.
    pub authority: Arc<str>,
    /// The policy's configuration, where it is known by now; it comes again with each resolver
    /// result. A composite can build its children from it at once.
    pub config: Option<LbConfig>,
}

/// What a resolver found.
///
/// ```
/// use balancer_api::{Endpoint, ResolvedAddrs};
/// let resolved = ResolvedAddrs::new(["127.0.0.1:1", "127.0.0.1:2"].map(Endpoint::from));
/// assert_eq!(resolved.endpoints.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ResolvedAddrs {
    /// The backends, in the resolver's order. May hold duplicates.
    pub endpoints: Arc<[Endpoint]>,
    /// The policy's parsed configuration; `None` where the service config has none for it.
    pub config: Option<LbConfig>,
    /// What the resolver says of the whole result.
    pub attributes: Attributes,
    /// Where the result comes from or why it is empty, for error messages.
    pub note: Option<Arc<str>>,
}

// === impl Builder ===

impl<B: Builder + ?Sized> Builder for Arc<B> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn description(&self) -> &str {
        (**self).description()
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        (**self).build(cc, options)
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        (**self).parse_config(json, cx)
    }
}

// === impl BuildOptions ===

impl BuildOptions {
    /// Options for a channel to `target`, with the target as authority and nothing else.
    pub fn new(target: impl Into<Arc<str>>) -> Self {
        let target = target.into();
        Self {
            dial_creds: None,
            dialer: None,
            authority: target.clone(),
            target,
            config: None,
        }
    }

    /// Sets [`authority`](Self::authority).
    #[must_use]
    pub fn with_authority(mut self, authority: impl Into<Arc<str>>) -> Self {
        self.authority = authority.into();
        self
    }

    /// Sets [`config`](Self::config).
    #[must_use]
    pub fn with_config(mut self, config: Option<LbConfig>) -> Self {
        self.config = config;
        self
    }

    /// Sets [`dial_creds`](Self::dial_creds).
    #[must_use]
    pub fn with_dial_creds(mut self, credentials: Option<Arc<dyn TransportCredentials>>) -> Self {
        self.dial_creds = credentials;
        self
    }

    /// Sets [`dialer`](Self::dialer).
    #[must_use]
    pub fn with_dialer(mut self, dialer: Option<Arc<dyn Dialer>>) -> Self {
        self.dialer = dialer;
        self
    }
}

impl fmt::Debug for BuildOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildOptions")
            .field("target", &self.target)
            .field("authority", &self.authority)
            .field("dial_creds", &self.dial_creds)
            .field("dialer", &self.dialer.as_ref().map(|_| "custom"))
            .finish()
    }
}

// === impl ResolvedAddrs ===

impl ResolvedAddrs {
    /// A result of `endpoints`, without configuration, attributes or note.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Sets [`config`](Self::config). A composite gives each child its own this way.
    #[must_use]
    pub fn with_config(mut self, config: Option<LbConfig>) -> Self {
        self.config = config;
        self
    }

    /// Sets [`endpoints`](Self::endpoints). A composite gives a child a part of the list this way.
    #[must_use]
    pub fn with_endpoints(mut self, endpoints: impl Into<Arc<[Endpoint]>>) -> Self {
        self.endpoints = endpoints.into();
        self
    }

    /// Sets [`attributes`](Self::attributes).
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets [`note`](Self::note).
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Arc<str>>) -> Self {
        self.note = Some(note.into());
        self
    }
}
