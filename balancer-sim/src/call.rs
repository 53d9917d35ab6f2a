//! An RPC: picks, waits, sends, is sent again where that is allowed, and ends.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use balancer_api::{Code, ConnectivityState, DoneInfo, PickError, PickOptions, Status, Timestamp};
use balancer_channel_core::{Attempt, BoxFuture, Core, PickOutcome};
use futures_util::future::{AbortHandle, Abortable, Either, select};

use crate::{
    book::{Asked, Book, Tag},
    env::SimEnv,
    fault::Fault,
    law::Law,
    net::{SimConnection, StreamEnd},
    sabotage::Sabotage,
    sim::{Owner, Sim, lock},
};

/// What an RPC is to be like.
#[derive(Clone, Debug)]
pub(crate) struct CallPlan {
    pub(crate) wait_for_ready: bool,
    pub(crate) timeout: Duration,
    /// How often it is tried, transparent retries aside.
    pub(crate) attempts: u32,
    pub(crate) fate: Fate,
    /// The world is good: it has no excuse.
    pub(crate) must_succeed: bool,
    /// No connection is lost in this world: what is sent is answered.
    pub(crate) calm: bool,
}

/// What its application does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Waits,
    DropsAfter(Duration),
    /// Drops it when it is polled for this time.
    DropsAtPoll(u32),
}

/// The RPCs of a world.
pub(crate) struct Calls {
    sim: Arc<Sim>,
    book: Arc<Book>,
    /// Whether RPCs may end with CANCELLED.
    pub(crate) closed: AtomicBool,
    /// Whether they may end with RESOURCE_EXHAUSTED.
    crowded: bool,
    records: Mutex<BTreeMap<u64, Record>>,
    ended: Mutex<BTreeMap<Code, u64>>,
}

struct Record {
    deadline: Timestamp,
    /// The generation that it waits to see followed.
    waits: Option<u64>,
}

/// In flight until it is dropped.
struct InFlight {
    calls: Arc<Calls>,
    id: u64,
    plan: CallPlan,
    outcome: Option<Status>,
}

/// In the count of those that wait.
struct Waiting<'a>(&'a InFlight);

/// Drops a future when it has been polled often enough.
struct DropsAtPoll {
    inner: Option<BoxFuture<()>>,
    left: u32,
}

/// Tries that never left are repeated at once so often; then after pauses.
const EAGER: u32 = 3;

/// So many tries that never left are no accident.
const STUBBORN: u32 = 200;

// === impl Calls ===

impl Calls {
    pub(crate) fn new(sim: &Arc<Sim>, book: &Arc<Book>, crowded: bool) -> Arc<Self> {
        Arc::new(Self {
            sim: sim.clone(),
            book: book.clone(),
            closed: AtomicBool::new(false),
            crowded,
            records: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    /// Starts an RPC.
    pub(crate) fn start(self: &Arc<Self>, core: &Core<SimEnv>, plan: &CallPlan) {
        let id = self.sim.id();
        let deadline = self.sim.now() + plan.timeout;
        let record = Record {
            deadline,
            waits: None,
        };
        lock(&self.records).insert(id, record);
        self.sim.in_flight.fetch_add(1, Ordering::Relaxed);
        let wait = if plan.wait_for_ready { ", waits" } else { "" };
        let timeout = plan.timeout;
        self.sim.tell(format_args!("r{id}: for {timeout:?}{wait}"));
        let mut call = InFlight {
            calls: self.clone(),
            id,
            plan: plan.clone(),
            outcome: None,
        };
        let core = core.clone();
        let task: BoxFuture<()> = Box::pin(async move {
            let late = call.calls.sim.sleep_until(deadline);
            let outcome = {
                let work = pin!(call.work(&core));
                match select(work, late).await {
                    Either::Left((outcome, _)) => outcome,
                    Either::Right(_) => Status::new(Code::DeadlineExceeded, "too late"),
                }
            };
            drop(core);
            call.outcome = Some(outcome);
            call.end();
        });
        let task: BoxFuture<()> = match plan.fate {
            Fate::Waits => task,
            Fate::DropsAtPoll(left) => Box::pin(DropsAtPoll {
                inner: Some(task),
                left,
            }),
            Fate::DropsAfter(time) => {
                let (abort, registration) = AbortHandle::new_pair();
                self.sim.after(time, move || abort.abort());
                Box::pin(async move {
                    let _ = Abortable::new(task, registration).await;
                })
            }
        };
        self.sim.spawn(Owner::Call, task);
    }

    /// How the RPCs ended.
    pub(crate) fn ended(&self) -> BTreeMap<Code, u64> {
        lock(&self.ended).clone()
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.records).len()
    }

    /// When everything waits: does each RPC wait for something that is still to come?
    pub(crate) fn check(&self, core: &Core<SimEnv>) {
        let now = self.sim.now();
        let waiting: Vec<(u64, Timestamp, Option<u64>)> = lock(&self.records)
            .iter()
            .map(|(id, it)| (*id, it.deadline, it.waits))
            .collect();
        for (id, deadline, waits) in waiting {
            if deadline < now {
                let late = now - deadline;
                let what = format_args!("r{id} goes on {late:?} after its deadline");
                self.sim.fail(Law::Ends, what);
            }
            if let Some(generation) = waits {
                let mut next = pin!(core.next_picker(generation));
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                if let Poll::Ready(Ok(())) = next.as_mut().poll(&mut cx) {
                    let what = format_args!("r{id} sleeps though picker {generation} was followed");
                    self.sim.fail(Law::Ends, what);
                }
            }
        }
    }
}

// === impl InFlight ===

impl InFlight {
    async fn work(&self, core: &Core<SimEnv>) -> Status {
        let Calls { sim, book, .. } = &*self.calls;
        let (mut tried, mut picks, mut unsent) = (Vec::new(), 0, 0);
        let (mut refused, mut attempts) = (false, 1);
        let mut seen = 0;
        loop {
            let options = PickOptions::new("/service/method")
                .with_wait_for_ready(self.plan.wait_for_ready)
                .with_attempt(picks, &tried)
                .with_source(core.source());
            book.take_asked();
            let outcome = core.current().pick(&options);
            self.check_pick(&outcome, book.take_asked());
            let attempt = match outcome {
                PickOutcome::Complete(attempt) => attempt,
                PickOutcome::Wait { generation, .. } => {
                    if generation < seen {
                        let what = format_args!("generation {generation} after {seen}");
                        sim.fail(Law::Ends, what);
                    }
                    seen = generation;
                    let waiting = Waiting::new(self, generation);
                    let full = core.next_picker(generation).await.is_err();
                    drop(waiting);
                    if full {
                        sim.hit(Fault::QueueFull, 1);
                        return Status::new(Code::ResourceExhausted, "too many wait");
                    }
                    continue;
                }
                PickOutcome::Fail(PickError::Drop(status)) => return (*status).clone(),
                PickOutcome::Fail(error) => {
                    let status = Status::unavailable(error.to_string());
                    if attempts >= self.plan.attempts {
                        return status;
                    }
                    attempts += 1;
                    self.pause(Duration::from_millis(30)).await;
                    continue;
                }
                PickOutcome::Closed(status) => return status,
            };
            let sub_conn = attempt.sub_conn.clone();
            self.check_ready(core, &attempt);
            let (status, again) = self.send(core, attempt).await;
            let lost = status.code() != Code::Ok && matches!(again, Again::No | Again::ByPolicy);
            if self.plan.calm && lost && !self.calls.closed.load(Ordering::Relaxed) {
                let what = format_args!("r{}: {status}, and nothing but drains", self.id);
                sim.fail(Law::Recovers, what);
            }
            picks += 1;
            if !tried.contains(&sub_conn) {
                tried.push(sub_conn);
            }
            match again {
                Again::NotSent => {
                    unsent += 1;
                    if unsent > STUBBORN {
                        let what = format_args!("r{} did not leave {unsent} times", self.id);
                        sim.fail(Law::Progress, what);
                        return status;
                    }
                    if unsent > EAGER {
                        self.pause(Duration::from_millis(u64::from(unsent.min(100))))
                            .await;
                    } else {
                        yield_now().await;
                    }
                }
                Again::Refused if !std::mem::replace(&mut refused, true) => {}
                Again::No => return status,
                Again::Refused | Again::ByPolicy => {
                    if attempts >= self.plan.attempts || status.code() != Code::Unavailable {
                        return status;
                    }
                    attempts += 1;
                    self.pause(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn pause(&self, time: Duration) {
        let sim = &self.calls.sim;
        sim.sleep_until(sim.now() + time).await;
    }

    /// On a connection, until the stream has ended.
    async fn send(&self, core: &Core<SimEnv>, attempt: Attempt<SimConnection>) -> (Status, Again) {
        let sim = &self.calls.sim;
        let Attempt {
            connection, done, ..
        } = attempt;
        let id = connection.id();
        let opened = connection.open().await;
        drop(connection);
        let (end, begun) = match opened {
            Ok(stream) => {
                let number = stream.number();
                sim.tell(format_args!("r{}: on c{id}/{number}", self.id));
                let end = stream.end().await;
                (end, stream.has_begun())
            }
            Err(end) => (end, false),
        };
        let (status, again) = match end {
            StreamEnd::Good => (Status::new(Code::Ok, ""), Again::No),
            StreamEnd::Status(status) => (status, Again::ByPolicy),
            StreamEnd::Reset => (Status::unavailable("reset"), Again::ByPolicy),
            StreamEnd::Refused => (Status::unavailable("refused"), Again::Refused),
            StreamEnd::Lost(status) => (status, Again::ByPolicy),
            StreamEnd::Aborted(status) => (status, Again::No),
            StreamEnd::NotSent => (Status::unavailable("not sent"), Again::NotSent),
        };
        // What has begun to be answered is not sent again.
        let committed = begun && !matches!(again, Again::Refused | Again::NotSent);
        let again = if committed { Again::No } else { again };
        let info = DoneInfo::new().with_source(core.source());
        if status.code() == Code::Ok {
            done.complete(&info);
        } else if sim.is_sabotaged(Sabotage::ForgottenDone, 10) {
            std::mem::forget(done);
        } else if self.id.is_multiple_of(7) {
            // Some leave it to the drop.
            drop(done);
        } else {
            done.complete(&info.with_err(&status));
        }
        (status, again)
    }

    /// The table of the pick loop: what the picker said, and what the channel makes of it.
    fn check_pick(&self, outcome: &PickOutcome<SimConnection>, asked: Option<Asked>) {
        let Calls { sim, book, .. } = &*self.calls;
        let waits = matches!(outcome, PickOutcome::Wait { .. });
        let internal = matches!(
            outcome,
            PickOutcome::Fail(PickError::Drop(status)) if status.code() == Code::Internal
        );
        let right = match &asked {
            Some(Asked::Good { sub_conn, token }) => match outcome {
                PickOutcome::Complete(attempt) => {
                    attempt.sub_conn == *sub_conn && book.dones(*token) == 0
                }
                // Not READY: told at once that nothing was sent.
                PickOutcome::Wait { .. } => book.dones(*token) == 1,
                _ => false,
            },
            Some(Asked::Foreign { token }) => internal && book.dones(*token) == 1,
            Some(Asked::Panicked) => internal,
            Some(Asked::Queue) => waits,
            Some(Asked::TransientFailure) => {
                waits == self.plan.wait_for_ready
                    && (waits || matches!(outcome, PickOutcome::Fail(_)))
            }
            // The channel's own picker, or none.
            None => match outcome {
                PickOutcome::Wait { .. } => true,
                PickOutcome::Closed(_) => self.calls.closed.load(Ordering::Relaxed),
                PickOutcome::Fail(PickError::Drop(status)) => {
                    status.code() == Code::Unavailable || (internal && book.is_wild())
                }
                _ => false,
            },
        };
        if !right {
            let what = format_args!("r{}: picker said {asked:?}, so {outcome:?}", self.id);
            sim.fail(Law::Ready, what);
        }
    }

    /// It may be sent: the channel, too, holds the SubConn for READY, with this connection.
    fn check_ready(&self, core: &Core<SimEnv>, attempt: &Attempt<SimConnection>) {
        let address = attempt.connection.address();
        let snapshot = core.snapshot();
        let ready = snapshot.sub_conns.iter().any(|it| {
            it.state == ConnectivityState::Ready
                && it.connected.as_ref().is_some_and(|at| at.addr() == address)
                && it.addresses.iter().any(|at| {
                    at.balancer_attributes().get::<Tag>().is_some() && at.addr() == address
                })
        });
        if !ready {
            let id = self.id;
            let what = format_args!("r{id}: sent to {address}, which is no READY SubConn");
            self.calls.sim.fail(Law::Ready, what);
        }
    }

    /// It has ended: is that how it may end?
    fn end(&self) {
        let Calls { sim, book, .. } = &*self.calls;
        let id = self.id;
        let Some(status) = &self.outcome else { return };
        let closed = self.calls.closed.load(Ordering::Relaxed);
        sim.tell(format_args!("r{id}: {status}"));
        *lock(&self.calls.ended).entry(status.code()).or_default() += 1;
        let legal = match status.code() {
            Code::Ok | Code::DeadlineExceeded | Code::Unavailable => true,
            Code::Cancelled => closed,
            Code::Internal => book.is_wild(),
            Code::ResourceExhausted => self.calls.crowded,
            _ => false,
        };
        if status.code() == Code::DeadlineExceeded {
            sim.hit(Fault::Deadline, 1);
        }
        if !legal {
            sim.fail(Law::Ends, format_args!("r{id} ended with {status}"));
        }
        if self.plan.must_succeed && status.code() != Code::Ok && !closed {
            let what = format_args!("r{id} ended with {status} though all is well");
            sim.fail(Law::Recovers, what);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let sim = &self.calls.sim;
        lock(&self.calls.records).remove(&self.id);
        sim.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.outcome.is_none() {
            sim.hit(Fault::RpcDropped, 1);
            sim.tell(format_args!("r{}: dropped", self.id));
        }
    }
}

/// Whether it may be sent again.
enum Again {
    No,
    /// It never left.
    NotSent,
    /// No application has seen it: once.
    Refused,
    /// If the retry policy says so.
    ByPolicy,
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn new(call: &'a InFlight, generation: u64) -> Self {
        call.calls.sim.waiting.fetch_add(1, Ordering::Relaxed);
        Self::set(call, Some(generation));
        Self(call)
    }

    fn set(call: &InFlight, waits: Option<u64>) {
        if let Some(record) = lock(&call.calls.records).get_mut(&call.id) {
            record.waits = waits;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.calls.sim.waiting.fetch_sub(1, Ordering::Relaxed);
        Self::set(self.0, None);
    }
}

// === impl DropsAtPoll ===

impl Future for DropsAtPoll {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.left == 0 {
            self.inner = None;
            return Poll::Ready(());
        }
        self.left -= 1;
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// Lets the others run.
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
