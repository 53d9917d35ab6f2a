//! Step 6: least request, and careful: a backend whose RPCs keep failing is put aside for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use balancer_api::base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn};
use balancer_api::{
    Builder, ClientConn, Code, DoneInfo, Endpoint, LbConfig, OnDone, Pick, PickError, PickOptions,
    Picker, Rejected, Status, SubConn, TimerId,
};

use crate::config::{self, Config};

/// The policy's name in a service config.
pub const NAME: &str = "cautious";

/// Makes the policy.
pub fn builder() -> impl Builder {
    BaseBuilder::new(NAME, Cautious::default)
        .with_description("least request; backends that keep failing are put aside for a while")
        .with_config_parser(config::parse)
}

#[derive(Default)]
struct Cautious {
    config: Config,
    /// The READY backends as of the last picker.
    ready: ReadySet<Arc<Backend>>,
    /// Those that are put aside, each with the timer that takes it back.
    aside: BTreeMap<TimerId, SubConn>,
    alarm: Arc<AtomicBool>,
}

/// What is known of a backend, across pickers and reconnects.
struct Backend {
    in_flight: AtomicU64,
    /// Failures since the last success.
    failures: AtomicU32,
    /// Raised when some backend has failed too often; the policy looks which.
    alarm: Arc<AtomicBool>,
    /// Weak: a backend is kept by RPCs, which may outlive the channel.
    client_conn: Weak<dyn ClientConn>,
}

struct CautiousPicker {
    /// Never empty.
    backends: Vec<ReadySubConn<Arc<Backend>>>,
    config: Config,
}

impl PickerBuilder for Cautious {
    type Data = Arc<Backend>;

    fn data(&mut self, _: &Endpoint, cx: &BaseContext<'_>) -> Self::Data {
        Arc::new(Backend {
            in_flight: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            alarm: self.alarm.clone(),
            client_conn: Arc::downgrade(cx.client_conn()),
        })
    }

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        self.config = Config::of(config)?;
        Ok(())
    }

    fn settle(&mut self, cx: &BaseContext<'_>) -> bool {
        if !self.alarm.swap(false, Relaxed) {
            return false;
        }
        for backend in self.ready.iter() {
            let failures = backend.data().failures.load(Relaxed);
            let known = self.aside.values().any(|aside| aside == backend.sub_conn());
            if failures >= self.config.failures_in_a_row && !known {
                let timer = cx.client_conn().set_timer(self.config.time_out);
                self.aside.insert(timer, backend.sub_conn().clone());
            }
        }
        true
    }

    fn handle_timer(&mut self, id: TimerId, _: &BaseContext<'_>) -> bool {
        let Some(sub_conn) = self.aside.remove(&id) else {
            return false;
        };
        let back = self
            .ready
            .iter()
            .find(|backend| *backend.sub_conn() == sub_conn);
        if let Some(back) = back {
            back.data().failures.store(0, Relaxed);
        }
        true
    }

    fn on_not_ready(&mut self, gone: &ReadySubConn<Self::Data>, cx: &BaseContext<'_>) {
        // A new connection is a new chance, and a timer for nothing is a leak.
        gone.data().failures.store(0, Relaxed);
        self.aside.retain(|timer, aside| {
            let keep = aside != gone.sub_conn();
            if !keep {
                cx.client_conn().cancel_timer(*timer);
            }
            keep
        });
    }

    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        self.ready = ready.clone();
        let is_aside = |backend: &ReadySubConn<_>| {
            self.aside.values().any(|aside| aside == backend.sub_conn())
        };
        let mut backends: Vec<_> = ready.iter().filter(|b| !is_aside(b)).cloned().collect();
        if backends.is_empty() {
            // Where all fail, none is to blame: RPCs that may fail are better than none.
            backends = ready.iter().cloned().collect();
        }
        Arc::new(CautiousPicker {
            backends,
            config: self.config,
        })
    }
}

impl Picker for CautiousPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let draw = |_| {
            let at = options.random() % self.backends.len() as u64;
            self.backends.get(at as usize)
        };
        let drawn = (0..self.config.choice_count).filter_map(draw);
        let least = drawn.min_by_key(|backend| backend.data().in_flight.load(Relaxed));
        let least = least.ok_or(PickError::NoSubConnAvailable)?;
        least.data().in_flight.fetch_add(1, Relaxed);
        // The token comes back with the end of the RPC: no need to keep the limit per backend.
        let limit = u64::from(self.config.failures_in_a_row);
        Ok(Pick::new(least.sub_conn()).on_done(least.data().clone(), limit))
    }
}

impl OnDone for Backend {
    fn on_done(&self, limit: u64, info: &DoneInfo<'_>) {
        self.in_flight.fetch_sub(1, Relaxed);
        if !info.bytes_sent() {
            // The backend never saw the RPC: nothing was learnt about it.
            return;
        }
        if !info.err().is_some_and(is_its_fault) {
            self.failures.store(0, Relaxed);
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        // Once raised it stays raised until the policy has looked: one wake is enough.
        if u64::from(failures) >= limit
            && !self.alarm.swap(true, Relaxed)
            && let Some(client_conn) = self.client_conn.upgrade()
        {
            client_conn.wake();
        }
    }
}

/// Whether an RPC's status tells of a sick backend, rather than of the RPC.
fn is_its_fault(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Internal | Code::Unknown | Code::ResourceExhausted
    )
}
