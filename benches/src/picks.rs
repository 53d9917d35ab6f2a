//! Ours and others choosing a backend, and nothing else: each a function that any thread may call.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use arc_swap::ArcSwapOption;
use balancer_api::{ConnectivityState, Pick, PickError, PickOptions, Picker, SubConn};

use crate::{fleet::Fleet, random::Random};

/// What an RPC finds in the channel's cell.
struct Published {
    picker: Arc<dyn Picker>,
}

/// The picker of `round_robin` over so many backends, of which the last so many that changed were
/// lost one after the other.
pub fn round_robin(backends: usize, lost: usize) -> Arc<dyn Picker> {
    let mut fleet = Fleet::new(&*balancer_roundrobin::builder());
    fleet.start(Fleet::backends(backends));
    fleet.bring_up(128);
    let mut random = Random::new(7);
    for _ in 0..lost {
        fleet.tell(random.below(backends), ConnectivityState::Idle);
        fleet.settle();
    }
    fleet.picker()
}

/// A pick through `dyn Picker`.
pub fn ours(backends: usize, lost: usize) -> impl Fn() -> bool + Send + Sync {
    let picker = round_robin(backends, lost);
    let options = PickOptions::new("/s/m");
    move || picker.pick(&options).is_ok()
}

/// The same with the load of the current picker before it, as the channel's cell does it.
pub fn ours_loaded(backends: usize, lost: usize) -> impl Fn() -> bool + Send + Sync {
    let picker = round_robin(backends, lost);
    let cell = ArcSwapOption::from_pointee(Published { picker });
    let options = PickOptions::new("/s/m");
    move || {
        let published = cell.load();
        published
            .as_ref()
            .is_some_and(|published| published.picker.pick(&options).is_ok())
    }
}

/// The least that a shared rotation can be.
pub fn fetch_add() -> impl Fn() -> bool + Send + Sync {
    let next = Alone::default();
    move || next.0.fetch_add(1, Ordering::Relaxed) != usize::MAX
}

/// A counter with nothing beside it in its lines of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Alone(AtomicUsize);

/// The least that a picker can be: the same counter behind the same trait, and always the same SubConn.
pub fn counting() -> impl Fn() -> bool + Send + Sync {
    struct Counting(Alone, SubConn);

    impl Picker for Counting {
        fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
            self.0.0.fetch_add(1, Ordering::Relaxed);
            Ok(Pick::new(&self.1))
        }
    }

    let mut fleet = Fleet::new(&*balancer_roundrobin::builder());
    fleet.start(Fleet::backends(1));
    let picker: Arc<dyn Picker> = Arc::new(Counting(Alone::default(), fleet.sub_conn(0).clone()));
    let options = PickOptions::new("/s/m");
    move || picker.pick(&options).is_ok()
}

/// tower's power of two choices over services that answer at once, in the lock that sharing it takes.
#[cfg(feature = "rivals")]
pub fn tower_p2c(backends: usize) -> impl Fn() -> bool + Send + Sync {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
        sync::{Mutex, PoisonError},
        task::{Context, Poll, Waker},
    };

    use tower::{
        balance::p2c::Balance,
        discover::ServiceList,
        load::{CompleteOnResponse, PendingRequests},
    };
    use tower_service::Service;

    struct Nothing;

    impl Service<()> for Nothing {
        type Response = ();
        type Error = Infallible;
        type Future = Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(()))
        }
    }

    let one = |_| PendingRequests::new(Nothing, CompleteOnResponse::default());
    let services: Vec<_> = (0..backends).map(one).collect();
    let balance = Mutex::new(Balance::new(ServiceList::new(services)));
    move || {
        let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cx = Context::from_waker(Waker::noop());
        let ready = matches!(balance.poll_ready(&mut cx), Poll::Ready(Ok(())));
        // The RPC ends as it is dropped.
        drop(ready.then(|| balance.call(())));
        ready
    }
}

/// pingora's round robin.
#[cfg(feature = "pingora")]
pub fn pingora(backends: usize) -> impl Fn() -> bool + Send + Sync {
    use pingora_load_balancing::{LoadBalancer, selection::RoundRobin};

    let addresses = Fleet::backends(backends).into_iter().flat_map(|endpoint| {
        let addresses = endpoint.addresses().iter();
        addresses
            .map(|address| address.addr().to_owned())
            .collect::<Vec<_>>()
    });
    let balancer = LoadBalancer::<RoundRobin>::try_from_iter(addresses)
        .unwrap_or_else(|error| panic!("addresses of our own making: {error}"));
    move || balancer.select(b"", 8).is_some()
}

/// Nobody is asked: what the steps between two picks take by themselves.
pub fn nobody() -> impl Fn() -> bool + Send + Sync {
    || true
}

/// So many steps, one after the other, that touch no memory. The same code for whoever picks.
#[inline(never)]
fn private(mut seed: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        seed = seed.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    seed
}

/// Nanoseconds per pick of `threads` threads that pick at once, `count` picks all together.
/// Between two picks a thread takes so many steps that depend on each other and concern nobody else.
///
/// # Panics
/// A pick finds nothing.
pub fn time(threads: usize, count: usize, between: u64, pick: impl Fn() -> bool + Sync) -> f64 {
    let (threads, start) = (threads.max(1), Instant::now());
    let each = count / threads;
    let picks = || {
        let mut steps = 1_u64;
        let one = || assert!(pick(), "a pick must find a backend");
        // Apart, so that nothing else is in the loop of those who only pick.
        if between == 0 {
            return (0..each).for_each(|_| one());
        }
        for _ in 0..each {
            one();
            steps = private(steps, between);
        }
        black_box(steps);
    };
    thread::scope(|scope| {
        // One of them is this one: with one thread none is started.
        for _ in 1..threads {
            scope.spawn(picks);
        }
        picks();
    });
    start.elapsed().as_nanos() as f64 / (each * threads).max(1) as f64
}
