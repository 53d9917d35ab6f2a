//! Lets a world happen and holds it against the laws.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use balancer_api::{Builder, Code, ConnectivityState as State, Status, Timestamp};
use balancer_channel_core::{Core, Settings, SubConnSnapshot};

use crate::{
    Report,
    book::{Book, Tag},
    call::{CallPlan, Calls, Fate},
    env::SimEnv,
    fault::Fault,
    law::Law,
    net::{Manners, Net},
    resolver::{Answer, SimResolver},
    rng::Rng,
    sabotage::Sabotage,
    sim::{Owner, Sim},
    witness::{Chaos, Vices, WitnessBuilder},
    world::{self, Action, End, POLICIES, World},
};

/// A world that happens.
struct Run {
    world: World,
    sim: Arc<Sim>,
    net: Arc<Net>,
    book: Arc<Book>,
    chaos: Arc<Chaos>,
    env: Arc<SimEnv>,
    resolver: SimResolver,
    calls: Arc<Calls>,
    core: Option<Core<SimEnv>>,
    rng: Rng,
}

/// Lets the world of `seed` happen.
pub(crate) fn run(seed: u64, echo: bool, sabotage: Option<Sabotage>) -> Report {
    let world = World::draw(seed);
    let sim = Sim::new(seed, echo, world.grid, sabotage);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(seed, world, &sim);
        run.whole();
        run.report()
    }));
    let (picks, calls) = ran.unwrap_or_else(|panic| {
        let text = message(&*panic);
        sim.fail(Law::Progress, format_args!("panic: {text}"));
        Default::default()
    });
    let violation = sim.violation();
    let story = match &violation {
        Some(_) => sim.lines(),
        None => Vec::new(),
    };
    let report = Report {
        seed,
        hash: sim.hash(),
        hits: sim.hits(),
        violation,
        story,
        events: sim.events(),
        polls: sim.polls(),
        picks,
        calls,
        lasted: sim.now() - Timestamp::ZERO,
    };
    // After a failure something may still hold something.
    let _ = catch_unwind(AssertUnwindSafe(|| sim.abandon()));
    report
}

// === impl Run ===

impl Run {
    fn new(seed: u64, world: World, sim: &Arc<Sim>) -> Self {
        let punctual = world.is_punctual();
        let book = Book::new(sim, world.backoff.clone(), punctual);
        let backends = world.backends.clone();
        let net = Net::new(sim, &book, seed, backends, world.user_timeout);
        let chaos = Chaos::new(sim, seed);
        let builder = |(name, wild): (&'static str, bool)| -> (String, Arc<dyn Builder>) {
            let inner = match name.ends_with("round_robin") {
                true => balancer_roundrobin::builder(),
                false => balancer_pickfirst::builder(),
            };
            let builder = WitnessBuilder {
                name,
                inner,
                book: book.clone(),
                chaos: chaos.clone(),
                vices: if wild { world.vices } else { Vices::default() },
                immediately: world.immediately && name.ends_with("round_robin"),
            };
            (name.to_owned(), Arc::new(builder))
        };
        let env = Arc::new(SimEnv {
            sim: sim.clone(),
            net: net.clone(),
            policies: POLICIES.into_iter().map(builder).collect(),
            max_connections: world.max_connections,
        });
        let backoff = world.backoff.clone();
        let judged = punctual && !world.vices.may_panic();
        let resolver =
            SimResolver::new(sim, &book, backoff.clone(), world.resolver.clone(), judged);
        let default = env.config(world.config).expect("a policy that there is");
        let mut settings = Settings::new("sim:///", "sim", Arc::new(resolver.clone()), default);
        settings.backoff = backoff;
        settings.min_connect_timeout = world.min_connect_timeout;
        settings.max_waiting = world.max_waiting;
        settings.max_connecting = world.max_connecting;
        settings.warm_up = world.warm_up;
        settings.idle_timeout = world.idle_timeout;
        let fixed = world.fixed.and_then(|name| env.config(name).ok());
        settings.fixed_policy = fixed.map(|config| config.policy);
        settings.refresh = world.resolver.valid_for.is_some();
        let calls = Calls::new(sim, &book, world.max_waiting < 100_000);
        sim.tell(format_args!("the world of seed {seed}: {world:?}"));
        let core = Core::new(env.clone(), settings);
        Self {
            world,
            sim: sim.clone(),
            net,
            book,
            chaos,
            env,
            resolver,
            calls,
            core: Some(core),
            rng: Rng::new(seed, 5),
        }
    }

    fn report(&self) -> (usize, u64) {
        let calls = self.calls.ended().values().sum();
        (self.book.undone().0, calls)
    }

    fn whole(&mut self) {
        self.trouble();
        if !self.world.ends_in_trouble {
            self.recover();
        }
        self.end();
        self.check_clean();
    }

    /// Things go wrong.
    fn trouble(&mut self) {
        let actions = std::mem::take(&mut self.world.actions);
        let calls = std::mem::take(&mut self.world.calls);
        let (mut actions, mut calls) =
            (actions.into_iter().peekable(), calls.into_iter().peekable());
        let end = Timestamp::ZERO + self.world.trouble;
        while !self.sim.has_failed() {
            let next_action = actions.peek().map(|(at, _)| Timestamp::ZERO + *at);
            let next_call = calls.peek().map(|(at, _)| Timestamp::ZERO + *at);
            let next = next_action.into_iter().chain(next_call).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.pass_until(next);
            if Some(next) == next_action
                && let Some((_, action)) = actions.next()
            {
                self.act(action);
            } else if let (Some((_, plan)), Some(core)) = (calls.next(), &self.core) {
                self.calls.start(core, &plan);
            }
        }
        self.pass_until(end);
    }

    /// Time passes until `end`, and everything happens that is due on the way.
    fn pass_until(&self, end: Timestamp) {
        self.settle();
        while !self.sim.has_failed() && self.sim.advance(end) {
            self.settle();
        }
    }

    fn pass(&self, time: Duration) {
        self.pass_until(self.sim.now() + time);
    }

    /// Everything runs that can, and then the laws are looked at.
    fn settle(&self) {
        self.sim.run();
        // A blocked thread has left things undone that are due: not yet.
        if !self.sim.has_failed() && !self.sim.is_behind() {
            self.check();
        }
    }

    fn act(&mut self, action: Action) {
        let (sim, net) = (&self.sim, &self.net);
        match &action {
            Action::Behave(backend, _) => sim.tell(format_args!("* b{backend} changes")),
            Action::Resolve(Answer::List { endpoints, config }) => {
                let names: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                sim.tell(format_args!("* list {names:?}, config {config:?}"));
            }
            action => sim.tell(format_args!("* {action:?}")),
        }
        match action {
            Action::Behave(backend, manners) => {
                if net.manners(backend).healthy && !manners.healthy {
                    sim.hit_all(Fault::Unhealthy);
                }
                net.behave(backend, *manners);
            }
            Action::Crash(backend) => sim.hit(Fault::Crash, net.crash(backend)),
            Action::Flap(backend) => sim.hit(Fault::Flap, net.crash(backend)),
            Action::Restart(backend) => net.restart(backend),
            Action::Partition(backend) => sim.hit(Fault::Partition, net.partition(backend)),
            Action::Heal(backend) => net.heal(backend),
            Action::Reset(backend) => {
                sim.hit(Fault::ConnectionReset, net.drop_connections(backend));
            }
            Action::Goaway {
                backend,
                low,
                too_many_pings,
            } => {
                let hit = net.goaway(backend, low, too_many_pings);
                sim.hit(if low { Fault::GoawayLow } else { Fault::Goaway }, hit);
                if too_many_pings {
                    sim.hit(Fault::TooManyPings, hit);
                }
            }
            Action::Resolve(answer) => self.resolve(answer),
            Action::EnterIdle => {
                sim.hit_all(Fault::EnterIdle);
                self.core.iter().for_each(Core::enter_idle);
            }
            Action::ResetBackoff => {
                sim.hit_all(Fault::ResetBackoff);
                self.book.reset_backoff();
                self.core.iter().for_each(Core::reset_backoff);
            }
            Action::Meddle => self.chaos.meddle(),
            Action::Connect => self.core.iter().for_each(Core::connect),
        }
    }

    fn resolve(&self, answer: Answer) {
        let fault = match &answer {
            Answer::List { endpoints, .. } if endpoints.is_empty() => Fault::EmptyList,
            Answer::List { config: None, .. } => Fault::ListChanged,
            Answer::List {
                config: Some(it), ..
            } if it == "bad" => Fault::BadConfig,
            Answer::List { .. } => Fault::PolicySwitch,
            Answer::Error => Fault::ResolverError,
            Answer::Hang => Fault::ResolverHangs,
            Answer::Panic => Fault::ResolverPanics,
        };
        self.sim.hit_all(fault);
        self.resolver.say(answer);
    }

    /// The trouble stops, and one backend at least is good: RPCs get through again.
    fn recover(&mut self) {
        if self.sim.has_failed() {
            return;
        }
        let backends = self.world.backends.len();
        let fewest = if self.world.calm { backends } else { 1 };
        let good = self.rng.range(fewest, backends);
        self.sim.tell(format_args!(
            "* the trouble is over; {good} of {backends} are good"
        ));
        self.chaos.stop();
        for backend in 0..backends {
            if self.sim.is_sabotaged(Sabotage::NoEnd, 1) {
                self.net.crash(backend);
                continue;
            }
            let mut manners = Manners::good();
            if backend >= good {
                manners.greeting = crate::net::Greeting::Refuse;
                self.net.drop_connections(backend);
            }
            self.net.heal(backend);
            self.net.restart(backend);
            self.net.behave(backend, manners);
        }
        let config = *self.rng.one_of(&["round_robin", "pick_first"]);
        self.resolver.say(Answer::List {
            endpoints: world::all(backends),
            config: Some(config.to_owned()),
        });
        // What is on its way may still hit. A policy that has panicked has to be built again, and a
        // resolver that does not tell of changes to be asked again.
        let vices = self.world.vices;
        let waits = vices.may_panic() || vices.pick_panics > 0 || !self.world.resolver.notifies;
        let wait = self.world.longest_wait() * u32::from(waits);
        self.pass(Duration::from_secs(1) + wait);
        let longest = self.world.longest_recovery();
        let crowded = self.world.max_waiting < 100_000;
        let mut plan = CallPlan {
            wait_for_ready: true,
            timeout: longest,
            attempts: 5,
            fate: Fate::Waits,
            must_succeed: !crowded,
            calm: false,
        };
        match &self.core {
            Some(core) if self.rng.per_mille(500) => self.calls.start(core, &plan),
            // No RPC has to drive it.
            Some(core) => core.connect(),
            None => {}
        }
        self.pass(longest + self.world.user_timeout);
        if let Some(core) = self.core.as_ref().filter(|core| !core.is_idle()) {
            let state = core.state(false);
            if state != State::Ready && !self.sim.has_failed() {
                let what = format_args!("{state} though a backend is good");
                self.sim.fail(Law::Recovers, what);
            }
        }
        // Those that came too late for the last list have gone by now; what comes now has no excuse.
        plan.wait_for_ready = false;
        plan.attempts = 1;
        plan.timeout = Duration::from_secs(5);
        for _ in 0..self.rng.range(1, 20) {
            if let Some(core) = self.core.as_ref().filter(|_| !self.sim.has_failed()) {
                self.calls.start(core, &plan);
                self.pass(self.rng_gap());
            }
        }
    }

    /// Close together, or so far apart that the channel may fall asleep.
    fn rng_gap(&self) -> Duration {
        Duration::from_millis(self.sim.random() % 400)
    }

    /// The channel ends with RPCs in flight.
    fn end(&mut self) {
        if self.sim.has_failed() {
            return;
        }
        for _ in 0..self.rng.range(0, 10) {
            let plan = world::draw_call(&mut self.rng);
            self.core
                .iter()
                .for_each(|core| self.calls.start(core, &plan));
        }
        let some = self.rng.millis(0, 30);
        self.pass(some);
        let (sim, end) = (self.sim.clone(), self.world.end);
        let Some(core) = self.core.take().filter(|_| !sim.has_failed()) else {
            return;
        };
        sim.tell(format_args!("* {end:?}"));
        self.calls.closed.store(true, Ordering::Relaxed);
        if end != End::HandlesDropped && !sim.is_behind() {
            self.book.shut();
        }
        match end {
            End::Close => {
                sim.hit_all(Fault::Close);
                core.close();
                self.after_close(&core, Duration::ZERO);
            }
            End::Gracefully(limit) => {
                sim.hit_all(Fault::CloseGracefully);
                core.close_gracefully(limit);
                self.after_close(&core, limit);
            }
            End::Hurried(limit) => {
                sim.hit_all(Fault::CloseGracefully);
                core.close_gracefully(limit);
                let half = self.rng.time(Duration::ZERO, limit);
                self.pass(half);
                if self.calls.in_flight() > 0 {
                    sim.hit_all(Fault::Close);
                }
                core.close();
                self.after_close(&core, Duration::ZERO);
            }
            End::HandlesDropped => {
                sim.hit_all(Fault::HandlesDropped);
                // RPCs hold a handle each: the channel ends when the last of them does.
                drop(core);
                self.pass(Duration::from_secs(21));
            }
        }
    }

    /// So long after the close no RPC is left.
    fn after_close(&self, core: &Core<SimEnv>, limit: Duration) {
        let mut plan = world::draw_call(&mut Rng::new(1, 1));
        plan.timeout = Duration::from_secs(60);
        plan.fate = Fate::Waits;
        self.calls.start(core, &plan);
        // What comes behind the close is not heard any more.
        (0..3).for_each(|_| self.chaos.meddle());
        self.settle();
        self.pass(limit);
        // The channel around the core ends what no SubConn has any more.
        let status = Status::new(Code::Cancelled, "the channel is closing");
        self.net.abort_all(&status);
        self.settle();
        // Between tries that never left, an RPC sleeps for a moment.
        self.pass(Duration::from_millis(200));
        let left = self.calls.in_flight();
        if left > 0 && !self.sim.has_failed() {
            let what = format_args!("{left} RPCs go on after the close");
            self.sim.fail(Law::Ends, what);
        }
        if core.state(false) != State::Shutdown {
            let what = format_args!("{} after the close", core.state(false));
            self.sim.fail(Law::Agrees, what);
        }
    }

    /// After the end nothing is left.
    fn check_clean(&self) {
        if self.sim.has_failed() {
            return;
        }
        let sim = &self.sim;
        let fail = |what: std::fmt::Arguments<'_>| sim.fail(Law::Clean, what);
        let (tasks, calls) = (sim.tasks(Owner::Channel), sim.tasks(Owner::Call));
        if tasks > 0 || calls > 0 {
            fail(format_args!("{tasks} tasks and {calls} RPCs are left"));
        }
        let sleepers = sim.sleepers();
        if sleepers > 0 {
            fail(format_args!("{sleepers} timers are left"));
        }
        let (dials, conns) = self.net.open();
        if dials > 0 || conns > 0 {
            fail(format_args!(
                "{dials} dials and {conns} connections are left"
            ));
        }
        let (policies, pickers) = self.book.left();
        if policies > 0 || pickers > 0 {
            fail(format_args!(
                "{policies} policies and {pickers} pickers are left"
            ));
        }
        let holders = Arc::strong_count(&self.env);
        if holders > 1 {
            fail(format_args!("{} still hold the environment", holders - 1));
        }
        let (picks, undone) = self.book.undone();
        if let Some(token) = undone {
            let what = format_args!("pick {token} of {picks} was never done");
            sim.fail(Law::Done, what);
        }
    }

    /// Everything waits: what must be so now?
    fn check(&self) {
        let Some(core) = &self.core else { return };
        self.calls.check(core);
        let snapshot = core.snapshot();
        for sub_conn in &snapshot.sub_conns {
            self.check_sub_conn(sub_conn);
        }
        // One that has anything to say but CONNECTING takes over at once.
        let pending = snapshot.pending_policy.as_deref();
        if let Some((instance, Some(said))) = pending.and_then(|name| self.book.speaks(name))
            && said != State::Connecting
        {
            let what = format_args!("p{instance} says {said} and is still pending");
            self.sim.fail(Law::Agrees, what);
        }
        let Some((instance, published)) = snapshot
            .policy
            .as_deref()
            .and_then(|name| self.book.speaks(name))
        else {
            return;
        };
        let says = published.unwrap_or(State::Connecting);
        if says != snapshot.state && self.world.warm_up.is_none() && !core.is_idle() {
            let what = format_args!("the channel is {}, p{instance} says {says}", snapshot.state);
            self.sim.fail(Law::Agrees, what);
        }
        let ready = self.book.ready(instance) > 0;
        if ready != (says == State::Ready) {
            let what = format_args!("p{instance} says {says} and READY SubConns: {ready}");
            self.sim.fail(Law::Agrees, what);
        }
    }

    /// A SubConn is in its state for a reason.
    fn check_sub_conn(&self, sub_conn: &SubConnSnapshot) {
        let tags = sub_conn.addresses.iter();
        let mut tags = tags.filter_map(|it| it.balancer_attributes().get::<Tag>());
        let Some(Tag(id)) = tags.next() else { return };
        let dials = self.net.dials_for(*id);
        let serves = self.net.serves(*id);
        let reason = match sub_conn.state {
            // With one permit for all, another may have to go first; a watch over health dials no
            // more.
            State::Connecting => {
                let another = self.world.max_connecting == 1 && self.net.open().0 > 0;
                dials || serves || another
            }
            State::Ready => serves && !dials,
            // Also where the backend says that it is not well.
            State::TransientFailure => !dials,
            State::Idle => !dials && !serves,
            State::Shutdown => false,
        };
        let more = self.net.dials_for_more(*id);
        let connections = self.net.connections(*id) + more;
        let lonely = more > 0 && !serves;
        if more > 1 || lonely || connections > self.world.max_connections {
            let what = format_args!("s{id}: {connections} connections, {more} of them dialled");
            self.sim.fail(Law::Moves, what);
        }
        if !reason {
            let state = sub_conn.state;
            let what = format_args!("s{id} is {state}; dials: {dials}, connected: {serves}");
            self.sim.fail(Law::Moves, what);
        }
    }
}

/// What a panic says.
fn message(panic: &dyn Any) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

/// Keeps panics that are part of a world off the terminal.
pub(crate) fn silence() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !message(info.payload()).starts_with("chaos: ") {
                before(info);
            }
        }));
    });
}
