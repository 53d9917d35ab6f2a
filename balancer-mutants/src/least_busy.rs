//! A policy that looks for the least busy backend, and the ways to get its books wrong.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use balancer_api::{
    Builder, DoneInfo, Endpoint, OnDone, Pick, PickError, PickOptions, Picker,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn},
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    NotSentIsForgotten,
    DroppedIsForgotten,
    CountsBeforeItKnows,
    CountsTwiceOnError,
    ObserverPanics,
    ErrorIsForgotten,
    OldPickerIsForgotten,
    LossForgetsOpenRpcs,
    LimitIsNeverLifted,
    NeverUsesLast,
    AlwaysFirst,
    Biased,
}

struct LeastBusy {
    bug: Bug,
    turn: Arc<AtomicI64>,
    /// How many pickers were made.
    pickers: Arc<AtomicU64>,
}

struct InFlight {
    count: AtomicI64,
    bug: Bug,
    pickers: Arc<AtomicU64>,
}

struct LeastBusyPicker {
    bug: Bug,
    ready: ReadySet<Arc<InFlight>>,
    turn: Arc<AtomicI64>,
    number: u64,
}

/// The policy with one bug, or none.
pub fn least_busy(bug: Bug) -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("mutant_least_busy", move || LeastBusy {
        bug,
        turn: Arc::default(),
        pickers: Arc::default(),
    }))
}

impl PickerBuilder for LeastBusy {
    type Data = Arc<InFlight>;

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
        Arc::new(InFlight {
            count: AtomicI64::new(0),
            bug: self.bug,
            pickers: self.pickers.clone(),
        })
    }

    fn on_not_ready(&mut self, gone: &ReadySubConn<Self::Data>, _: &BaseContext<'_>) {
        if self.bug == Bug::LossForgetsOpenRpcs {
            gone.data().count.store(0, Relaxed);
        }
    }

    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        Arc::new(LeastBusyPicker {
            bug: self.bug,
            ready: ready.clone(),
            turn: self.turn.clone(),
            number: self.pickers.fetch_add(1, Relaxed) + 1,
        })
    }
}

impl Picker for LeastBusyPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.turn.fetch_add(1, Relaxed) as usize;
        let mut entries: Vec<_> = self.ready.iter().collect();
        if self.bug == Bug::NeverUsesLast && entries.len() > 1 {
            entries.pop();
        }
        let count = entries.len();
        let chosen = match self.bug {
            Bug::AlwaysFirst => entries.first().copied(),
            Bug::Biased if options.random().is_multiple_of(4) => entries.first().copied(),
            // Ties go round, so that RPCs one after the other are spread, too.
            _ => (0..count)
                .map(|n| entries[(turn + n) % count])
                .min_by_key(|entry| entry.data().count.load(Relaxed)),
        };
        let chosen = chosen.ok_or(PickError::NoSubConnAvailable)?;
        if self.bug == Bug::LimitIsNeverLifted && chosen.data().count.load(Relaxed) >= 50 {
            return Err(PickError::NoSubConnAvailable);
        }
        chosen.data().count.fetch_add(1, Relaxed);
        if self.bug == Bug::CountsBeforeItKnows && count < 3 {
            // Counts one that it then does not give.
            chosen.data().count.fetch_add(1, Relaxed);
        }
        Ok(Pick::new(chosen.sub_conn()).on_done(chosen.data().clone(), self.number))
    }
}

impl OnDone for InFlight {
    fn on_done(&self, number: u64, info: &DoneInfo<'_>) {
        let less = match self.bug {
            Bug::NotSentIsForgotten if !info.bytes_sent() && info.err().is_none() => 0,
            Bug::DroppedIsForgotten if info.err().is_some() && !info.bytes_sent() => 0,
            Bug::ErrorIsForgotten if info.err().is_some() && info.bytes_sent() => 0,
            Bug::OldPickerIsForgotten if number != self.pickers.load(Relaxed) => 0,
            Bug::CountsTwiceOnError if info.err().is_some() => 2,
            _ => 1,
        };
        self.count.fetch_sub(less, Relaxed);
        assert!(
            self.bug != Bug::ObserverPanics || info.err().is_none(),
            "no status is expected here"
        );
    }
}
