//! The laws turned round: what a channel owes its policies and its RPCs.
//!
//! Two instruments, for the author of a ClientConn:
//!
//! - [`ChannelSuite`] plays a trial for each [`ChannelLaw`] on a channel that it moves by hand: its
//!   resolver, its peers, its clock, its RPCs. It takes an implementation of [`ChannelUnderTest`],
//!   and one line, [`channel_conformance!`](crate::channel_conformance). What it finds it tells as
//!   an account: the law, why it is one, and what happened, in order, in words.
//! - A [`Witness`] stands between any channel and a policy and writes down what the channel does
//!   wrong: a state that cannot follow, news after the close. It asks for nothing and can be part of
//!   tests that are there already, over real sockets and under load. The suite uses one, too.
//!
//! ```
//! use balancer_testkit::{Script, Witness};
//!
//! // The channel under test is the kit's own here.
//! let witness = Witness::new();
//! let mut channel = Script::start(witness.policy(), ["a", "b"]);
//! channel.ready("a").ready("b").lost("a").update(["b"]).close();
//! assert_eq!(witness.complaints(), []);
//! assert!(witness.callbacks() > 8, "it has seen something");
//! ```

mod law;
mod own;
mod puppet;
mod seen;
mod stage;
mod suite;
mod trials;
mod under_test;
mod wrap;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use balancer_api::{Builder, SubConn};

pub use self::{
    law::ChannelLaw,
    suite::{BrokenLaw, ChannelSuite, Verdict},
    under_test::{
        Ability, ChannelUnderTest, Dial, Ending, MakeChannel, Peer, Resolved, RpcOptions, Serve,
    },
};
use self::{own::Own, wrap::WitnessedBuilder};

/// Something that a channel did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What it broke.
    pub law: ChannelLaw,
    /// How.
    pub message: String,
}

/// Stands between a channel and a policy. Clones are one witness.
#[derive(Clone, Default)]
pub struct Witness(Arc<Shared>);

#[derive(Default)]
struct Shared {
    complaints: Mutex<Vec<Complaint>>,
    /// The SubConns of the witness's own policy, and whether each was told to connect since it was
    /// last IDLE.
    asked: Mutex<HashMap<SubConn, bool>>,
    callbacks: AtomicUsize,
    picks: AtomicU64,
    dones: AtomicU64,
}

// === impl Witness ===

impl Witness {
    /// A witness who has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// `inner`, witnessed.
    pub fn around(&self, inner: impl Builder + 'static) -> Arc<dyn Builder> {
        Arc::new(WitnessedBuilder::new(self.clone(), Arc::new(inner)))
    }

    /// A policy of the witness's own: a SubConn for each endpoint, connected at once unless its
    /// first address begins with `never`; picks take turns. It knows which SubConns it has told to
    /// connect.
    pub fn policy(&self) -> Arc<dyn Builder> {
        let inner = Own {
            witness: self.clone(),
        };
        self.around(inner)
    }

    /// What the channel did wrong so far, in its order.
    pub fn complaints(&self) -> Vec<Complaint> {
        lock(&self.0.complaints).clone()
    }

    /// How many callbacks it has seen: a test in which nothing happens proves nothing.
    pub fn callbacks(&self) -> usize {
        self.0.callbacks.load(Relaxed)
    }

    /// How many picks gave a SubConn, and how many RPCs have ended since. Equal when no RPC is open.
    pub fn picks_and_ends(&self) -> (u64, u64) {
        (self.0.picks.load(Relaxed), self.0.dones.load(Relaxed))
    }

    /// # Panics
    /// The channel did something wrong, or an RPC that was picked for has not ended.
    #[track_caller]
    pub fn assert_silent(&self) {
        let complaints = self.complaints();
        let (picks, ends) = self.picks_and_ends();
        let list: String = complaints.iter().map(|c| format!("\n  {c}")).collect();
        assert!(complaints.is_empty(), "the channel broke:{list}");
        assert_eq!(picks, ends, "each pick's observers must be told once");
    }

    fn complain(&self, law: ChannelLaw, message: impl Into<String>) {
        lock(&self.0.complaints).push(Complaint {
            law,
            message: message.into(),
        });
    }

    /// The witness's own policy has made a SubConn, or tells it to connect.
    fn asks(&self, sub_conn: &SubConn, to_connect: bool) {
        lock(&self.0.asked).insert(sub_conn.clone(), to_connect);
        if to_connect {
            sub_conn.connect();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.complaints()).finish()
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.message)
    }
}
