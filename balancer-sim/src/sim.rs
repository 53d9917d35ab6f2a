//! One thread, virtual time: clock, tasks, what is due, and the story of what happened.
//!
//! Nothing runs but here. Of the tasks that can go on, chance chooses the next, so that every seed
//! is another interleaving and the same seed is the same one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use balancer_api::Timestamp;
use balancer_channel_core::BoxFuture;

use crate::{
    fault::{Fault, Hits},
    law::{Law, Violation},
    rng::Rng,
    sabotage::Sabotage,
};

/// Locks; what a panic left behind is still good enough to be told.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clock, tasks, story.
pub(crate) struct Sim {
    exec: Mutex<Exec>,
    story: Mutex<Story>,
    /// RPCs that have not ended, and those of them that wait for a picker.
    pub(crate) in_flight: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    sabotage: Option<Sabotage>,
    sabotaged: AtomicUsize,
}

/// Whose task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The channel's: must be gone when the channel is.
    Channel,
    /// An RPC of the application.
    Call,
}

/// Something that happens at its time.
type Event = Box<dyn FnOnce() + Send>;

enum Due {
    Wake(Waker),
    Happen(Event),
}

struct Exec {
    now: Timestamp,
    /// The future is away while it is polled.
    tasks: BTreeMap<u64, (Owner, Option<BoxFuture<()>>)>,
    ready: Vec<u64>,
    queued: BTreeSet<u64>,
    due: BTreeMap<(Timestamp, u64), Due>,
    next: u64,
    rng: Rng,
    polls: u64,
    /// Events happen at multiples of this.
    grid: u64,
}

struct Story {
    lines: Vec<(Timestamp, String)>,
    hash: u64,
    hits: Hits,
    violation: Option<Violation>,
    echo: bool,
}

struct TaskWaker {
    sim: Arc<Sim>,
    task: u64,
}

struct Sleep {
    sim: Arc<Sim>,
    key: (Timestamp, u64),
}

/// So many polls at one instant are a spin.
const SPIN: usize = 200_000;

// === impl Sim ===

impl Sim {
    /// `echo`: the story is printed while it happens. `grid`: what the network and the script do
    /// happens at multiples of it, so that much happens at once.
    pub(crate) fn new(
        seed: u64,
        echo: bool,
        grid: Duration,
        sabotage: Option<Sabotage>,
    ) -> Arc<Self> {
        Arc::new(Self {
            exec: Mutex::new(Exec {
                now: Timestamp::ZERO,
                tasks: BTreeMap::new(),
                ready: Vec::new(),
                queued: BTreeSet::new(),
                due: BTreeMap::new(),
                next: 0,
                rng: Rng::new(seed, 1),
                polls: 0,
                grid: u64::try_from(grid.as_nanos()).unwrap_or(1).max(1),
            }),
            story: Mutex::new(Story {
                lines: Vec::new(),
                hash: 0xcbf2_9ce4_8422_2325,
                hits: Hits::default(),
                violation: None,
                echo,
            }),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            sabotage,
            sabotaged: AtomicUsize::new(0),
        })
    }

    /// Whether this part is broken on purpose, and now is a time to show it: one in `often`.
    pub(crate) fn is_sabotaged(&self, how: Sabotage, often: usize) -> bool {
        self.sabotage == Some(how)
            && self.sabotaged.fetch_add(1, Ordering::Relaxed) % often == often - 1
    }

    pub(crate) fn now(&self) -> Timestamp {
        lock(&self.exec).now
    }

    pub(crate) fn random(&self) -> u64 {
        lock(&self.exec).rng.next()
    }

    /// A number that no other thing of this world has.
    pub(crate) fn id(&self) -> u64 {
        lock(&self.exec).id()
    }

    pub(crate) fn spawn(&self, owner: Owner, task: BoxFuture<()>) {
        let mut exec = lock(&self.exec);
        let id = exec.id();
        exec.tasks.insert(id, (owner, Some(task)));
        exec.wake(id);
    }

    pub(crate) fn sleep_until(self: &Arc<Self>, at: Timestamp) -> BoxFuture<()> {
        let key = (at, self.id());
        Box::pin(Sleep {
            sim: self.clone(),
            key,
        })
    }

    /// Lets `event` happen after `wait`.
    pub(crate) fn after(&self, wait: Duration, event: impl FnOnce() + Send + 'static) {
        let at = self.now() + wait;
        self.at(at, event);
    }

    pub(crate) fn at(&self, at: Timestamp, event: impl FnOnce() + Send + 'static) {
        let mut exec = lock(&self.exec);
        let id = exec.id();
        let at = at.max(exec.now).as_nanos().next_multiple_of(exec.grid);
        let at = Timestamp::from_nanos(at);
        exec.due.insert((at, id), Due::Happen(Box::new(event)));
    }

    /// Somebody blocks the thread: time passes and nothing happens.
    pub(crate) fn block(&self, time: Duration) {
        let mut exec = lock(&self.exec);
        exec.now = exec.now + time;
    }

    /// How many tasks of this owner live.
    pub(crate) fn tasks(&self, owner: Owner) -> usize {
        let exec = lock(&self.exec);
        exec.tasks.values().filter(|(of, _)| *of == owner).count()
    }

    /// How many sleeps are waited for.
    pub(crate) fn sleepers(&self) -> usize {
        let exec = lock(&self.exec);
        let sleeps = |due: &&Due| matches!(due, Due::Wake(_));
        exec.due.values().filter(sleeps).count()
    }

    pub(crate) fn polls(&self) -> u64 {
        lock(&self.exec).polls
    }

    /// Runs tasks until each waits for something.
    pub(crate) fn run(self: &Arc<Self>) {
        for _ in 0..SPIN {
            if !self.step() {
                return;
            }
        }
        self.fail(Law::Progress, format_args!("the tasks spin"));
    }

    fn step(self: &Arc<Self>) -> bool {
        let (task, mut future) = {
            let mut exec = lock(&self.exec);
            let Some(task) = exec.pop() else {
                return false;
            };
            exec.polls += 1;
            match exec.tasks.get_mut(&task).and_then(|(_, it)| it.take()) {
                Some(future) => (task, future),
                None => return true,
            }
        };
        let waker = Waker::from(Arc::new(TaskWaker {
            sim: self.clone(),
            task,
        }));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                drop(future);
                lock(&self.exec).tasks.remove(&task);
            }
            Poll::Pending => {
                if let Some((_, place)) = lock(&self.exec).tasks.get_mut(&task) {
                    *place = Some(future);
                }
            }
        }
        true
    }

    /// Moves the clock to what is due next and lets it happen, but runs nothing. False when nothing
    /// is due before `end`: then the clock stands at `end`.
    pub(crate) fn advance(&self, end: Timestamp) -> bool {
        let mut happening = Vec::new();
        {
            let mut exec = lock(&self.exec);
            let Some((&(at, _), _)) = exec.due.first_key_value() else {
                exec.now = exec.now.max(end);
                return false;
            };
            if at > end {
                exec.now = exec.now.max(end);
                return false;
            }
            // A blocked thread finds late what was due meanwhile.
            exec.now = exec.now.max(at);
            while let Some(first) = exec.due.first_entry()
                && first.key().0 <= at
            {
                happening.push(first.remove());
            }
        }
        for due in happening {
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Happen(event) => event(),
            }
        }
        true
    }

    /// Whether something was due before now and has not happened.
    pub(crate) fn is_behind(&self) -> bool {
        let exec = lock(&self.exec);
        let first = exec.due.first_key_value();
        first.is_some_and(|((at, _), _)| *at <= exec.now)
    }

    /// Drops every task and everything that is due, as after a panic.
    pub(crate) fn abandon(&self) {
        let (tasks, due) = {
            let mut exec = lock(&self.exec);
            exec.ready.clear();
            (
                std::mem::take(&mut exec.tasks),
                std::mem::take(&mut exec.due),
            )
        };
        drop((tasks, due));
    }
}

/// The story.
impl Sim {
    pub(crate) fn tell(&self, line: fmt::Arguments<'_>) {
        let now = self.now();
        let mut story = lock(&self.story);
        let line = line.to_string();
        if story.echo {
            println!("{:>12.6}  {line}", now.as_nanos() as f64 / 1e9);
        }
        for byte in now.as_nanos().to_le_bytes().into_iter().chain(line.bytes()) {
            story.hash = (story.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        story.lines.push((now, line));
    }

    /// A law is broken. The first counts.
    pub(crate) fn fail(&self, law: Law, what: fmt::Arguments<'_>) {
        self.tell(format_args!("!! {law}: {what}"));
        let at = self.now();
        let mut story = lock(&self.story);
        story.violation.get_or_insert_with(|| Violation {
            law,
            at,
            what: what.to_string(),
        });
    }

    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.story).violation.is_some()
    }

    pub(crate) fn hit(&self, fault: Fault, rpcs: usize) {
        lock(&self.story).hits.add(fault, rpcs);
    }

    /// It concerns every RPC in flight.
    pub(crate) fn hit_all(&self, fault: Fault) {
        self.hit(fault, self.in_flight.load(Ordering::Relaxed));
    }

    pub(crate) fn hash(&self) -> u64 {
        lock(&self.story).hash
    }

    pub(crate) fn hits(&self) -> Hits {
        lock(&self.story).hits.clone()
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.story).violation.clone()
    }

    pub(crate) fn lines(&self) -> Vec<(Timestamp, String)> {
        lock(&self.story).lines.clone()
    }

    pub(crate) fn events(&self) -> usize {
        lock(&self.story).lines.len()
    }
}

// === impl Exec ===

impl Exec {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wake(&mut self, task: u64) {
        if self.tasks.contains_key(&task) && self.queued.insert(task) {
            self.ready.push(task);
        }
    }

    fn pop(&mut self) -> Option<u64> {
        let at = self.rng.below(self.ready.len());
        if self.ready.is_empty() {
            return None;
        }
        let task = self.ready.swap_remove(at);
        self.queued.remove(&task);
        Some(task)
    }
}

// === impl TaskWaker, Sleep ===

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut exec = lock(&self.sim.exec);
        let of_call = matches!(exec.tasks.get(&self.task), Some((Owner::Call, _)));
        if !(of_call && self.sim.is_sabotaged(Sabotage::LostWakeUp, 20)) {
            exec.wake(self.task);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut exec = lock(&self.sim.exec);
        if exec.now >= self.key.0 {
            return Poll::Ready(());
        }
        let before = exec.due.insert(self.key, Due::Wake(cx.waker().clone()));
        drop(exec);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let mine = lock(&self.sim.exec).due.remove(&self.key);
        drop(mine);
    }
}
