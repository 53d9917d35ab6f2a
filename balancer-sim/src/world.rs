//! A world, drawn from a seed: backends, policies, a resolver, RPCs, and what goes wrong when.
//!
//! Each world has its own few kinds of faults rather than a little of each, so that some worlds are
//! all partitions and some all panics.

use std::time::Duration;

use balancer_api::{Address, Endpoint};
use balancer_channel_core::Backoff;

use crate::{
    call::{CallPlan, Fate},
    net::{Greeting, Manners, Net},
    resolver::Answer,
    rng::Rng,
    witness::Vices,
};

/// Everything that is drawn before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) grid: Duration,
    pub(crate) backends: Vec<Manners>,
    pub(crate) backoff: Backoff,
    pub(crate) min_connect_timeout: Duration,
    pub(crate) user_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) warm_up: Option<Duration>,
    pub(crate) max_waiting: usize,
    pub(crate) max_connecting: usize,
    /// How many connections a SubConn may have, unless the service config is for one.
    pub(crate) max_connections: usize,
    pub(crate) resolver: ResolverPlan,
    /// The default service config.
    pub(crate) config: &'static str,
    /// A policy that no service config changes.
    pub(crate) fixed: Option<&'static str>,
    /// SubConns of round_robin reconnect by themselves.
    pub(crate) immediately: bool,
    /// Of the policies that misbehave.
    pub(crate) vices: Vices,
    /// How long things go wrong.
    pub(crate) trouble: Duration,
    pub(crate) actions: Vec<(Duration, Action)>,
    pub(crate) calls: Vec<(Duration, CallPlan)>,
    pub(crate) end: End,
    /// Whether the channel is closed while things go wrong.
    pub(crate) ends_in_trouble: bool,
    /// Nothing happens but drains, new lists of good backends, switches and naps: no RPC may fail on
    /// a connection, and whoever waits gets through.
    pub(crate) calm: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ResolverPlan {
    pub(crate) first: Answer,
    pub(crate) min_interval: Option<Duration>,
    pub(crate) delay: Duration,
    /// How long its lists may be believed, where the channel minds.
    pub(crate) valid_for: Option<Duration>,
    /// Whether it says when there is something new; otherwise it has to be asked.
    pub(crate) notifies: bool,
}

/// Something that happens to the world.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Behave(usize, Box<Manners>),
    Crash(usize),
    Flap(usize),
    Restart(usize),
    Partition(usize),
    Heal(usize),
    Reset(usize),
    Goaway {
        backend: usize,
        low: bool,
        too_many_pings: bool,
    },
    Resolve(Answer),
    EnterIdle,
    ResetBackoff,
    Connect,
    Meddle,
}

/// How the channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Gracefully(Duration),
    /// Gracefully first, then at once.
    Hurried(Duration),
    HandlesDropped,
}

/// The kinds of trouble of one world.
struct Kinds {
    connect: bool,
    loss: bool,
    streams: bool,
    partitions: bool,
    limits: bool,
    resolver: bool,
    switches: bool,
    control: bool,
    health: bool,
    calm: bool,
}

/// The policies by the names that service configs use, and whether they misbehave.
pub(crate) const POLICIES: [(&str, bool); 4] = [
    ("round_robin", false),
    ("pick_first", false),
    ("wild_round_robin", true),
    ("wild_pick_first", true),
];

// === impl World ===

impl World {
    /// The world of `seed`.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 4);
        let rng = &mut rng;
        let kinds = Kinds {
            connect: rng.per_mille(500),
            loss: rng.per_mille(600),
            streams: rng.per_mille(500),
            partitions: rng.per_mille(300),
            limits: rng.per_mille(300),
            resolver: rng.per_mille(400),
            switches: rng.per_mille(400),
            control: rng.per_mille(300),
            health: rng.per_mille(200),
            calm: false,
        };
        let calm = rng.per_mille(120);
        let kinds = if calm { Kinds::calm() } else { kinds };
        let wild = !calm && rng.per_mille(300);
        let vices = if wild {
            draw_vices(rng)
        } else {
            Vices::default()
        };
        let trouble = rng.millis(5_000, 40_000);
        let count = rng.range(1, 5);
        let backends: Vec<Manners> = (0..count).map(|_| draw_manners(rng, &kinds)).collect();
        let initial = rng.millis(100, 1_000);
        let backoff = Backoff::default()
            .with_initial(initial)
            .with_max(rng.millis(1_000, 8_000));
        let config = draw_config(rng, wild, &kinds);
        let crowded = !calm && rng.per_mille(60);
        let max_waiting = if crowded { rng.range(1, 6) } else { 100_000 };
        // From a sequence of its own, so that the worlds of before are as they were.
        let scaling = &mut Rng::new(seed, 6);
        let scales = kinds.limits && scaling.per_mille(600);
        let max_connections = if scales { scaling.range(2, 5) } else { 1 };
        let max_connecting = if rng.per_mille(200) { 1 } else { 64 };
        let end = match rng.below(6) {
            0 | 1 => End::Close,
            2 => End::Hurried(rng.millis(1, 3_000)),
            3 | 4 => End::Gracefully(rng.millis(0, 5_000)),
            _ => End::HandlesDropped,
        };
        let grid = match rng.below(3) {
            0 => Duration::from_nanos(1),
            1 => Duration::from_millis(1),
            _ => Duration::from_millis(10),
        };
        let mut world = Self {
            grid,
            backends,
            backoff,
            min_connect_timeout: rng.millis(300, 5_000),
            user_timeout: rng.millis(2_000, 20_000),
            idle_timeout: rng.per_mille(300).then(|| rng.millis(500, 6_000)),
            warm_up: rng.per_mille(150).then(|| rng.millis(10, 3_000)),
            max_waiting,
            max_connecting,
            max_connections,
            resolver: ResolverPlan {
                first: draw_answer(rng, count, wild, &kinds),
                min_interval: rng.per_mille(500).then(|| rng.millis(100, 5_000)),
                delay: rounded(rng.millis(0, 50), grid),
                valid_for: rng.per_mille(150).then(|| rng.millis(0, 8_000)),
                notifies: vices.mute || rng.per_mille(if vices.fears_empty { 300 } else { 750 }),
            },
            config,
            fixed: rng
                .per_mille(50)
                .then(|| *rng.one_of(&["round_robin", "pick_first"])),
            immediately: rng.per_mille(300),
            vices,
            trouble,
            actions: Vec::new(),
            calls: draw_calls(rng, trouble),
            end,
            ends_in_trouble: !calm && rng.per_mille(250),
            calm,
        };
        world.draw_actions(rng, &kinds, wild);
        if calm {
            world.calm_calls();
        }
        world
    }

    /// Whether some policy blocks its thread, so that what is due comes late.
    pub(crate) fn is_punctual(&self) -> bool {
        self.vices.blocks == 0
    }

    /// The longest that the back-off keeps anything from being tried.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.backoff.max.max(self.backoff.initial).mul_f64(1.2)
    }

    /// When there is something good to connect to, so long at most until it is found.
    pub(crate) fn longest_recovery(&self) -> Duration {
        let wait = self.longest_wait();
        let connect = self.min_connect_timeout.max(wait);
        // The resolver's wait or the rebuilding of a policy, a dial that hangs, and the next.
        let ask = self.resolver.min_interval.unwrap_or_default();
        let held = self.warm_up.unwrap_or_default();
        wait + connect + wait + ask + held + Duration::from_secs(2)
    }

    /// Who waits for ready long enough has no excuse in a calm world.
    fn calm_calls(&mut self) {
        let longest = self.longest_recovery();
        for (_, call) in &mut self.calls {
            call.calm = true;
            if call.wait_for_ready {
                call.timeout = longest;
                call.fate = Fate::Waits;
                call.must_succeed = true;
                // Two drains in a row may refuse it twice, and only the first is for the channel to
                // hide.
                call.attempts = 5;
            }
        }
    }

    fn draw_actions(&mut self, rng: &mut Rng, kinds: &Kinds, wild: bool) {
        let count = self.backends.len();
        let times = rng.range(3, 30);
        let mut at = Duration::ZERO;
        for _ in 0..times {
            // Trouble comes in company: often while the trouble before has just begun to show.
            at = match rng.per_mille(400) {
                true => (at + rng.millis(0, 40)).min(self.trouble),
                false => rng.time(Duration::ZERO, self.trouble),
            };
            let backend = rng.below(count);
            let mut add = |after: Duration, action| self.actions.push((at + after, action));
            match rng.below(10) {
                0 | 1 if kinds.loss => match if kinds.calm { 4 } else { rng.below(4) } {
                    0 => {
                        add(Duration::ZERO, Action::Crash(backend));
                        add(rng.millis(1, 5_000), Action::Restart(backend));
                    }
                    1 => add(Duration::ZERO, Action::Reset(backend)),
                    2 => {
                        // Up and down, ten times a second.
                        for turn in 0..rng.range(2, 8) as u64 {
                            let start = Duration::from_millis(turn * 100);
                            add(start, Action::Flap(backend));
                            add(start + rng.millis(1, 99), Action::Restart(backend));
                        }
                    }
                    _ => {
                        let low = !kinds.calm && rng.per_mille(500);
                        let too_many_pings = rng.per_mille(300);
                        let goaway = Action::Goaway {
                            backend,
                            low,
                            too_many_pings,
                        };
                        add(Duration::ZERO, goaway);
                        if !kinds.calm && rng.per_mille(300) {
                            // The second one goes lower.
                            let second = Action::Goaway {
                                backend,
                                low: true,
                                too_many_pings: false,
                            };
                            add(rng.millis(0, 5), second);
                        }
                    }
                },
                2 if kinds.partitions => {
                    add(Duration::ZERO, Action::Partition(backend));
                    add(rng.millis(10, 12_000), Action::Heal(backend));
                }
                3 | 4 if kinds.connect || kinds.streams || kinds.limits || kinds.health => {
                    let manners = Box::new(draw_manners(rng, kinds));
                    add(Duration::ZERO, Action::Behave(backend, manners));
                }
                5 | 6 if kinds.resolver || kinds.switches => {
                    let answer = draw_answer(rng, count, wild, kinds);
                    add(Duration::ZERO, Action::Resolve(answer));
                }
                7 if kinds.control => add(
                    Duration::ZERO,
                    match rng.below(5) {
                        0 => Action::EnterIdle,
                        1 => Action::ResetBackoff,
                        2 | 3 => Action::Meddle,
                        _ => Action::Connect,
                    },
                ),
                _ => {}
            }
        }
        self.actions.sort_by_key(|(at, _)| *at);
        // RPCs that are in flight when it happens.
        for (at, _) in &self.actions {
            for _ in 0..rng.below(6) {
                let before = at.saturating_sub(rng.millis(0, 15));
                self.calls.push((before, draw_call(rng)));
            }
        }
        // What is at once in the network is at once with these, too.
        let grid = self.grid;
        let actions = self.actions.iter_mut().map(|(at, _)| at);
        let calls = self.calls.iter_mut().map(|(at, _)| at);
        actions.chain(calls).for_each(|at| *at = rounded(*at, grid));
        self.calls.sort_by_key(|(at, _)| *at);
    }
}

impl Kinds {
    fn calm() -> Self {
        Self {
            connect: false,
            loss: true,
            streams: false,
            partitions: false,
            limits: false,
            resolver: false,
            switches: true,
            control: true,
            health: false,
            calm: true,
        }
    }
}

/// On the grid, not earlier.
fn rounded(at: Duration, grid: Duration) -> Duration {
    let nanos = at.as_nanos().next_multiple_of(grid.as_nanos().max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn draw_vices(rng: &mut Rng) -> Vices {
    let mut vices = Vices::default();
    for _ in 0..rng.range(1, 3) {
        match rng.below(10) {
            8 => vices.fears_empty = true,
            7 => vices.stale = rng.range(10, 500) as u32,
            0 | 1 => vices.panics = rng.range(5, 100) as u32,
            2 => vices.pick_panics = rng.range(10, 300) as u32,
            3 => vices.foreign = rng.range(10, 300) as u32,
            4 => vices.removed = rng.range(100, 700) as u32,
            5 => vices.done_panics = rng.range(10, 500) as u32,
            6 => vices.blocks = rng.range(5, 100) as u32,
            _ => vices.mute = rng.per_mille(500),
        }
    }
    vices
}

fn draw_manners(rng: &mut Rng, kinds: &Kinds) -> Manners {
    let mut manners = Manners::good();
    let slow = rng.per_mille(200);
    manners.latency.1 = rng.millis(1, if slow { 200 } else { 5 });
    manners.answer.1 = rng.millis(5, if slow { 2_000 } else { 100 });
    if kinds.connect && rng.per_mille(500) {
        manners.greeting = match rng.below(6) {
            0 => Greeting::Refuse,
            1 => Greeting::Slow(rng.millis(50, 3_000)),
            2 => Greeting::BlackHole,
            3 => Greeting::Silent,
            4 => Greeting::Close,
            _ => Greeting::Goaway,
        };
    }
    if kinds.streams {
        let mut often = |part: u32| if rng.per_mille(400) { part } else { 0 };
        manners.refuses = often(120);
        manners.resets = often(60);
        manners.unavailable = often(120);
        manners.silent = often(40);
        manners.late = often(60);
    }
    if kinds.limits {
        manners.limit = *rng.one_of(&[0, 1, 1, 2, 100]);
    }
    if kinds.health {
        manners.healthy = rng.per_mille(600);
    }
    manners
}

fn draw_config(rng: &mut Rng, wild: bool, kinds: &Kinds) -> &'static str {
    let good: &[&str] = match kinds.health {
        true => &[
            "round_robin+health",
            "round_robin+health",
            "pick_first+health",
        ],
        false => &[
            "round_robin",
            "round_robin",
            "pick_first",
            "round_robin+other",
        ],
    };
    let bad: &[&str] = match kinds.health {
        true => &["wild_round_robin+health"],
        false => &["wild_round_robin", "wild_pick_first"],
    };
    let names = if wild && rng.per_mille(800) {
        bad
    } else {
        good
    };
    names[rng.below(names.len())]
}

fn draw_answer(rng: &mut Rng, backends: usize, wild: bool, kinds: &Kinds) -> Answer {
    if kinds.resolver {
        match rng.below(12) {
            0 => return Answer::Error,
            1 | 3 => {
                let (endpoints, config) = (Vec::new(), None);
                return Answer::List { endpoints, config };
            }
            2 => return Answer::Hang,
            4 if rng.per_mille(700) => return Answer::Panic,
            _ => {}
        }
    }
    let config = if kinds.resolver && rng.per_mille(60) {
        Some("bad".to_owned())
    } else if kinds.switches && rng.per_mille(700) {
        Some(draw_config(rng, wild, kinds).to_owned())
    } else {
        None
    };
    let endpoints = match (kinds.resolver, kinds.calm) {
        (true, _) => draw_list(rng, backends, false),
        (_, true) => draw_list(rng, backends, true),
        _ => all(backends),
    };
    Answer::List { endpoints, config }
}

/// Every backend, an endpoint each.
pub(crate) fn all(backends: usize) -> Vec<Endpoint> {
    let addresses = (0..backends).map(|it| Address::new(Net::address(it)));
    addresses.map(|it| Endpoint::new([it])).collect()
}

/// Some of the backends in some order, some of them together, now and then twice or nowhere.
fn draw_list(rng: &mut Rng, backends: usize, good: bool) -> Vec<Endpoint> {
    let mut numbers: Vec<usize> = (0..backends).collect();
    rng.shuffle(&mut numbers);
    numbers.truncate(rng.range(1, backends));
    let mut names: Vec<String> = numbers.into_iter().map(Net::address).collect();
    if rng.per_mille(100) {
        names.push(names[0].clone());
    }
    if !good && rng.per_mille(100) {
        names.push("nowhere".to_owned());
    }
    let mut endpoints = Vec::new();
    while !names.is_empty() {
        let together = if rng.per_mille(200) { 2 } else { 1 };
        let part = names.split_off(names.len().saturating_sub(together));
        // By another name the same backend is another endpoint.
        let renamed = rng.per_mille(100);
        let address = |name: String| match renamed {
            true => Address::new(name).with_server_name("another"),
            false => Address::new(name),
        };
        endpoints.push(Endpoint::new(part.into_iter().map(address)));
    }
    endpoints
}

fn draw_calls(rng: &mut Rng, trouble: Duration) -> Vec<(Duration, CallPlan)> {
    let mut calls = Vec::new();
    let bursts = rng.range(4, 25);
    for _ in 0..bursts {
        let at = rng.time(Duration::ZERO, trouble);
        for _ in 0..rng.range(1, 8) {
            calls.push((at + rng.millis(0, 100), draw_call(rng)));
        }
    }
    calls
}

pub(crate) fn draw_call(rng: &mut Rng) -> CallPlan {
    let timeout = match rng.below(4) {
        0 => rng.millis(0, 100),
        1 | 2 => rng.millis(100, 3_000),
        _ => rng.millis(3_000, 20_000),
    };
    let fate = match rng.below(10) {
        0 => Fate::DropsAfter(rng.time(Duration::ZERO, timeout)),
        1 => Fate::DropsAtPoll(rng.below(12) as u32),
        _ => Fate::Waits,
    };
    CallPlan {
        wait_for_ready: rng.per_mille(400),
        timeout,
        attempts: *rng.one_of(&[1, 1, 1, 2, 4]),
        fate,
        must_succeed: false,
        calm: false,
    }
}
