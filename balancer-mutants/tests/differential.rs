//! The shipped policies against models of them, and against others that should do the same.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use balancer_api::{
    Builder, Endpoint, Pick, PickError, PickOptions, Picker,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_mutants::{
    models::{PickFirstModel, RoundRobinModel},
    pick_first::{self, PickFirst},
    round_robin::{self, RoundRobin},
};
use balancer_testkit::{
    Alike, Conformance, Expected, Happened, Knobs, Law, LawSet, Model, Picks, Profile,
};

fn held_to(law: Law, profile: Profile, builder: impl Builder + 'static) -> Conformance {
    let mut knobs = Knobs::from_env();
    knobs.script = None;
    Conformance::with_knobs(builder, profile.only(LawSet::of(&[law])), knobs)
}

fn must_agree(suite: &Conformance) {
    if let Some(failure) = suite.failures().first() {
        panic!("{failure}");
    }
}

#[test]
fn round_robin_is_as_its_model() {
    let profile = Profile::exact()
        .either_mode()
        .with_model(RoundRobinModel::default);
    let builder = balancer_roundrobin::RoundRobin::new();
    must_agree(&held_to(Law::AgreesWithModel, profile, builder));
}

#[test]
fn pick_first_is_as_its_model() {
    let profile = Profile::sticks().lazy().with_model(PickFirstModel::default);
    let builder = balancer_pickfirst::PickFirst::new();
    must_agree(&held_to(Law::AgreesWithModel, profile, builder));
}

#[test]
fn a_round_robin_of_the_base_is_as_the_shipped_one() {
    let profile = Profile::exact().like(balancer_roundrobin::builder(), Alike::Rotated);
    let builder = BaseBuilder::new("turns", || Turns(Arc::default()));
    must_agree(&held_to(Law::AgreesWithOther, profile, builder));
}

#[test]
fn a_round_robin_by_hand_is_as_the_shipped_one() {
    let profile = Profile::exact()
        .either_mode()
        .like(balancer_roundrobin::builder(), Alike::Rotated);
    let builder = RoundRobin(round_robin::Bug::None);
    must_agree(&held_to(Law::AgreesWithOther, profile, builder));
}

#[test]
fn a_pick_first_by_hand_is_as_the_shipped_one() {
    let profile = Profile::sticks()
        .lazy()
        .like(balancer_pickfirst::builder(), Alike::AsSets);
    let builder = PickFirst(pick_first::Bug::None);
    must_agree(&held_to(Law::AgreesWithOther, profile, builder));
}

#[test]
fn a_difference_is_shown_by_a_short_script_and_both_conversations() {
    let profile = Profile::exact().like(balancer_roundrobin::builder(), Alike::Rotated);
    let builder = RoundRobin(round_robin::Bug::FailureOutranksConnecting);
    let suite = held_to(Law::AgreesWithOther, profile, builder);
    let failures = suite.failures();
    let failure = failures.first().expect("they differ");
    assert!(failure.script.events().len() <= 4, "{failure}");
    let text = failure.to_string();
    for part in [
        "TRANSIENT_FAILURE is published, and CONNECTING by round_robin",
        "the conversation with round_robin:",
        "publish TRANSIENT_FAILURE",
    ] {
        assert!(text.contains(part), "{part} must be in:\n{text}");
    }
}

/// Thinks that RPCs wait for ever.
#[derive(Default)]
struct Pessimist(bool);

impl Model for Pessimist {
    fn hear(&mut self, happened: &Happened<'_>) {
        self.0 |= matches!(happened, Happened::List(_));
    }
    fn expect(&self) -> Expected {
        match self.0 {
            true => Expected::anything().picks(Picks::Queue),
            false => Expected::anything(),
        }
    }
}

#[test]
fn a_wrong_model_is_found_out() {
    let profile = Profile::exact().with_model(Pessimist::default);
    let builder = balancer_roundrobin::RoundRobin::new();
    let failures = held_to(Law::AgreesWithModel, profile, builder).failures();
    let failure = failures.first().expect("RPCs do not always wait");
    assert!(failure.violation.message.contains("expects RPCs to wait"));
    assert!(failure.script.events().len() <= 3, "{failure}");
}

struct Turns(Arc<AtomicUsize>);
struct TurnsPicker(ReadySet, Arc<AtomicUsize>);

impl PickerBuilder for Turns {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(TurnsPicker(ready.clone(), self.0.clone()))
    }
}

impl Picker for TurnsPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Relaxed) % self.0.len();
        let ready = self.0.get(turn).ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(ready.sub_conn()))
    }
}
