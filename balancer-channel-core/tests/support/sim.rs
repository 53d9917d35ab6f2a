//! One thread, virtual time: an executor that runs only when the test says so.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

use balancer_api::Timestamp;
use balancer_channel_core::BoxFuture;

/// Clock, chance and tasks.
pub(crate) struct Sim(Mutex<Inner>);

struct Inner {
    now: Timestamp,
    /// `None` while the task is being polled.
    tasks: BTreeMap<u64, Option<BoxFuture<()>>>,
    ready: VecDeque<u64>,
    queued: BTreeSet<u64>,
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    next: u64,
    random: u64,
    /// Picks the next task by chance instead of in turn.
    shuffled: bool,
}

struct TaskWaker {
    sim: Arc<Sim>,
    task: u64,
}

/// Ends at a time.
struct Sleep {
    sim: Arc<Sim>,
    key: (Timestamp, u64),
}

/// A burst of so many polls is a spin.
const SPIN: usize = 2_000_000;

impl Sim {
    /// Tasks run in turn; `random` gives SplitMix64 from `seed`.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::make(seed, false)
    }

    /// Tasks run in an order that `seed` chooses.
    pub(crate) fn shuffled(seed: u64) -> Arc<Self> {
        Self::make(seed, true)
    }

    fn make(seed: u64, shuffled: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            now: Timestamp::ZERO,
            tasks: BTreeMap::new(),
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            sleepers: BTreeMap::new(),
            next: 0,
            random: seed,
            shuffled,
        })))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.lock().unwrap().now
    }

    pub(crate) fn random(&self) -> u64 {
        self.0.lock().unwrap().random()
    }

    /// How many tasks live.
    pub(crate) fn tasks(&self) -> usize {
        self.0.lock().unwrap().tasks.len()
    }

    /// How many sleeps are waited for.
    pub(crate) fn sleepers(&self) -> usize {
        self.0.lock().unwrap().sleepers.len()
    }

    pub(crate) fn spawn(&self, task: BoxFuture<()>) {
        let mut inner = self.0.lock().unwrap();
        let id = inner.id();
        inner.tasks.insert(id, Some(task));
        inner.wake(id);
    }

    pub(crate) fn sleep_until(self: &Arc<Self>, at: Timestamp) -> BoxFuture<()> {
        let key = (at, self.0.lock().unwrap().id());
        Box::pin(Sleep {
            sim: self.clone(),
            key,
        })
    }

    /// Runs tasks until each waits for something.
    pub(crate) fn run(self: &Arc<Self>) {
        for _ in 0..SPIN {
            if !self.step() {
                return;
            }
        }
        panic!("the tasks spin");
    }

    /// Polls one task; answers whether there was one.
    pub(crate) fn step(self: &Arc<Self>) -> bool {
        let (task, mut future) = {
            let mut inner = self.0.lock().unwrap();
            let Some(task) = inner.pop() else {
                return false;
            };
            match inner.tasks.get_mut(&task).and_then(Option::take) {
                Some(future) => (task, future),
                None => return true,
            }
        };
        let waker = Waker::from(Arc::new(TaskWaker {
            sim: self.clone(),
            task,
        }));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Ready(()) => {
                drop(future);
                self.0.lock().unwrap().tasks.remove(&task);
            }
            Poll::Pending => {
                self.0.lock().unwrap().tasks.insert(task, Some(future));
            }
        }
        true
    }

    /// Drops every task, as a runtime does that shuts down.
    pub(crate) fn shut_down(&self) {
        let tasks = std::mem::take(&mut self.0.lock().unwrap().tasks);
        drop(tasks);
    }

    /// Lets `time` pass, and everything happen that is due on the way.
    pub(crate) fn advance(self: &Arc<Self>, time: Duration) {
        self.run();
        let end = self.now() + time;
        loop {
            let woken = {
                let mut inner = self.0.lock().unwrap();
                let Some((&(at, _), _)) = inner.sleepers.first_key_value() else {
                    break;
                };
                if at > end {
                    break;
                }
                inner.now = inner.now.max(at);
                let (_, waker) = inner.sleepers.pop_first().unwrap();
                waker
            };
            woken.wake();
            self.run();
        }
        self.0.lock().unwrap().now = end;
        self.run();
    }
}

impl Sim {
    /// Moves the clock and wakes who slept, but runs nothing.
    pub(crate) fn advance_clock(&self, time: Duration) {
        let mut inner = self.0.lock().unwrap();
        inner.now = inner.now + time;
        let now = inner.now;
        let mut due = Vec::new();
        while let Some(first) = inner.sleepers.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        drop(inner);
        due.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wake(&mut self, task: u64) {
        if self.tasks.contains_key(&task) && self.queued.insert(task) {
            self.ready.push_back(task);
        }
    }

    fn pop(&mut self) -> Option<u64> {
        if self.shuffled && !self.ready.is_empty() {
            let other = self.random() as usize % self.ready.len();
            self.ready.swap(0, other);
        }
        let task = self.ready.pop_front()?;
        self.queued.remove(&task);
        Some(task)
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.sim.0.lock().unwrap().wake(self.task);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.sim.0.lock().unwrap();
        if inner.now >= self.key.0 {
            return Poll::Ready(());
        }
        inner.sleepers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.sim.0.lock().unwrap().sleepers.remove(&self.key);
        drop(waker);
    }
}

/// Runs a future on this thread, which parks in between.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(true)));
    let waker = Waker::from(unpark.clone());
    let mut future = std::pin::pin!(future);
    loop {
        while !unpark.1.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
}
