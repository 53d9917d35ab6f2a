//! What the handles of a channel, its policies and its balancer task have in common.

use std::collections::BTreeMap;

use balancer_api::{Source, Timestamp};

use crate::{
    env::Env,
    picker_cell::PickerCell,
    queue::Queue,
    settings::Settings,
    snapshot::PolicyInfo,
    sub_conn::SubConnCell,
    sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering},
    watch::StateWatch,
};

pub(crate) struct Shared<E: Env> {
    pub(crate) env: Arc<E>,
    pub(crate) settings: Settings<E::RpcConfig>,
    pub(crate) queue: Arc<Queue<E::Connection>>,
    pub(crate) cell: PickerCell<E::RpcConfig>,
    pub(crate) watch: StateWatch,
    /// Whether a wake of a policy is in the queue: another one would add nothing.
    pub(crate) wake_queued: AtomicBool,
    /// Whether an RPC's wish to leave idleness is on its way: however many find the channel asleep, one
    /// wakes it.
    pub(crate) rouse_queued: AtomicBool,
    /// Whether an RPC was picked for since the balancer's task looked last.
    pub(crate) used: AtomicBool,
    /// For snapshots; written by the balancer's task.
    pub(crate) sub_conns: Mutex<BTreeMap<u64, Arc<SubConnCell<E::Connection>>>>,
    pub(crate) policy: Mutex<PolicyInfo>,
    /// SubConns, timers and calls share one sequence, which never repeats.
    next_id: AtomicU64,
}

// === impl Shared ===

impl<E: Env> Shared<E> {
    pub(crate) fn new(env: Arc<E>, settings: Settings<E::RpcConfig>) -> Self {
        Self {
            env,
            queue: Arc::new(Queue::new()),
            cell: PickerCell::new(settings.max_waiting),
            watch: StateWatch::new(),
            wake_queued: AtomicBool::new(false),
            rouse_queued: AtomicBool::new(false),
            used: AtomicBool::new(false),
            sub_conns: Mutex::default(),
            policy: Mutex::default(),
            next_id: AtomicU64::new(1),
            settings,
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl<E: Env> Source for Shared<E> {
    fn now(&self) -> Timestamp {
        self.env.now()
    }

    fn random(&self) -> u64 {
        self.env.random()
    }
}
