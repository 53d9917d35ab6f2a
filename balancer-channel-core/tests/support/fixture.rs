//! A channel, its world, and a policy called "a".

use std::{sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, Endpoint, ResolveError};
use balancer_channel_core::{
    ConnectivityStates, Core, ManualResolver, Resolution, Resolver, Settings,
};
use futures_util::{FutureExt, StreamExt};

use super::{Answer, Log, Puppet, Rpc, Sim, SimEnv, Wire, puppet::PuppetBuilder};

/// Everything of one test.
pub(crate) struct Fixture {
    pub(crate) sim: Arc<Sim>,
    pub(crate) env: Arc<SimEnv>,
    pub(crate) log: Log,
    pub(crate) resolver: ManualResolver,
    /// The default policy.
    pub(crate) a: Arc<Puppet>,
    pub(crate) core: Core<SimEnv>,
}

/// What a channel has that somebody must give back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ledger {
    tasks: usize,
    timers: usize,
    dials: usize,
    connections: usize,
}

/// Endpoints of one address each.
pub(crate) fn endpoints(names: &str) -> Vec<Endpoint> {
    names.split_whitespace().map(Endpoint::from).collect()
}

impl Fixture {
    /// A channel whose resolver knows `names`.
    pub(crate) fn new(names: &str) -> Self {
        Self::with(names, |_| {})
    }

    pub(crate) fn with(names: &str, adjust: impl FnOnce(&mut Settings<String>)) -> Self {
        let resolver = ManualResolver::new(endpoints(names));
        Self::build(Sim::new(1), resolver.clone(), Arc::new(resolver), adjust)
    }

    /// A channel whose resolver has not answered yet.
    pub(crate) fn unresolved() -> Self {
        Self::unresolved_with(|_| {})
    }

    pub(crate) fn unresolved_with(adjust: impl FnOnce(&mut Settings<String>)) -> Self {
        let resolver = ManualResolver::silent();
        Self::build(Sim::new(1), resolver.clone(), Arc::new(resolver), adjust)
    }

    /// A channel whose tasks run in an order that `seed` chooses.
    pub(crate) fn shuffled(seed: u64, names: &str) -> Self {
        let resolver = ManualResolver::new(endpoints(names));
        let sim = Sim::shuffled(seed);
        Self::build(sim, resolver.clone(), Arc::new(resolver), |_| {})
    }

    /// A channel with a resolver of the test's own.
    pub(crate) fn resolved_by(resolver: Arc<dyn Resolver>) -> Self {
        Self::build(Sim::new(1), ManualResolver::silent(), resolver, |_| {})
    }

    fn build(
        sim: Arc<Sim>,
        resolver: ManualResolver,
        given: Arc<dyn Resolver>,
        adjust: impl FnOnce(&mut Settings<String>),
    ) -> Self {
        let log = Log::default();
        let env = SimEnv::new(sim.clone(), &log);
        let a = Puppet::new("a", &log);
        env.register(Arc::new(PuppetBuilder(a.clone())));
        let default = env.config("a").expect("the default");
        let mut settings = Settings::new("sim:///backends", "backends", given, default);
        // Its looks would be sleepers of every test.
        settings.idle_timeout = None;
        adjust(&mut settings);
        // Leaks: looked for when the fixture is dropped.
        let core = Core::new(env.clone(), settings);
        sim.run();
        Self {
            sim,
            env,
            log,
            resolver,
            a,
            core,
        }
    }

    /// Another policy.
    pub(crate) fn policy(&self, name: &'static str) -> Arc<Puppet> {
        let puppet = Puppet::new(name, &self.log);
        self.env.register(Arc::new(PuppetBuilder(puppet.clone())));
        puppet
    }

    /// Somebody wants connections; everything happens that can happen at once.
    pub(crate) fn connect(&self) -> &Self {
        self.core.connect();
        self.run()
    }

    pub(crate) fn run(&self) -> &Self {
        self.sim.run();
        self
    }

    pub(crate) fn pass(&self, seconds: f64) -> &Self {
        self.sim.advance(Duration::from_secs_f64(seconds));
        self
    }

    pub(crate) fn resolve(&self, names: &str) -> &Self {
        self.resolver.set_endpoints(endpoints(names));
        self.run()
    }

    pub(crate) fn resolve_with(&self, names: &str, config: &str) -> &Self {
        let resolution = Resolution::new(endpoints(names)).with_service_config(config);
        self.resolver.update(Ok(resolution));
        self.run()
    }

    pub(crate) fn resolve_error(&self, message: &str) -> &Self {
        self.resolver.update(Err(ResolveError::new(message)));
        self.run()
    }

    pub(crate) fn answer(&self, address: &str, answer: Answer) -> &Self {
        self.env.net.set(address, answer);
        self.run()
    }

    pub(crate) fn wire(&self, address: &str) -> Wire {
        self.env.net.wire(address)
    }

    /// As [`answer`](Self::answer), but for dials to come only: nothing runs now.
    pub(crate) fn answer_later(&self, address: &str, answer: Answer) {
        self.env.net.set(address, answer);
    }

    /// The connection to `address` is lost.
    pub(crate) fn lose(&self, address: &str) -> &Self {
        self.wire(address).lose("reset");
        self.run()
    }

    /// Starts an RPC and lets it go as far as it can.
    pub(crate) fn rpc(&self) -> Rpc {
        self.start(false, false)
    }

    pub(crate) fn wait_for_ready(&self) -> Rpc {
        self.start(true, false)
    }

    pub(crate) fn open_rpc(&self) -> Rpc {
        self.start(false, true)
    }

    /// Starts an RPC that has not run yet.
    pub(crate) fn start_rpc(&self) -> Rpc {
        Rpc::start(&self.env, &self.core, false, false)
    }

    fn start(&self, wait_for_ready: bool, open: bool) -> Rpc {
        let rpc = Rpc::start(&self.env, &self.core, wait_for_ready, open);
        self.run();
        rpc
    }

    pub(crate) fn state(&self) -> State {
        self.core.state(false)
    }

    /// The policy's part of the log since this was last asked.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut lines = self.log.take();
        lines.retain(|line| line.contains(": "));
        lines
    }
}

/// The states that a watcher has not read yet.
pub(crate) fn unread(states: &mut ConnectivityStates) -> Vec<State> {
    std::iter::from_fn(|| states.next().now_or_never().flatten()).collect()
}

/// After every test: the channel is closed, and nothing of it is left.
impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has said already what is wrong.
            return;
        }
        leaves_nothing(&self.core, &self.sim, &self.env);
    }
}

/// Closes a channel.
///
/// # Panics
/// When something of it is left.
pub(crate) fn leaves_nothing(core: &Core<SimEnv>, sim: &Arc<Sim>, env: &SimEnv) {
    core.close();
    sim.run();
    let ledger = Ledger {
        tasks: sim.tasks(),
        timers: sim.sleepers(),
        dials: env.net.dials().0,
        connections: env.net.held(),
    };
    assert_eq!(ledger, Ledger::default(), "left behind by the channel");
}
