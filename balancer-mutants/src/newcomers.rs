//! A policy that weighs its backends by what it has seen of them (a new one less, one that failed
//! less), and the ways to never forget.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Builder, DoneInfo, Endpoint, OnDone, Pick, PickError, PickOptions, Picker, SubConn, TimerId,
    Timestamp,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn},
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    NewcomersGetAll,
    NeverWarms,
    TimerOutlivesBackend,
}

/// How long a backend is new.
pub const WARM_AFTER: Duration = Duration::from_secs(30);

/// How long one that failed is left out.
pub const OUT_FOR: Duration = Duration::from_secs(60);

/// A backend gets a quarter of its share in its first thirty seconds.
pub fn newcomers(bug: Bug) -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("newcomers", move || Newcomers {
        bug,
        cold: Vec::new(),
        warm: Vec::new(),
    }))
}

struct Newcomers {
    bug: Bug,
    cold: Vec<(TimerId, SubConn)>,
    warm: Vec<SubConn>,
}

struct Weighing(Vec<(SubConn, u64)>);

impl PickerBuilder for Newcomers {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn on_ready(&mut self, new: &ReadySubConn, cx: &BaseContext<'_>) {
        if self.bug == Bug::NeverWarms && !self.warm.is_empty() {
            return;
        }
        let timer = cx.client_conn().set_timer(WARM_AFTER);
        self.cold.push((timer, new.sub_conn().clone()));
    }

    fn on_not_ready(&mut self, gone: &ReadySubConn, cx: &BaseContext<'_>) {
        let gone = gone.sub_conn();
        self.warm.retain(|warm| warm != gone);
        let cancels = self.bug != Bug::TimerOutlivesBackend;
        self.cold.retain(|(timer, cold)| {
            if cold == gone && cancels {
                cx.client_conn().cancel_timer(*timer);
            }
            cold != gone
        });
    }

    fn handle_timer(&mut self, id: TimerId, _: &BaseContext<'_>) -> bool {
        let Some(at) = self.cold.iter().position(|(timer, _)| *timer == id) else {
            return false;
        };
        let (_, sub_conn) = self.cold.swap_remove(at);
        self.warm.push(sub_conn);
        true
    }

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        let is_warm = |sub_conn: &SubConn| self.warm.contains(sub_conn);
        let weighed = ready.iter().map(|entry| {
            let full = self.bug == Bug::NewcomersGetAll || is_warm(entry.sub_conn());
            (entry.sub_conn().clone(), if full { 4 } else { 1 })
        });
        Arc::new(Weighing(weighed.collect()))
    }
}

impl Picker for Weighing {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let total: u64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = options.random() % total.max(1);
        for (sub_conn, weight) in &self.0 {
            if left < *weight {
                return Ok(Pick::new(sub_conn));
            }
            left -= weight;
        }
        Err(PickError::NoSubConnAvailable)
    }
}

/// What is wrong with the one that leaves out backends that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Grudge {
    None,
    NeverForgives,
    ForgivesLate,
    SlotsOfAnOldList,
}

/// The fewest RPCs in flight; a backend that failed one gets none for a minute.
pub fn grudging(bug: Grudge) -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("grudging", move || Grudging {
        bug,
        turn: Arc::default(),
        slots: Arc::default(),
    }))
}

struct Grudging {
    bug: Grudge,
    turn: Arc<AtomicU64>,
    /// What a bug counts in, by place in the last list.
    slots: Arc<Mutex<Vec<i64>>>,
}

struct Record {
    in_flight: AtomicI64,
    /// Out until then, in nanoseconds of the channel's clock.
    out_until: AtomicU64,
    slots: Arc<Mutex<Vec<i64>>>,
    bug: Grudge,
}

struct GrudgingPicker {
    ready: Vec<ReadySubConn<Arc<Record>>>,
    turn: Arc<AtomicU64>,
    slots: Arc<Mutex<Vec<i64>>>,
    bug: Grudge,
}

impl PickerBuilder for Grudging {
    type Data = Arc<Record>;

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
        Arc::new(Record {
            in_flight: AtomicI64::new(0),
            out_until: AtomicU64::new(0),
            slots: self.slots.clone(),
            bug: self.bug,
        })
    }

    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        let ready: Vec<_> = ready.iter().cloned().collect();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        *slots = vec![0; ready.len()];
        Arc::new(GrudgingPicker {
            ready,
            turn: self.turn.clone(),
            slots: self.slots.clone(),
            bug: self.bug,
        })
    }
}

impl GrudgingPicker {
    fn load(&self, at: usize) -> i64 {
        match self.bug {
            Grudge::SlotsOfAnOldList => {
                let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
                slots.get(at).copied().unwrap_or_default()
            }
            _ => self.ready[at].data().in_flight.load(Relaxed),
        }
    }
}

impl Picker for GrudgingPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.turn.fetch_add(1, Relaxed) as usize;
        let count = self.ready.len();
        let now = options.now();
        let is_out = |at: &usize| {
            let until = self.ready[*at].data().out_until.load(Relaxed);
            Timestamp::from_nanos(until) > now
        };
        let places = || (0..count).map(|n| (turn + n) % count);
        let best = places()
            .filter(|at| !is_out(at))
            .min_by_key(|at| self.load(*at));
        // If all have failed, all are as good.
        let best = best.or_else(|| places().min_by_key(|at| self.load(*at)));
        let at = best.ok_or(PickError::NoSubConnAvailable)?;
        let record = self.ready[at].data();
        record.in_flight.fetch_add(1, Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(at) {
            *slot += 1;
        }
        Ok(Pick::new(self.ready[at].sub_conn()).on_done(record.clone(), at as u64))
    }
}

impl OnDone for Record {
    fn on_done(&self, at: u64, info: &DoneInfo<'_>) {
        self.in_flight.fetch_sub(1, Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(at as usize) {
            *slot -= 1;
        }
        if info.err().is_some() && info.bytes_sent() {
            let until = match self.bug {
                Grudge::NeverForgives => u64::MAX,
                Grudge::ForgivesLate => (info.now() + 3 * OUT_FOR).as_nanos(),
                _ => (info.now() + OUT_FOR).as_nanos(),
            };
            self.out_until.store(until, Relaxed);
        }
    }
}
