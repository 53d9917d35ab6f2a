//! The balancer's task: one FIFO in, callbacks and pickers out.

mod calls;
mod close;
mod growth;
mod health;
mod idle;
mod policy;
mod resolve;
mod sub_conns;
mod timers;

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    task::Poll,
};

use balancer_api::{
    CallId, Code, ConnectivityState, Picker, ResolveError, ResolvedAddrs, Status, Timestamp,
};
use tracing::Instrument as _;

use self::{
    calls::Call,
    policy::{Instance, Rebuild, Repick},
    resolve::Driver,
    sub_conns::{Delivery, SubEntry},
    timers::{TimerKey, Timers},
};
use crate::{
    by_id::ById,
    chatter::Chatter,
    contain::discard,
    env::{Env, ParsedConfig},
    machine::{Action, AttemptId, Pacing},
    picker_cell::Published,
    queue::{CloseMode, Item},
    shared::Shared,
    sync::Arc,
};

/// How many events are handled before the policy may settle and the executor gets its thread back.
const BURST: usize = 128;

pub(crate) struct Actor<E: Env> {
    shared: Arc<Shared<E>>,
    /// When it last looked at the clock: at what it handles now, or at the end of a callback. What a
    /// callback has asked for, 100,000 SubConns perhaps, happens at one time.
    clock: Timestamp,
    timers: Timers,

    /// Boxed: a map has room to spare.
    sub_conns: ById<Box<SubEntry<E::Connection>>>,
    /// Empty lists, to be used again: each event of each SubConn needs one for a moment.
    spare: Vec<Vec<Action>>,
    /// State changes on their way to the policy, in order.
    deliveries: VecDeque<Delivery>,
    /// Attempts that run and count, and those that wait for a permit.
    connecting: usize,
    dial_queue: VecDeque<(u64, AttemptId)>,
    pacing: Arc<Pacing>,

    current: Option<Instance>,
    pending: Option<Instance>,
    next_instance: u64,
    rebuild: Rebuild,
    repick: Repick,
    /// Whether something happened since the last settle.
    unsettled: bool,
    /// Whether a policy has moved since the last look at a switch.
    moved: bool,
    /// Whether RPCs are to see a new service config, with or without a new picker.
    reconfigured: bool,

    config: Option<ParsedConfig<E::RpcConfig>>,
    /// The last list or error that was, or would have been, given to a policy.
    resolved: Option<Result<ResolvedAddrs, ResolveError>>,
    driver: Option<Driver>,
    next_driver: u64,

    calls: BTreeMap<CallId, Call>,
    /// Numbers the calls that ask for health.
    next_watch: u64,

    /// How often in a row it was looked for RPCs in vain.
    quiet: u32,
    /// How often peers had the time between pings doubled.
    keepalive_doublings: u32,
    warm_up: WarmUp,
    /// Replaced publications that somebody may still hold. Dropping the last reference to a picker
    /// of 100,000 SubConns is work for this task, never for an RPC's.
    retired: Vec<Arc<Published<E::RpcConfig>>>,
    closing: Option<CloseMode>,
    /// For the channel's own states.
    chatter: Chatter,
}

/// The first READY picker may be held for a while.
enum WarmUp {
    /// Not asked for, or over.
    Off,
    /// Waiting for the first READY picker.
    Armed(std::time::Duration),
    /// Holding it.
    Holding(Arc<dyn Picker>),
}

// === impl Actor ===

impl<E: Env> Actor<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        let pacing = Arc::new(Pacing {
            backoff: shared.settings.backoff.clone(),
            min_connect_timeout: shared.settings.min_connect_timeout,
        });
        let warm_up = shared.settings.warm_up.map_or(WarmUp::Off, WarmUp::Armed);
        Self {
            clock: shared.env.now(),
            timers: Timers::new(),
            sub_conns: ById::default(),
            spare: Vec::new(),
            deliveries: VecDeque::new(),
            connecting: 0,
            dial_queue: VecDeque::new(),
            pacing,
            current: None,
            pending: None,
            next_instance: 1,
            rebuild: Rebuild::default(),
            repick: Repick::default(),
            unsettled: false,
            moved: false,
            reconfigured: false,
            config: None,
            resolved: None,
            driver: None,
            next_driver: 1,
            calls: BTreeMap::new(),
            next_watch: 1,
            quiet: 0,
            keepalive_doublings: 0,
            warm_up,
            retired: Vec::new(),
            closing: None,
            chatter: Chatter::default(),
            shared,
        }
    }

    /// Handles everything that happens to the channel, until it is closed.
    ///
    /// A future that is dropped before its first poll, with its runtime, tells those who wait all
    /// the same.
    pub(crate) fn run(self) -> impl Future<Output = ()> {
        let abandoned = Abandoned(self.shared.clone());
        // Whatever is told of a channel says of which.
        let span = tracing::info_span!("channel", target_name = %self.shared.settings.target);
        self.work(abandoned).instrument(span)
    }

    async fn work(mut self, _abandoned: Abandoned<E>) {
        loop {
            poll_fn(|cx| {
                let due = self.timers.poll_due(&*self.shared.env, cx);
                if self.shared.queue.poll_ready(cx).is_ready() || due {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            while self.burst() {
                yield_now().await;
            }
            if self.is_closed() {
                break;
            }
        }
        self.finish().await;
    }

    /// Handles a run of events and settles. Answers whether there is more to do at once.
    fn burst(&mut self) -> bool {
        let mut busy = true;
        for turn in 0..BURST {
            // What an item caused comes before the next item, but for the last turn: a policy whose
            // callbacks never end to cause new ones must not keep the channel from closing.
            let fair = turn + 1 == BURST;
            if let Some(item) = fair.then(|| self.shared.queue.pop()).flatten() {
                self.look();
                self.handle(item);
            } else if let Some(delivery) = self.deliveries.pop_front() {
                self.deliver(delivery);
            } else if let Some(key) = self.next_due() {
                self.fire(key);
            } else if let Some(item) = self.shared.queue.pop() {
                self.handle(item);
            } else {
                busy = false;
                break;
            }
            if self.is_closed() {
                // No callback any more.
                return false;
            }
        }
        self.settle();
        self.start_dials();
        if self.deliveries.is_empty() {
            self.deliveries.shrink_to(BURST);
        }
        if self.dial_queue.is_empty() {
            self.dial_queue.shrink_to(BURST);
        }
        self.drop_retired();
        // The policy's settle may have caused more.
        busy || self.unsettled || !self.deliveries.is_empty()
    }

    /// Looks at the clock.
    fn look(&mut self) -> Timestamp {
        self.clock = self.shared.env.now();
        self.clock
    }

    fn next_due(&mut self) -> Option<TimerKey> {
        let now = self.look();
        self.timers.pop_due(now)
    }

    /// Drops the replaced publications that nobody uses any more.
    fn drop_retired(&mut self) {
        let unused = |published: &mut Arc<_>| Arc::strong_count(published) == 1;
        // A picker's Drop is the policy's code.
        self.retired.extract_if(.., unused).for_each(discard);
    }

    /// Handles one item. Never calls the policy for what the policy itself asked: that would
    /// re-enter it.
    fn handle(&mut self, item: Item<E::Connection>) {
        match item {
            Item::NewSubConn(sub_conn, cell) => self.new_sub_conn(sub_conn, cell),
            Item::RemoveSubConn(id) => self.remove_sub_conn(id),
            Item::ConnectSubConn(id) => self.drive(id, |machine, now, random, out| {
                machine.connect(now, random, out);
            }),
            Item::UpdateAddresses(id, addresses) => self.update_addresses(id, addresses),
            Item::ResolveNow { instance } => self.resolve_now_from(instance),
            Item::SetTimer { instance, id, at } => {
                self.timers.arm(TimerKey::Policy { id, instance }, at);
            }
            Item::CancelTimer { instance, id } => {
                self.timers.disarm(TimerKey::Policy { id, instance });
            }
            Item::Wake => {
                // Before the settle: a wake from now on is for the next one.
                self.shared
                    .wake_queued
                    .store(false, crate::sync::Ordering::SeqCst);
                self.unsettled = true;
            }
            Item::StartCall {
                instance,
                id,
                sub_conn,
                request,
            } => {
                self.start_call(instance, id, &sub_conn, *request);
            }
            Item::SendCallMessage(id, message) => self.send_call_message(id, message),
            Item::CloseCallSend(id) => self.close_call_send(id),
            Item::CancelCall(id) => self.cancel_call(id),

            Item::Dialled(id, attempt, result) => self.dialled(id, attempt, result),
            Item::Lost(id, attempt, lost) => self.lost(id, attempt, lost),
            Item::Crowded(id) => self.crowded(id),
            Item::CallEvent(id, event, permit) => self.call_event(id, *event, permit),
            Item::Health(id, watch, event, permit) => {
                self.health_event(id, watch, &event);
                drop(permit);
            }
            Item::Resolved(driver, result, verdict) => {
                // Nobody listens any more when the channel went idle in between.
                if self.is_driven_by(driver) {
                    let answer = self.handle_resolution(*result);
                    let _ = verdict.send(answer);
                }
            }
            Item::PickerPanicked {
                generation,
                message,
            } => {
                self.picker_panicked(generation, &message);
            }

            Item::ExitIdle => self.exit_idle(),
            Item::EnterIdle => self.enter_idle(),
            Item::ResetBackoff => self.reset_backoff(),
            Item::Close(mode) => self.closing = Some(mode),
        }
    }

    fn reset_backoff(&mut self) {
        for id in self.ids() {
            self.drive(id, |machine, now, random, out| {
                machine.reset_backoff(now, random, out)
            });
        }
        if let Some(driver) = &self.driver {
            driver.reset_backoff();
        }
        self.rebuild_calmed();
    }
}

impl<E: Env> Drop for Actor<E> {
    fn drop(&mut self) {
        // Only where the task was dropped before its end is there anything left.
        let policies = (self.pending.take(), self.current.take());
        let pickers = (
            std::mem::replace(&mut self.warm_up, WarmUp::Off),
            std::mem::take(&mut self.retired),
        );
        if std::thread::panicking() {
            // A second panic, in a policy's Drop, would abort the process.
            std::mem::forget((policies, pickers));
        } else {
            discard(policies.0);
            discard(policies.1);
            discard(pickers);
        }
    }
}

/// Whatever ends the balancer's task (a runtime that shuts down, an error of ours): no RPC is left
/// waiting for a task that is gone.
struct Abandoned<E: Env>(Arc<Shared<E>>);

impl<E: Env> Drop for Abandoned<E> {
    fn drop(&mut self) {
        // After an orderly end all of this is done already and does nothing.
        let status = Status::new(Code::Internal, "the balancer's task was dropped");
        let before = self.0.cell.close(status);
        self.0.watch.set(ConnectivityState::Shutdown);
        self.0.queue.close();
        if std::thread::panicking() {
            // A picker's Drop that panicked now would abort the process.
            std::mem::forget(before);
        } else {
            discard(before);
        }
    }
}

/// Lets the executor run something else.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
