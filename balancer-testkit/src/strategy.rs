//! proptest strategies: resolver lists and scripts, with shrinking.
//!
//! ```
//! use balancer_testkit::{Profile, judge, strategy};
//! use proptest::{prelude::*, test_runner::TestRunner};
//! # use balancer_api::{base::*, *};
//! # use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! # struct RoundRobin(Arc<AtomicUsize>);
//! # struct RoundRobinPicker(ReadySet, Arc<AtomicUsize>);
//! # impl PickerBuilder for RoundRobin {
//! #     type Data = ();
//! #     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
//! #     fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
//! #         Arc::new(RoundRobinPicker(ready.clone(), self.0.clone()))
//! #     }
//! # }
//! # impl Picker for RoundRobinPicker {
//! #     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
//! #         let turn = self.1.fetch_add(1, Ordering::Relaxed) % self.0.len();
//! #         Ok(Pick::new(self.0.get(turn).unwrap().sub_conn()))
//! #     }
//! # }
//! # fn my_builder() -> impl Builder { BaseBuilder::new("mine", || RoundRobin(Arc::default())) }
//! let builder: Arc<dyn Builder> = Arc::new(my_builder());
//! let mut runner = TestRunner::default();
//! runner
//!     .run(&strategy::scenarios(20), |scenario| {
//!         judge(&builder, &Profile::spreads(), &scenario)
//!             .map_err(|failure| TestCaseError::fail(failure.to_string()))
//!     })
//!     .unwrap();
//! ```

use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{End, Event, List, Move, Scenario};

/// Names of endpoints: single addresses, several, other peers at the same address, news.
pub fn endpoint_names() -> impl Strategy<Value = String> {
    let single = select(vec!["a", "b", "c", "d", "e"]).prop_map(str::to_owned);
    prop_oneof![
        8 => single.clone(),
        2 => (single.clone(), single.clone()).prop_map(|(a, b)| format!("{a}+{b}")),
        1 => (single.clone(), 1..3u32).prop_map(|(a, n)| format!("{a}#{n}")),
        1 => (single.clone(), 1..3u32).prop_map(|(a, n)| format!("{a}%{n}")),
        1 => (single, 1..3u32).prop_map(|(a, n)| format!("{a}@{n}")),
    ]
}

/// Short lists: empty ones, duplicates and other orders among them.
pub fn lists() -> impl Strategy<Value = List> {
    vec(endpoint_names(), 0..6).prop_map(List::named)
}

/// Lists of up to `max` distinct endpoints, thousands if you like.
pub fn long_lists(max: usize) -> impl Strategy<Value = List> {
    (0..=max, any::<bool>()).prop_map(|(count, reversed)| {
        let names = (0..count).map(|n| format!("s{n}"));
        if reversed {
            List::named(names.rev())
        } else {
            List::named(names)
        }
    })
}

/// One or a few events that belong together. Those that cannot happen are passed over when the
/// script runs.
pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let name = || select(vec!["a", "b", "c", "d", "e", "a+b", "b+c"]);
    let moves = |moves: &'static [Move]| {
        name().prop_map(move |name| moves.iter().map(|step| Event::step(*step, name)).collect())
    };
    prop_oneof![
        3 => lists().prop_map(|list| vec![Event::Update(list)]),
        1 => Just(vec![Event::Again]),
        1 => Just(vec![Event::ResolverError("no such host".into())]),
        4 => moves(&[Move::Connecting, Move::Ready]),
        2 => moves(&[Move::Idle, Move::Connecting, Move::Ready]),
        3 => moves(&[Move::Connecting, Move::Failed]),
        3 => moves(&[Move::Lost]),
        1 => moves(&[Move::Connecting]),
        1 => moves(&[Move::Idle]),
        1 => moves(&[Move::HealthFailed]),
        1 => moves(&[Move::HealthReady]),
        1 => name().prop_map(|name| vec![Event::Repeat(name.into())]),
        1 => Just(vec![Event::Stranger]),
        1 => Just(vec![Event::Refuse("too many".into())]),
        1 => Just(vec![Event::Timer]),
        1 => Just(vec![Event::Advance(Duration::from_secs(1))]),
        1 => Just(vec![Event::Wake]),
        1 => Just(vec![Event::Hold]),
        2 => Just(vec![Event::Settle]),
        2 => select(End::ALL.to_vec()).prop_map(|end| vec![Event::Pick(end)]),
        1 => select(vec![0, 1, u64::MAX, u64::MAX - 1]).prop_map(|n| vec![Event::Random(n)]),
    ]
}

/// Scripts of up to `length` groups of events; they shrink by losing events.
pub fn scenarios(length: usize) -> impl Strategy<Value = Scenario> {
    let script = vec(events(), 0..length.max(1));
    (lists(), script).prop_map(|(first, groups)| {
        std::iter::once(Event::Update(first))
            .chain(groups.into_iter().flatten())
            .collect()
    })
}
