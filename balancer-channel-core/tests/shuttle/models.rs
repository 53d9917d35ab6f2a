//! The models: a channel of one or two backends, a few RPCs, and what goes wrong meanwhile.

use std::sync::Arc;

use balancer_api::{ConnectivityState as State, DoneInfo, PickError, PickOptions};
use futures_util::StreamExt;
use shuttle::{
    Runner,
    future::{block_on, spawn},
    scheduler::RandomScheduler,
};

use crate::{
    core::Core,
    policy::any,
    resolver::{ManualResolver, Resolution},
    rpc::PickOutcome,
    sync::{AtomicUsize, Ordering::SeqCst},
    world::{Handle, World, endpoints, some_turns},
};

/// How an RPC ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Served(String),
    Failed,
    Closed,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: must be a number"))
    })
}

/// Runs many schedules of `model`, and says with which seed.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let seed = number("BALANCER_SHUTTLE_SEED", 1);
    let schedules = number("BALANCER_SHUTTLE_SCHEDULES", 300) as usize;
    println!("seed {seed}, {schedules} schedules");
    let scheduler = RandomScheduler::new_from_seed(seed, schedules);
    Runner::new(scheduler, shuttle::Config::new()).run(model);
}

struct Stage {
    world: Arc<Handle>,
    resolver: ManualResolver,
    core: Core<Handle>,
    picks: Arc<AtomicUsize>,
    dones: Arc<AtomicUsize>,
}

impl Stage {
    fn new(names: &str) -> Self {
        let world = World::make(vec![any("one"), any("other")]);
        let resolver = ManualResolver::new(endpoints(names));
        // Leaks: `close` waits until all tasks have ended, or deadlocks.
        let core = Core::new(world.clone(), world.settings(&resolver));
        Self {
            world,
            resolver,
            core,
            picks: Arc::new(AtomicUsize::new(0)),
            dones: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// An RPC in a task of its own.
    fn rpc(&self, wait_for_ready: bool) -> shuttle::future::JoinHandle<End> {
        let (core, picks, dones) = (self.core.clone(), self.picks.clone(), self.dones.clone());
        spawn(rpc(core, wait_for_ready, picks, dones))
    }

    /// Ready when the policy of this name is at work.
    async fn policy_is(&self, name: &str) {
        while self.core.snapshot().policy.as_deref() != Some(name) {
            shuttle::future::yield_now().await;
        }
    }

    /// Closes, and waits until nothing of the channel runs any more.
    async fn close(self) {
        self.core.close();
        let mut states = self.core.states();
        while let Some(state) = states.next().await {
            if state == State::Shutdown {
                break;
            }
        }
        drop(states);
        assert_eq!(
            self.picks.load(SeqCst),
            self.dones.load(SeqCst),
            "one end for each pick"
        );
        let Self { world, core, .. } = self;
        drop(core);
        world.tasks_ended().await;
    }
}

async fn rpc(
    core: Core<Handle>,
    wait_for_ready: bool,
    picks: Arc<AtomicUsize>,
    dones: Arc<AtomicUsize>,
) -> End {
    let mut last = None;
    loop {
        let options = PickOptions::new("/s/m")
            .with_wait_for_ready(wait_for_ready)
            .with_source(core.source());
        let outcome = core.current().pick(&options);
        match outcome {
            PickOutcome::Complete(attempt) => {
                picks.fetch_add(1, SeqCst);
                let wire = attempt.connection.0.clone();
                wire.streams.fetch_add(1, SeqCst);
                some_turns().await;
                wire.streams.fetch_sub(1, SeqCst);
                attempt.done.complete(&DoneInfo::new());
                dones.fetch_add(1, SeqCst);
                return End::Served(wire.address.clone());
            }
            PickOutcome::Wait { generation, .. } => {
                assert!(
                    last < Some(generation),
                    "picker {generation} was asked twice"
                );
                last = Some(generation);
                core.next_picker(generation).await.expect("room to wait");
            }
            PickOutcome::Fail(PickError::TransientFailure(_)) => return End::Failed,
            PickOutcome::Fail(other) => panic!("no policy here says {other}"),
            PickOutcome::Closed(_) => return End::Closed,
        }
    }
}

/// RPCs that wait for ready are served, whenever connections are lost and lists come.
#[test]
fn rpcs_losses_and_lists() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a b");
            let rpcs = [stage.rpc(true), stage.rpc(true), stage.rpc(true)];
            let world = stage.world.clone();
            let losses = spawn(async move {
                for _ in 0..2 {
                    some_turns().await;
                    world.lose_all().await;
                }
            });
            some_turns().await;
            stage.resolver.set_endpoints(endpoints("b c"));
            losses.await.expect("ends");
            for rpc in rpcs {
                let end = rpc.await.expect("ends");
                assert!(matches!(end, End::Served(_)), "{end:?}");
            }
            stage.close().await;
        });
    });
}

/// One backend refuses: RPCs are served by the other, or wait until it is back, also those that would
/// fail fast.
#[test]
fn a_backend_that_refuses() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a b");
            stage.world.refuse("a");
            let rpcs = [stage.rpc(false), stage.rpc(true)];
            some_turns().await;
            stage.world.lose_all().await;
            for rpc in rpcs {
                let end = rpc.await.expect("ends");
                assert_eq!(end, End::Served("b".to_owned()));
            }
            stage.close().await;
        });
    });
}

/// The channel closes while RPCs come: each is served or told, and nothing is left.
#[test]
fn rpcs_and_a_close() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a");
            let rpcs = [stage.rpc(false), stage.rpc(true), stage.rpc(true)];
            some_turns().await;
            stage.core.close();
            for rpc in rpcs {
                let end = rpc.await.expect("ends");
                assert_ne!(end, End::Failed, "nothing has failed");
            }
            stage.close().await;
        });
    });
}

/// The channel falls asleep while RPCs come: they wake it again.
#[test]
fn rpcs_and_idleness() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a");
            let before = stage.rpc(true);
            some_turns().await;
            stage.core.enter_idle();
            let after = stage.rpc(true);
            for rpc in [before, after] {
                assert_eq!(rpc.await.expect("ends"), End::Served("a".to_owned()));
            }
            stage.core.enter_idle();
            let late = stage.rpc(true);
            assert_eq!(late.await.expect("ends"), End::Served("a".to_owned()));
            stage.close().await;
        });
    });
}

/// RPCs that wait are cancelled: the others are served all the same.
#[test]
fn rpcs_that_are_cancelled() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a");
            let (one, other, third) = (stage.rpc(true), stage.rpc(true), stage.rpc(true));
            some_turns().await;
            one.abort();
            some_turns().await;
            third.abort();
            assert_eq!(other.await.expect("ends"), End::Served("a".to_owned()));
            let done = stage.dones.clone();
            // Those that were cancelled with a stream open took it with them.
            stage.picks.store(done.load(SeqCst), SeqCst);
            stage.close().await;
        });
    });
}

/// Another policy takes over while RPCs come, and connections are lost.
#[test]
fn rpcs_and_a_change_of_policy() {
    check(|| {
        block_on(async {
            let stage = Stage::new("a b");
            let rpcs = [stage.rpc(true), stage.rpc(true)];
            stage.policy_is("one").await;
            let other = Resolution::new(endpoints("a b")).with_service_config("other");
            stage.resolver.update(Ok(other));
            some_turns().await;
            stage.world.lose_all().await;
            let during = stage.rpc(true);
            stage.policy_is("other").await;
            let one = Resolution::new(endpoints("b")).with_service_config("one");
            stage.resolver.update(Ok(one));
            let again = stage.rpc(true);
            for rpc in rpcs.into_iter().chain([during, again]) {
                let end = rpc.await.expect("ends");
                assert!(matches!(end, End::Served(_)), "{end:?}");
            }
            stage.policy_is("one").await;
            let last = stage.rpc(true).await.expect("ends");
            assert_eq!(last, End::Served("b".to_owned()));
            stage.close().await;
        });
    });
}
