//! A policy with a witness around it: every callback, request and pick is written down, and now and
//! then the policy does what no policy should.

mod conn;
mod picker;

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, ClientConn, ConnectivityState as State,
    Rejected, ResolveError, ResolvedAddrs, SubConn, SubConnHandle, SubConnState, TimerId,
};

use self::conn::{WitnessConn, fmt_probe};
use crate::{
    book::Book,
    fault::Fault,
    rng::Rng,
    sabotage::Sabotage,
    sim::{Sim, lock},
};

/// How often a policy misbehaves, each of a thousand callbacks or picks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vices {
    pub(crate) panics: u32,
    pub(crate) blocks: u32,
    pub(crate) pick_panics: u32,
    pub(crate) foreign: u32,
    pub(crate) removed: u32,
    /// Picks any SubConn, READY or not.
    pub(crate) stale: u32,
    pub(crate) done_panics: u32,
    /// It never publishes.
    pub(crate) mute: bool,
    /// It divides by the length of the list; chaos or none.
    pub(crate) fears_empty: bool,
}

impl Vices {
    /// Whether it may have to be built again.
    pub(crate) fn may_panic(&self) -> bool {
        self.panics > 0 || self.fears_empty
    }
}

/// Whether and how policies misbehave, and the chance for it.
pub(crate) struct Chaos {
    pub(crate) sim: Arc<Sim>,
    rng: Mutex<Rng>,
    on: Mutex<bool>,
    /// What policies would call from threads of their own; those too that are closed by now.
    conns: Mutex<Vec<Weak<WitnessConn>>>,
    /// One that is gone, this policy's or another's, to pick it all the same.
    removed: Mutex<Option<SubConn>>,
}

/// Builds policies with a witness around them.
pub(crate) struct WitnessBuilder {
    pub(crate) name: &'static str,
    pub(crate) inner: Arc<dyn Builder>,
    pub(crate) book: Arc<Book>,
    pub(crate) chaos: Arc<Chaos>,
    pub(crate) vices: Vices,
    /// Its SubConns reconnect by themselves, where the policy does not mind.
    pub(crate) immediately: bool,
}

/// An instance, seen from its parts.
struct Instance {
    number: usize,
    book: Arc<Book>,
    chaos: Arc<Chaos>,
    vices: Vices,
    /// The channel's SubConns with those that the policy has for them.
    sub_conns: Mutex<Vec<(SubConn, SubConn)>>,
    /// Connections to something that is no backend.
    lookasides: Mutex<Vec<SubConn>>,
    round_robin: bool,
    immediately: bool,
}

struct Witness {
    instance: Arc<Instance>,
    inner: Box<dyn Balancer>,
}

/// What the policy has for a SubConn of the channel.
struct Probe {
    inner: SubConn,
    id: u64,
    book: Arc<Book>,
}

// === impl Chaos ===

impl Chaos {
    pub(crate) fn new(sim: &Arc<Sim>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            sim: sim.clone(),
            rng: Mutex::new(Rng::new(seed, 3)),
            on: Mutex::new(true),
            conns: Mutex::default(),
            removed: Mutex::default(),
        })
    }

    /// From now on policies behave.
    pub(crate) fn stop(&self) {
        *lock(&self.on) = false;
    }

    pub(crate) fn is_on(&self) -> bool {
        *lock(&self.on)
    }

    fn happens(&self, per_mille: u32) -> bool {
        self.is_on() && per_mille > 0 && lock(&self.rng).per_mille(per_mille)
    }

    /// A policy, at work or not, calls its ClientConn from outside its callbacks.
    pub(crate) fn meddle(&self) {
        let conns: Vec<_> = lock(&self.conns).iter().filter_map(Weak::upgrade).collect();
        if let Some(conn) = conns.get(self.below(conns.len())) {
            self.sim.hit_all(Fault::Meddles);
            conn.meddle(self.below(8));
        }
    }

    fn removed_one(&self) -> Option<SubConn> {
        lock(&self.removed).clone()
    }

    fn below(&self, n: usize) -> usize {
        lock(&self.rng).below(n)
    }

    fn millis(&self, low: u64, high: u64) -> Duration {
        lock(&self.rng).millis(low, high)
    }
}

// === impl WitnessBuilder ===

impl Builder for WitnessBuilder {
    fn name(&self) -> &str {
        self.name
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let mute = self.vices.mute;
        let instance = Arc::new(Instance {
            number: self.book.built(self.name, mute),
            book: self.book.clone(),
            chaos: self.chaos.clone(),
            vices: self.vices,
            sub_conns: Mutex::default(),
            round_robin: self.inner.name() == balancer_roundrobin::NAME,
            immediately: self.immediately,
            lookasides: Mutex::default(),
        });
        let conn = Arc::new(WitnessConn::new(instance.clone(), cc));
        lock(&self.chaos.conns).push(Arc::downgrade(&conn));
        let inner = self.inner.build(conn, options);
        Box::new(Witness { instance, inner })
    }
}

// === impl Witness ===

impl Witness {
    /// Runs a callback, with a panic before or after it if chance wants one.
    fn call<T>(&mut self, what: &str, callback: impl FnOnce(&mut dyn Balancer) -> T) -> T {
        let instance = self.instance.clone();
        let Instance {
            number,
            book,
            chaos,
            vices,
            ..
        } = &*instance;
        book.enter(*number, what);
        if chaos.happens(vices.blocks) {
            let time = chaos.millis(1, 300);
            chaos.sim.hit_all(Fault::PolicyBlocks);
            chaos
                .sim
                .tell(format_args!("p{number}: {what} blocks for {time:?}"));
            chaos.sim.block(time);
        }
        instance.may_panic(what);
        let result = callback(&mut *self.inner);
        instance.may_panic(what);
        book.leave(*number);
        result
    }
}

impl Balancer for Witness {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        if lock(&self.instance.lookasides).contains(sub_conn) {
            return;
        }
        let Some((outer, id)) = self.instance.outer(sub_conn) else {
            let what = format_args!("a state of {sub_conn:?}, which the policy does not know");
            self.instance.chaos.sim.fail(crate::law::Law::Moves, what);
            return;
        };
        self.instance.book.told(id, state.state, state.cause);
        if state.state == State::Shutdown {
            self.instance.forget(sub_conn);
        }
        self.call("state", |inner| {
            inner.handle_sub_conn_state_change(&outer, state);
        });
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let empty = matches!(&resolved, Ok(list) if list.endpoints.is_empty());
        let instance = self.instance.clone();
        self.call("resolved", |inner| {
            if empty && instance.vices.fears_empty {
                instance.panic("an empty list");
            }
            inner.handle_resolved_addrs(resolved)
        })
    }

    fn close(&mut self) {
        self.call("close", |inner| inner.close());
        self.instance.book.closed(self.instance.number);
        if self
            .instance
            .chaos
            .sim
            .is_sabotaged(Sabotage::ClosedTwice, 1)
        {
            self.call("close", |_| ());
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.call("timer", |inner| inner.handle_timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.call("call", |inner| inner.handle_call_event(id, event));
    }

    fn exit_idle(&mut self) {
        self.call("exit idle", |inner| inner.exit_idle());
    }

    fn settle(&mut self) {
        self.call("settle", |inner| inner.settle());
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.instance.book.dropped(self.instance.number);
    }
}

// === impl Instance ===

impl Instance {
    fn may_panic(&self, what: &str) {
        if self.chaos.happens(self.vices.panics) {
            self.panic(what);
        }
    }

    fn panic(&self, what: &str) {
        self.chaos.sim.hit_all(Fault::PolicyPanics);
        let number = self.number;
        self.chaos
            .sim
            .tell(format_args!("p{number}: panics in {what}"));
        self.book.panicked(number);
        panic!("chaos: {what}");
    }

    fn is_round_robin(&self) -> bool {
        self.round_robin
    }

    fn outer(&self, inner: &SubConn) -> Option<(SubConn, u64)> {
        let known = lock(&self.sub_conns);
        let (_, outer) = known.iter().find(|(it, _)| it == inner)?;
        Some((outer.clone(), Probe::of(outer)?.id))
    }

    fn outer_of_tried(&self, inner: &SubConn) -> Option<SubConn> {
        self.outer(inner).map(|(outer, _)| outer)
    }

    fn forget(&self, inner: &SubConn) {
        let mut known = lock(&self.sub_conns);
        known.retain(|(it, _)| it != inner);
        drop(known);
        *lock(&self.chaos.removed) = Some(inner.clone());
    }
}

// === impl Probe ===

impl Probe {
    fn of(outer: &SubConn) -> Option<&Self> {
        outer.downcast_ref()
    }
}

impl SubConnHandle for Probe {
    fn connect(&self) {
        self.book.connects(self.id);
        self.inner.connect();
    }

    fn update_addresses(&self, addresses: Vec<balancer_api::Address>) {
        self.book.relisted(self.id);
        self.inner
            .update_addresses(conn::tagged(addresses, self.id));
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_probe(self.id, f)
    }
}
