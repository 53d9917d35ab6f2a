//! What is counted: attempts by address, and where each numbered RPC went.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use balancer_api::{DoneInfo, OnDone};
use http::HeaderMap;

/// The header in which an RPC whose way is to be known carries its number, from 1.
pub(crate) const RPC_NUMBER: &str = "balancer-rpc-number";

/// Counts attempts by address.
///
/// An attempt counts when some of it went out: a connection that was found dead before that was
/// not asked anything.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sites: Mutex<BTreeMap<Arc<str>, Arc<Site>>>,
    log: Arc<Mutex<Vec<Attempt>>>,
}

/// An attempt of a numbered RPC, some of which went out.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) rpc: u64,
    pub(crate) address: Arc<str>,
    pub(crate) is_ok: bool,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Site {
    address: Arc<str>,
    attempts: AtomicU64,
    /// When its connection was known to be gone last.
    left: Mutex<Option<Instant>>,
    log: Arc<Mutex<Vec<Attempt>>>,
}

/// The number that an RPC carries; 0 for none.
pub(crate) fn rpc_number(headers: &HeaderMap) -> u64 {
    let number = headers.get(RPC_NUMBER);
    let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
    number.unwrap_or(0)
}

/// Each critical section is one step, so a panic in another one spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Tally ===

impl Tally {
    /// How many attempts were sent to each address, where there were any.
    pub(crate) fn attempts(&self) -> BTreeMap<String, u64> {
        let sites = lock(&self.sites);
        let attempts = sites.iter().map(|(address, site)| {
            let attempts = site.attempts.load(Ordering::Relaxed);
            (address.to_string(), attempts)
        });
        attempts.filter(|(_, attempts)| *attempts > 0).collect()
    }

    /// The attempts of numbered RPCs, in the order in which they ended.
    pub(crate) fn log(&self) -> Vec<Attempt> {
        lock(&self.log).clone()
    }

    /// When the policy was last told that the connection to an address is gone.
    pub(crate) fn left(&self, address: &str) -> Option<Instant> {
        *lock(&lock(&self.sites).get(address)?.left)
    }

    pub(super) fn site(&self, address: &str) -> Arc<Site> {
        let mut sites = lock(&self.sites);
        if let Some(site) = sites.get(address) {
            return site.clone();
        }
        let address: Arc<str> = address.into();
        let site = Arc::new(Site {
            address: address.clone(),
            attempts: AtomicU64::new(0),
            left: Mutex::new(None),
            log: self.log.clone(),
        });
        sites.insert(address, site.clone());
        site
    }

    pub(super) fn unknown(&self) -> Arc<Site> {
        self.site("unknown")
    }
}

// === impl Site ===

impl Site {
    /// Its connection is gone.
    pub(super) fn left(&self) {
        *lock(&self.left) = Some(Instant::now());
    }
}

impl OnDone for Site {
    fn on_done(&self, rpc: u64, info: &DoneInfo<'_>) {
        let was_sent = info.bytes_sent() || info.bytes_received();
        if !was_sent {
            return;
        }
        // Relaxed: counters that are read when the RPCs are over.
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if rpc > 0 {
            lock(&self.log).push(Attempt {
                rpc,
                address: self.address.clone(),
                is_ok: info.err().is_none(),
            });
        }
    }
}
