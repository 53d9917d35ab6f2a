//! A child policy inside a composite, with everything that belongs to it.

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Address, Balancer, BuildOptions, CallEvent, CallId, CallRequest, ChildConfig, ClientConn,
    ConnectivityState, Dialer, NewSubConnError, NewSubConnOptions, Picker, Rejected, ResolveError,
    ResolvedAddrs, SubConn, SubConnState, TimerId, Timestamp, TransportCredentials,
    hash::{FixedMap, FixedSet, is_wasteful},
};

/// A policy inside a policy.
///
/// A composite (priority, outlier detection, a wrapper that counts) keeps one `Child` per child
/// policy and hands every callback on with [`handle`](Self::handle); the child says whether the
/// event was its own. What the child publishes is not published by the channel: the composite takes
/// it with [`take_output`](Self::take_output), usually in its own
/// [`settle`](crate::Balancer::settle), and makes a picker of its own with it.
///
/// A `Child` knows its SubConns, timers and calls, and cleans up after its policy when it is closed
/// or dropped. A graceful policy switch is two of them.
///
/// # Writing a composite
/// - Build the children when the configuration is known: in `build` from
///   [`BuildOptions::config`], or at the first resolver result ([`update`](Self::update)).
/// - Hand every event to each child until one says it is [mine](Handled::Mine); `ChildEvent` is
///   `Clone`. [`Settle`](ChildEvent::Settle) goes to all.
/// - While there is no child, the first resolver error is yours to answer: report
///   TRANSIENT_FAILURE with it, or RPCs hang.
/// - Drop duplicates from the endpoints before you divide them. A child whose share is empty
///   reports TRANSIENT_FAILURE and [`Rejected`]: leave it out.
/// - A child that has published nothing counts as CONNECTING. To make one state of many use
///   [`ConnectivityStateEvaluator`](crate::ConnectivityStateEvaluator).
/// - An endpoint that moves from one child to another is connected anew: SubConns belong to the
///   child that made them.
///
/// # Threads
/// Owned by the composite and used from its callbacks. The ClientConn that the child policy sees
/// may be used from any thread, like every other.
///
/// # Panics
/// A panic of the child policy passes through to the composite's caller.
///
/// # Example
/// A pass-through composite, whole; `examples/composite.rs` of this crate has one that counts.
///
/// ```
/// use balancer_api::*;
/// use std::sync::Arc;
///
/// struct PassThrough { cc: Arc<dyn ClientConn>, child: Child }
///
/// impl PassThrough {
///     fn new(cc: Arc<dyn ClientConn>, child: &ChildConfig, options: &BuildOptions) -> Self {
///         Self { child: Child::build(cc.clone(), child, options), cc }
///     }
/// }
///
/// impl Balancer for PassThrough {
///     fn handle_sub_conn_state_change(&mut self, sc: &SubConn, state: &SubConnState<'_>) {
///         self.child.handle(ChildEvent::SubConnState(sc, state));
///     }
///     fn handle_resolved_addrs(
///         &mut self,
///         resolved: Result<ResolvedAddrs, ResolveError>,
///     ) -> Result<(), Rejected> {
///         self.child.handle(ChildEvent::Resolved(resolved)).into_result()
///     }
///     fn handle_timer(&mut self, id: TimerId) {
///         self.child.handle(ChildEvent::Timer(id));
///     }
///     fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
///         self.child.handle(ChildEvent::Call(id, &event));
///     }
///     fn exit_idle(&mut self) {
///         self.child.exit_idle();
///     }
///     fn settle(&mut self) {
///         self.child.handle(ChildEvent::Settle);
///         if let Some((state, picker)) = self.child.take_output() {
///             self.cc.update_balancer_state(state, picker);
///         }
///     }
///     fn close(&mut self) {
///         self.child.close();
///     }
/// }
/// ```
pub struct Child {
    name: Arc<str>,
    config: Option<crate::LbConfig>,
    /// `None` once closed.
    balancer: Option<Box<dyn Balancer>>,
    conn: Arc<ChildConn>,
    /// Whether something happened since the last settle, so that an idle child costs nothing.
    dirty: bool,
}

/// Something for one of the children, handed to each until one says that it was its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildEvent<'a> {
    /// From [`Balancer::handle_sub_conn_state_change`].
    SubConnState(&'a SubConn, &'a SubConnState<'a>),
    /// From [`Balancer::handle_timer`].
    Timer(TimerId),
    /// From [`Balancer::handle_call_event`]; cloned for the child whose call it is.
    Call(CallId, &'a CallEvent),
    /// A resolver result for this child: its share of the endpoints. Where the result carries no
    /// configuration, the child is given the one of its [`ChildConfig`].
    Resolved(Result<ResolvedAddrs, ResolveError>),
    /// From [`Balancer::settle`]; costs nothing when the child has nothing to settle.
    Settle,
}

/// Whether an event belonged to the child.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an event that is not this child's may be another's"]
pub enum Handled {
    /// It did, and was handled.
    Mine,
    /// It did, and the child's policy rejects the resolver result.
    Rejected(Rejected),
    /// It belongs to another child, to the composite, or to nobody any more.
    NotMine,
}

/// The ClientConn that the child policy sees: notes what belongs to the child on its way to the
/// parent.
struct ChildConn {
    parent: Arc<dyn ClientConn>,
    owned: Mutex<Owned>,
    woken: AtomicBool,
    /// Whether a callback of the child runs, so that the composite's settle is still to come.
    running: AtomicBool,
}

/// Ends the running of a callback, also by a panic.
struct Running<'a>(&'a ChildConn);

/// Guarded by one lock, held across calls to the parent (which never calls back), so that an event
/// of a new timer cannot overtake the note that the timer is this child's. Lock order: child before
/// parent.
#[derive(Default)]
struct Owned {
    closed: bool,
    /// Made by the child and not removed by it, each with its number: a SubConn hashes by where it
    /// lies in memory, so the map's own order differs between runs.
    sub_conns: FixedMap<SubConn, u64>,
    made: u64,
    /// Removed; SHUTDOWN is still to come.
    leaving: FixedSet<SubConn>,
    timers: FixedSet<TimerId>,
    calls: FixedSet<CallId>,
    /// What the child published last.
    output: Option<(ConnectivityState, Arc<dyn Picker>)>,
    /// Whether that was not taken yet.
    fresh: bool,
    /// States published since the output was last taken, without repetitions.
    transitions: Vec<ConnectivityState>,
}

/// How many states that nobody took are remembered; older ones are forgotten.
const MAX_TRANSITIONS: usize = 64;

// === impl Child ===

impl Child {
    /// Builds the child policy that `config` names, for the composite's own `parent`.
    pub fn build(
        parent: Arc<dyn ClientConn>,
        config: &ChildConfig,
        options: &BuildOptions,
    ) -> Self {
        let conn = Arc::new(ChildConn {
            parent,
            owned: Mutex::default(),
            woken: AtomicBool::new(false),
            running: AtomicBool::new(false),
        });
        let running = Running::start(&conn);
        let balancer = config.builder().build(
            conn.clone(),
            options.clone().with_config(config.config().cloned()),
        );
        drop(running);
        Self {
            name: config.name().into(),
            config: config.config().cloned(),
            balancer: Some(balancer),
            conn,
            dirty: true,
        }
    }

    /// Sees to it that `slot` holds the child that `config` names: the one that is there, with its
    /// new configuration, or a new one in its place. What every composite does with each resolver
    /// result.
    pub fn update<'a>(
        slot: &'a mut Option<Self>,
        parent: &Arc<dyn ClientConn>,
        config: &ChildConfig,
        options: &BuildOptions,
    ) -> &'a mut Self {
        let kept = slot.take().filter(|child| child.name() == config.name());
        // A child that is not kept is closed by its drop, SubConns and all.
        let child =
            slot.insert(kept.unwrap_or_else(|| Self::build(parent.clone(), config, options)));
        child.set_config(config.config().cloned());
        child
    }

    /// The child policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a new configuration of the same policy; the child sees it with the next resolver
    /// result.
    pub fn set_config(&mut self, config: Option<crate::LbConfig>) {
        self.config = config;
    }

    /// Gives the event to the child if it is the child's, in constant time.
    ///
    /// SHUTDOWN of a SubConn that a closed child left behind is the child's, and is swallowed.
    #[allow(clippy::must_use_candidate)]
    pub fn handle(&mut self, event: ChildEvent<'_>) -> Handled {
        match event {
            ChildEvent::SubConnState(sub_conn, state) => {
                if !self.conn.owned().hears_of(sub_conn, state.state) {
                    return Handled::NotMine;
                }
                self.run(|balancer| balancer.handle_sub_conn_state_change(sub_conn, state));
                Handled::Mine
            }
            ChildEvent::Timer(id) => {
                if !self.conn.owned().timers.remove(&id) {
                    return Handled::NotMine;
                }
                self.run(|balancer| balancer.handle_timer(id));
                Handled::Mine
            }
            ChildEvent::Call(id, event) => {
                let mine = {
                    let mut owned = self.conn.owned();
                    if event.is_end() {
                        owned.calls.remove(&id)
                    } else {
                        owned.calls.contains(&id)
                    }
                };
                if !mine {
                    return Handled::NotMine;
                }
                self.run(|balancer| balancer.handle_call_event(id, event.clone()));
                Handled::Mine
            }
            ChildEvent::Resolved(resolved) => {
                let config = self.config.clone();
                let resolved = resolved.map(|resolved| match resolved.config {
                    Some(_) => resolved,
                    None => resolved.with_config(config),
                });
                match self.run(|balancer| balancer.handle_resolved_addrs(resolved)) {
                    Some(Err(rejected)) => Handled::Rejected(rejected),
                    Some(Ok(())) | None => Handled::Mine,
                }
            }
            ChildEvent::Settle => {
                let woken = self.conn.woken.swap(false, Ordering::AcqRel);
                let dirty = mem::take(&mut self.dirty) || woken;
                if let Some(balancer) = self.balancer.as_mut().filter(|_| dirty) {
                    let _running = Running::start(&self.conn);
                    balancer.settle();
                }
                Handled::Mine
            }
        }
    }

    /// Tells the child to connect if it is idle.
    pub fn exit_idle(&mut self) {
        self.run(|balancer| balancer.exit_idle());
    }

    /// The last state and picker that the child published since this was last called.
    pub fn take_output(&mut self) -> Option<(ConnectivityState, Arc<dyn Picker>)> {
        let mut owned = self.conn.owned();
        owned.transitions.clear();
        if mem::take(&mut owned.fresh) {
            owned.output.clone()
        } else {
            None
        }
    }

    /// The state that the child published last, whether it was taken or not; `None` before the
    /// first. A child that has published nothing yet counts as CONNECTING.
    pub fn state(&self) -> Option<ConnectivityState> {
        self.conn.owned().output.as_ref().map(|(state, _)| *state)
    }

    /// The picker that the child published last, whether it was taken or not.
    pub fn picker(&self) -> Option<Arc<dyn Picker>> {
        self.conn
            .owned()
            .output
            .as_ref()
            .map(|(_, picker)| picker.clone())
    }

    /// The states that the child went through since the output was last taken, without
    /// repetitions; the last one is that of the output. For a channel whose watchers must see every
    /// state; call it before [`take_output`](Self::take_output).
    pub fn transitions(&self) -> Vec<ConnectivityState> {
        self.conn.owned().transitions.clone()
    }

    /// Whether `sub_conn` was made by this child and its SHUTDOWN is not yet delivered.
    pub fn owns(&self, sub_conn: &SubConn) -> bool {
        let owned = self.conn.owned();
        owned.sub_conns.contains_key(sub_conn) || owned.leaving.contains(sub_conn)
    }

    /// How many SubConns of the child live.
    pub fn sub_conn_count(&self) -> usize {
        self.conn.owned().sub_conns.len()
    }

    /// Closes the child policy, removes its SubConns, cancels its timers and calls. What it asks of
    /// its ClientConn from now on has no effect. A second call does nothing.
    pub fn close(&mut self) {
        let Some(mut balancer) = self.balancer.take() else {
            return;
        };
        self.conn.owned().closed = true;
        // What it owned is given back even if its close or its Drop panics. Dropped in any case: it
        // holds its ClientConn, and by that the channel.
        let closed = catch_unwind(AssertUnwindSafe(|| balancer.close()));
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(balancer)));
        let closed = match (closed, dropped) {
            (Err(first), Err(second)) => {
                // Its Drop may be foreign code once more.
                mem::forget(second);
                Err(first)
            }
            (closed, dropped) => closed.and(dropped),
        };
        self.conn.release();
        if let Err(panic) = closed {
            resume_unwind(panic);
        }
    }

    /// Ends a child whose policy has panicked: like [`close`](Self::close), but the policy is not
    /// told, only dropped, and a panic of its Drop is swallowed. For channels; not to be called
    /// while unwinding.
    pub fn discard(mut self) {
        self.conn.owned().closed = true;
        let balancer = self.balancer.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(balancer)));
        self.conn.release();
    }

    fn run<R>(&mut self, callback: impl FnOnce(&mut dyn Balancer) -> R) -> Option<R> {
        let balancer = self.balancer.as_mut()?;
        self.dirty = true;
        let _running = Running::start(&self.conn);
        Some(callback(&mut **balancer))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic while unwinding aborts the process, so a policy is not run any more,
            // not even its own Drop: it is leaked. What it owned is given back all the same.
            mem::forget(self.balancer.take());
            self.conn.owned().closed = true;
            self.conn.release();
        } else {
            self.close();
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("closed", &self.balancer.is_none())
            .finish_non_exhaustive()
    }
}

// === impl Handled ===

impl Handled {
    /// For [`Balancer::handle_resolved_addrs`]: the child's rejection as the composite's own.
    ///
    /// # Errors
    /// The child rejected the result.
    pub fn into_result(self) -> Result<(), Rejected> {
        match self {
            Self::Rejected(rejected) => Err(rejected),
            Self::Mine | Self::NotMine => Ok(()),
        }
    }

    /// Whether the event was the child's.
    pub fn is_mine(&self) -> bool {
        !matches!(self, Self::NotMine)
    }
}

// === impl Running ===

impl<'a> Running<'a> {
    fn start(conn: &'a ChildConn) -> Self {
        conn.running.store(true, Ordering::SeqCst);
        Self(conn)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::SeqCst);
    }
}

// === impl ChildConn ===

impl ChildConn {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        // Every critical section leaves the sets consistent, so a panic in another one (of a
        // parent, say) does not spoil them.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back to the parent all that the child left behind.
    fn release(&self) {
        let (sub_conns, timers, calls, output) = {
            let mut owned = self.owned();
            let mut sub_conns: Vec<_> = mem::take(&mut owned.sub_conns).into_iter().collect();
            sub_conns.sort_unstable_by_key(|(_, number)| *number);
            let mut timers: Vec<_> = mem::take(&mut owned.timers).into_iter().collect();
            timers.sort_unstable();
            let mut calls: Vec<_> = mem::take(&mut owned.calls).into_iter().collect();
            calls.sort_unstable();
            for (sub_conn, _) in &sub_conns {
                owned.leaving.insert(sub_conn.clone());
            }
            owned.transitions.clear();
            (sub_conns, timers, calls, owned.output.take())
        };
        for id in calls {
            self.parent.cancel_call(id);
        }
        for id in timers {
            self.parent.cancel_timer(id);
        }
        for (sub_conn, _) in sub_conns {
            self.parent.remove_sub_conn(&sub_conn);
        }
        // Outside the lock: a picker's Drop is the policy's code.
        drop(output);
    }

    /// Runs `ask` unless the child is closed, under the lock.
    fn unless_closed<R>(&self, ask: impl FnOnce(&dyn ClientConn, &mut Owned) -> R) -> Option<R> {
        let mut owned = self.owned();
        if owned.closed {
            None
        } else {
            Some(ask(&*self.parent, &mut owned))
        }
    }
}

impl ClientConn for ChildConn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        self.unless_closed(|parent, owned| {
            let sub_conn = parent.new_sub_conn(addresses, options)?;
            owned.adopt(&sub_conn);
            Ok(sub_conn)
        })
        .unwrap_or(Err(NewSubConnError::Closed))
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        self.unless_closed(|parent, owned| {
            // Somebody else's SubConn is not this child's to remove.
            if owned.sub_conns.remove(sub_conn).is_some() {
                owned.shrink();
                owned.leaving.insert(sub_conn.clone());
                parent.remove_sub_conn(sub_conn);
            }
        });
    }

    fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>) {
        let replaced = self.unless_closed(|_, owned| {
            if state == ConnectivityState::Shutdown {
                return Some((state, picker));
            }
            if owned.transitions.last() != Some(&state) {
                if owned.transitions.len() == MAX_TRANSITIONS {
                    owned.transitions.remove(0);
                }
                owned.transitions.push(state);
            }
            owned.fresh = true;
            owned.output.replace((state, picker))
        });
        // Outside the lock: a picker's Drop is the policy's code.
        drop(replaced);
        // From another thread, nothing else would make the composite take the output. The flag is
        // looked at after the output is in place, so one of the two sees the other.
        if !self.running.load(Ordering::SeqCst) {
            self.unless_closed(|parent, _| parent.wake());
        }
    }

    fn target(&self) -> &str {
        self.parent.target()
    }

    fn resolve_now(&self) {
        self.unless_closed(|parent, _| parent.resolve_now());
    }

    fn now(&self) -> Timestamp {
        self.parent.now()
    }

    fn random(&self) -> u64 {
        self.parent.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        self.unless_closed(|parent, owned| {
            let id = parent.set_timer(after);
            owned.timers.insert(id);
            id
        })
        // Never given out by a parent, so it names nothing.
        .unwrap_or(TimerId::from_raw(u64::MAX))
    }

    fn cancel_timer(&self, id: TimerId) {
        self.unless_closed(|parent, owned| {
            if owned.timers.remove(&id) {
                parent.cancel_timer(id);
            }
        });
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.unless_closed(|parent, _| parent.wake());
        }
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        self.unless_closed(|parent, owned| {
            let id = parent.start_call(sub_conn, request);
            owned.calls.insert(id);
            id
        })
        .unwrap_or(CallId::from_raw(u64::MAX))
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.unless_closed(|parent, owned| {
            if owned.calls.contains(&id) {
                parent.send_call_message(id, message);
            }
        });
    }

    fn close_call_send(&self, id: CallId) {
        self.unless_closed(|parent, owned| {
            if owned.calls.contains(&id) {
                parent.close_call_send(id);
            }
        });
    }

    fn cancel_call(&self, id: CallId) {
        self.unless_closed(|parent, owned| {
            if owned.calls.remove(&id) {
                parent.cancel_call(id);
            }
        });
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        self.unless_closed(|parent, owned| {
            let sub_conn = parent.new_lookaside(target, credentials, dialer)?;
            owned.adopt(&sub_conn);
            Ok(sub_conn)
        })
        .unwrap_or(Err(NewSubConnError::Closed))
    }
}

// === impl Owned ===

impl Owned {
    fn adopt(&mut self, sub_conn: &SubConn) {
        self.sub_conns.insert(sub_conn.clone(), self.made);
        self.made += 1;
    }

    /// Whether the child owns `sub_conn`, which is now in `state`; SHUTDOWN ends that.
    fn hears_of(&mut self, sub_conn: &SubConn, state: ConnectivityState) -> bool {
        if state == ConnectivityState::Shutdown {
            let was = self.sub_conns.remove(sub_conn).is_some() | self.leaving.remove(sub_conn);
            self.shrink();
            was
        } else {
            self.sub_conns.contains_key(sub_conn) || self.leaving.contains(sub_conn)
        }
    }

    /// Gives back the room that a very long list has taken.
    fn shrink(&mut self) {
        if is_wasteful(self.sub_conns.len(), self.sub_conns.capacity()) {
            self.sub_conns.shrink_to(2 * self.sub_conns.len());
        }
        if is_wasteful(self.leaving.len(), self.leaving.capacity()) {
            self.leaving.shrink_to(2 * self.leaving.len());
        }
    }
}
