//! What the suite asks of a channel, and of the world around it.

use std::{sync::Arc, time::Duration};

use balancer_api::{Builder, Code, ConnectivityState, Status};

/// Makes a channel of the policies that it may use.
pub type MakeChannel = dyn Fn(Vec<Arc<dyn Builder>>) -> Box<dyn ChannelUnderTest> + Send + Sync;

/// A channel in a world that a test moves by hand: what an author of a ClientConn writes to run
/// [`ChannelSuite`](super::ChannelSuite) over it.
///
/// The world has a clock that stands still but for [`advance`](Self::advance), a resolver that says
/// what [`resolve`](Self::resolve) said last, and peers by address. A peer that was never set takes
/// connections and answers.
///
/// # Made
/// With the policies that the channel may use. The first is used while no service config says
/// otherwise. The channel keeps gRPC's back-off, and wants connections from the start: it does not
/// wait for an RPC. The resolver is silent until [`resolve`](Self::resolve).
///
/// # Time
/// Between two calls nothing happens but what other threads ask; news is only looked at in
/// [`run`](Self::run), [`advance`](Self::advance) and [`close`](Self::close).
pub trait ChannelUnderTest {
    /// The resolver has found this, or failed with a message.
    fn resolve(&mut self, answer: Result<Resolved, String>);

    /// From now on the peer at `address` is so; connections that it has stay, and RPCs that come
    /// on them are treated as `peer` says.
    fn set_peer(&mut self, address: &str, peer: Peer);

    /// The peer at `address` ends all its connections.
    fn end_connections(&mut self, address: &str, how: Ending);

    /// How many connections there are, to all peers.
    fn open_connections(&mut self) -> usize;

    /// Starts a unary RPC and answers its number. It need not do anything before the next
    /// [`run`](Self::run).
    fn start_rpc(&mut self, options: RpcOptions) -> usize;

    /// How an RPC ended: answered, or failed with a status. `None` while it has not.
    fn outcome(&mut self, rpc: usize) -> Option<Result<(), Status>>;

    /// The application gives an RPC up.
    fn cancel_rpc(&mut self, rpc: usize);

    /// Answers the channel's state whenever it is called, on any thread, during callbacks and picks
    /// as well.
    fn state_reader(&mut self) -> Arc<dyn Fn() -> ConnectivityState + Send + Sync>;

    /// Lets everything happen that can happen without time passing.
    fn run(&mut self);

    /// Lets time pass, and everything happen that is due on the way.
    fn advance(&mut self, by: Duration);

    /// Closes the channel; RPCs in flight are cancelled.
    fn close(&mut self);

    /// Whether it can do this. Laws that need what it cannot are skipped, and said to be.
    fn can(&self, ability: Ability) -> bool {
        let _ = ability;
        true
    }
}

/// What not every channel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// It sends RPCs itself: with deadlines, retries, and streams that end as a [`Peer`] says.
    Rpcs,
    /// It chooses among the policies of a service config, and lets them check their configs.
    ServiceConfigs,
    /// It makes calls for policies.
    Calls,
}

/// What a resolver found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Each an endpoint of its own.
    pub addresses: Vec<String>,
    /// The policies of a service config that came with it, the one preferred first, each with its
    /// config as JSON. `None`: there was no service config.
    pub policies: Option<Vec<(String, String)>>,
}

/// What somebody at an address does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// What it does with dials.
    pub dial: Dial,
    /// What it does with RPCs, a policy's calls among them.
    pub serve: Serve,
}

/// What becomes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Connected at once.
    Accept,
    /// Refused at once.
    Refuse,
    /// Neither, until the peer is set anew.
    Hang,
}

/// What becomes of an RPC that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Echoed at once, status OK.
    Answer,
    /// So, but after a while; nothing is sent before.
    AnswerAfter(Duration),
    /// There is no room for another stream (MAX_CONCURRENT_STREAMS): the RPC waits on its
    /// connection and has not left when that ends.
    NoStream,
    /// The stream is reset with REFUSED_STREAM.
    Refuse,
    /// Response headers, then a reset with REFUSED_STREAM: a server that is broken.
    BreakAfterHeaders,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// GOAWAY: no new streams, open ones go on to their end.
    Goaway,
    /// At once, and open streams with them.
    Reset,
}

/// An RPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcOptions {
    /// Whether it waits for ready.
    pub wait_for_ready: bool,
    /// How long it may take; zero is over before it begins.
    pub timeout: Option<Duration>,
    /// Starts it when somebody who watches the channel's states sees this one, and not before.
    pub when: Option<ConnectivityState>,
}

impl ChannelUnderTest for Box<dyn ChannelUnderTest> {
    fn resolve(&mut self, answer: Result<Resolved, String>) {
        (**self).resolve(answer);
    }

    fn set_peer(&mut self, address: &str, peer: Peer) {
        (**self).set_peer(address, peer);
    }

    fn end_connections(&mut self, address: &str, how: Ending) {
        (**self).end_connections(address, how);
    }

    fn open_connections(&mut self) -> usize {
        (**self).open_connections()
    }

    fn start_rpc(&mut self, options: RpcOptions) -> usize {
        (**self).start_rpc(options)
    }

    fn outcome(&mut self, rpc: usize) -> Option<Result<(), Status>> {
        (**self).outcome(rpc)
    }

    fn cancel_rpc(&mut self, rpc: usize) {
        (**self).cancel_rpc(rpc);
    }

    fn state_reader(&mut self) -> Arc<dyn Fn() -> ConnectivityState + Send + Sync> {
        (**self).state_reader()
    }

    fn run(&mut self) {
        (**self).run();
    }

    fn advance(&mut self, by: Duration) {
        (**self).advance(by);
    }

    fn close(&mut self) {
        (**self).close();
    }

    fn can(&self, ability: Ability) -> bool {
        (**self).can(ability)
    }
}

// === impl Resolved ===

impl Resolved {
    /// These addresses, and no service config.
    pub fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            addresses: addresses.into_iter().map(str::to_owned).collect(),
            policies: None,
        }
    }

    /// Adds a service config with these policies, each with its config as JSON.
    #[must_use]
    pub fn with_policies<'a>(
        mut self,
        policies: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let owned = |(name, json): (&str, &str)| (name.to_owned(), json.to_owned());
        self.policies = Some(policies.into_iter().map(owned).collect());
        self
    }

    /// The service config as JSON.
    ///
    /// ```
    /// use balancer_testkit::witness::Resolved;
    /// let found = Resolved::new(["a"]).with_policies([("x", "{}"), ("y", r#"{"n":1}"#)]);
    /// let json = r#"{"loadBalancingConfig":[{"x":{}},{"y":{"n":1}}]}"#;
    /// assert_eq!(found.service_config().as_deref(), Some(json));
    /// ```
    pub fn service_config(&self) -> Option<String> {
        let entries: Vec<String> = self
            .policies
            .as_ref()?
            .iter()
            .map(|(name, json)| format!("{{\"{name}\":{json}}}"))
            .collect();
        Some(format!(
            "{{\"loadBalancingConfig\":[{}]}}",
            entries.join(",")
        ))
    }
}

// === impl Peer ===

impl Peer {
    /// Takes connections and answers.
    pub const fn good() -> Self {
        Self::serving(Serve::Answer)
    }

    /// Refuses connections.
    pub const fn refusing() -> Self {
        Self {
            dial: Dial::Refuse,
            serve: Serve::Answer,
        }
    }

    /// Lets dials hang.
    pub const fn hanging() -> Self {
        Self {
            dial: Dial::Hang,
            serve: Serve::Answer,
        }
    }

    /// Takes connections, and treats RPCs so.
    pub const fn serving(serve: Serve) -> Self {
        Self {
            dial: Dial::Accept,
            serve,
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::good()
    }
}

// === impl RpcOptions ===

impl RpcOptions {
    /// Fails fast, has all the time, and starts now.
    pub const fn fail_fast() -> Self {
        Self {
            wait_for_ready: false,
            timeout: None,
            when: None,
        }
    }

    /// Waits for ready.
    pub const fn wait_for_ready() -> Self {
        Self {
            wait_for_ready: true,
            timeout: None,
            when: None,
        }
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets [`when`](Self::when).
    #[must_use]
    pub const fn with_when(mut self, state: ConnectivityState) -> Self {
        self.when = Some(state);
        self
    }
}

/// An outcome in words.
pub(super) fn words(outcome: &Option<Result<(), Status>>) -> String {
    match outcome {
        None => "has not ended".to_owned(),
        Some(Ok(())) => "was answered".to_owned(),
        Some(Err(status)) => format!("failed with {}: {}", status.code(), status.message()),
    }
}

/// Whether an outcome is a failure with that code and that text in it.
pub(super) fn failed(outcome: &Option<Result<(), Status>>, code: Code, text: &str) -> bool {
    matches!(outcome, Some(Err(status)) if status.code() == code && status.message().contains(text))
}
