//! Resolver results, service configs and what the resolver learns of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use balancer_api::{ConnectivityState as State, ResolveError};
use balancer_channel_core::{BoxFuture, Resolution, Resolver};

use crate::support::{Answer, Event, Fixture, Flow, endpoints};

/// Answers with what it was given, the last for ever, and tells how often it was asked.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Result<&'static str, &'static str>>>>,
    asked: Arc<Mutex<usize>>,
    panics: bool,
}

impl Scripted {
    fn new(answers: &[Result<&'static str, &'static str>]) -> Self {
        let scripted = Self::default();
        scripted.answers.lock().unwrap().extend(answers);
        scripted
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Resolver for Scripted {
    fn resolve(&self) -> BoxFuture<Result<Resolution, ResolveError>> {
        *self.asked.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0],
            _ => answers.pop_front().unwrap_or(Err("no more answers")),
        };
        if answer == Err("panic at once") {
            drop(answers);
            panic!("no resolv.conf");
        }
        Box::pin(async move {
            assert!(answer != Err("panic later"), "no server");
            match answer {
                Ok(names) => Ok(Resolution::new(endpoints(names))),
                Err(error) => Err(ResolveError::new(error)),
            }
        })
    }

    fn changed(&self) -> BoxFuture<()> {
        assert!(!self.panics, "no inotify");
        Box::pin(std::future::pending())
    }

    fn min_interval(&self) -> Option<std::time::Duration> {
        assert!(!self.panics, "no idea");
        Some(std::time::Duration::from_secs(30))
    }
}

#[test]
fn an_error_before_any_list_reaches_the_default_policy() {
    let fixture = Fixture::unresolved();
    fixture.connect();
    let patient = fixture.wait_for_ready();
    fixture.resolve_error("no such host");
    assert_eq!(fixture.told(), ["a1: build", "a1: error (no such host)"]);
    assert_eq!(fixture.state(), State::TransientFailure);
    assert_eq!(fixture.rpc().outcome(), "unavailable: no such host");
    assert_eq!(patient.outcome(), "waits");
    fixture.resolve("x");
    assert_eq!(patient.outcome(), "x");
}

#[test]
fn an_error_after_a_list_changes_nothing() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.resolve_error("timeout");
    assert_eq!(fixture.state(), State::Ready);
    assert_eq!(fixture.rpc().outcome(), "x");
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 1);
}

#[test]
fn an_empty_list_is_rejected_and_asked_for_again() {
    let scripted = Scripted::new(&[Ok("x"), Ok(""), Ok("x")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect();
    assert_eq!(fixture.rpc().outcome(), "x");
    fixture.a.stage().cc.resolve_now();
    fixture.pass(30.0);
    assert_eq!(scripted.asked(), 2);
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 0);
    assert_eq!(
        fixture.rpc().outcome(),
        "unavailable: nothing to connect to"
    );
    fixture.pass(1.2);
    assert_eq!(scripted.asked(), 3, "with the back-off, not the floor");
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn errors_are_asked_again_with_growing_waits() {
    let scripted = Scripted::new(&[Err("e")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect();
    let (mut expected, mut last) = (1.0, fixture.sim.now());
    for n in 1..=8 {
        // Whoever asks in between is not heard: it will be asked anyway.
        fixture.a.stage().cc.resolve_now();
        fixture.run();
        assert_eq!(scripted.asked(), n);
        while scripted.asked() == n {
            fixture.pass(0.01);
        }
        let now = fixture.sim.now();
        let wait = (now - std::mem::replace(&mut last, now)).as_secs_f64();
        let range = expected * 0.8 - 0.01..=expected * 1.2 + 0.01;
        assert!(
            range.contains(&wait),
            "wait {n} of about {expected}: {wait}"
        );
        expected *= 1.6;
    }
    fixture.core.reset_backoff();
    fixture.run();
    assert_eq!(scripted.asked(), 10, "a reset does not wait");
}

#[test]
fn after_a_reset_the_waits_start_anew() {
    let scripted = Scripted::new(&[Err("e")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect().pass(200.0);
    fixture.core.reset_backoff();
    fixture.run();
    let before = scripted.asked();
    fixture.pass(1.2);
    assert_eq!(
        scripted.asked(),
        before + 1,
        "the first wait again, about a second"
    );
}

#[test]
fn a_reset_without_a_wait_shortens_none_later() {
    let scripted = Scripted::new(&[Ok("x"), Err("e")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect();
    fixture.core.reset_backoff();
    fixture.run();
    fixture.a.stage().cc.resolve_now();
    fixture.pass(30.0);
    assert_eq!(scripted.asked(), 2);
    fixture.pass(0.7);
    assert_eq!(scripted.asked(), 2, "the failure is backed off");
}

#[test]
fn requests_after_a_success_wait_for_the_floor() {
    let scripted = Scripted::new(&[Ok("x")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect().pass(10.0);
    for _ in 0..100 {
        fixture.a.stage().cc.resolve_now();
    }
    fixture.pass(19.9);
    assert_eq!(scripted.asked(), 1);
    fixture.pass(0.1);
    assert_eq!(scripted.asked(), 2, "all of them together");
    fixture.pass(1_000.0);
    assert_eq!(scripted.asked(), 2, "nobody asked since");
}

#[test]
fn a_resolver_that_panics_has_failed() {
    let mut scripted = Scripted::new(&[Err("panic at once"), Err("panic later"), Ok("x")]);
    scripted.panics = true;
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.connect();
    let patient = fixture.wait_for_ready();
    assert_eq!(
        fixture.rpc().outcome(),
        "unavailable: the resolver panicked: no resolv.conf"
    );
    fixture.pass(1.2);
    fixture.pass(2.0);
    assert_eq!(patient.outcome(), "x");
    // It does not know how long to be left alone, either, and is asked on.
    fixture.lose("x").pass(29.0);
    assert_eq!(scripted.asked(), 3, "left alone as DNS is");
    fixture.pass(2.0);
    assert_eq!(scripted.asked(), 4);
}

#[test]
fn under_a_policy_that_never_speaks_rpcs_know_the_config() {
    let fixture = Fixture::unresolved();
    fixture.a.hook(|_, _| Flow::Done);
    fixture.connect();
    let rpc = fixture.wait_for_ready();
    let config = || {
        fixture
            .core
            .current()
            .config()
            .map(|config| config.to_string())
    };
    assert_eq!(config(), None, "nobody has answered");
    fixture.resolve_with("x", "a/patient");
    assert_eq!(config().as_deref(), Some("a/patient"));
    assert_eq!(rpc.outcome(), "waits");
    assert_eq!(fixture.state(), State::Connecting);
}

#[test]
fn a_loss_and_a_failed_pass_ask_the_resolver() {
    let fixture = Fixture::new("x");
    fixture.connect();
    assert_eq!(fixture.resolver.resolutions(), 1);
    fixture.answer("x", Answer::Refuse).lose("x");
    assert!(fixture.resolver.resolutions() >= 2);
    let before = fixture.resolver.resolutions();
    fixture.pass(3.0);
    assert!(
        fixture.resolver.resolutions() > before,
        "and each failed pass"
    );
}

#[test]
fn the_config_of_the_resolver_decides() {
    let fixture = Fixture::unresolved();
    fixture.policy("b");
    fixture.connect().resolve_with("x", "b/fast");
    assert_eq!(
        fixture.told()[..2],
        ["b1: build", "b1: addrs [x] config fast"]
    );
    let snapshot = fixture.core.snapshot();
    assert_eq!(snapshot.policy.as_deref(), Some("b"));
    assert_eq!(snapshot.service_config.as_deref(), Some("b/fast"));
}

#[test]
fn a_first_config_that_is_invalid_fails_rpcs_also_patient_ones() {
    let fixture = Fixture::unresolved();
    fixture.connect();
    let patient = fixture.wait_for_ready();
    fixture.resolve_with("x", "nonsense");
    let text = "drop UNAVAILABLE: invalid service config: no policy \"nonsense\"";
    assert_eq!(fixture.rpc().outcome(), text);
    assert_eq!(patient.outcome(), text);
    assert_eq!(fixture.state(), State::TransientFailure);
    assert_eq!(fixture.told(), [""; 0], "addresses are not delivered");
    assert_eq!(fixture.resolver.resolutions(), 1);
    fixture.pass(1.2);
    assert_eq!(
        fixture.resolver.resolutions(),
        2,
        "the resolver was told: bad"
    );
    fixture.resolve("x");
    assert_eq!(fixture.rpc().outcome(), "x", "a good one heals it");
}

#[test]
fn a_later_config_that_is_invalid_is_ignored_but_not_its_addresses() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.log.take();
    fixture.resolve_with("x y", "nonsense");
    assert_eq!(fixture.told()[0], "a1: addrs [x y]");
    let asked = fixture.resolver.resolutions();
    fixture.pass(1.2);
    assert_eq!(fixture.resolver.resolutions(), asked + 1, "still bad");
    assert_eq!(fixture.core.snapshot().sub_conns.len(), 2);
}

#[test]
fn without_a_config_the_last_one_stays() {
    let fixture = Fixture::unresolved();
    let b = fixture.policy("b");
    fixture.connect().resolve_with("x", "b").resolve("x y");
    assert_eq!((b.built(), fixture.a.built()), (1, 0));
}

#[test]
fn the_same_policy_with_another_config_is_not_rebuilt() {
    let fixture = Fixture::unresolved();
    fixture.connect().resolve_with("x", "a/1");
    fixture.resolve_with("x", "a/2");
    fixture.resolve_with("x", "a/2");
    let addrs: Vec<_> = fixture
        .told()
        .into_iter()
        .filter(|line| line.contains("addrs"))
        .collect();
    assert_eq!(
        addrs,
        [
            "a1: addrs [x] config 1",
            "a1: addrs [x] config 2",
            "a1: addrs [x] config 2"
        ],
        "one instance; the same list is delivered again"
    );
    assert_eq!(fixture.a.built(), 1);
}

#[test]
fn rpcs_see_a_new_config_also_when_the_policy_publishes_nothing() {
    let fixture = Fixture::unresolved();
    fixture.connect().resolve_with("x", "a/1");
    assert_eq!(fixture.core.current().config().unwrap().as_str(), "a/1");
    fixture.a.hook(|_, _| Flow::Done);
    fixture.resolve_with("x", "a/2");
    assert_eq!(fixture.core.current().config().unwrap().as_str(), "a/2");
    assert_eq!(
        fixture.rpc().outcome(),
        "x",
        "with the picker that there is"
    );
}

#[test]
fn a_fixed_policy_beats_the_config() {
    let fixture = Fixture::unresolved_with(|settings| {
        settings.fixed_policy = Some(settings.default_config.policy.clone());
    });
    let b = fixture.policy("b");
    fixture.connect().resolve_with("x", "b");
    assert_eq!((fixture.a.built(), b.built()), (1, 0));
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn configs_of_the_resolver_can_be_disabled() {
    let fixture = Fixture::unresolved_with(|settings| settings.ignore_resolver_config = true);
    let b = fixture.policy("b");
    fixture.connect().resolve_with("x", "b");
    assert_eq!((fixture.a.built(), b.built()), (1, 0));
    fixture.resolve_with("x", "nonsense");
    assert_eq!(fixture.rpc().outcome(), "x");
}

#[test]
fn a_rejection_of_the_policy_reaches_the_resolver() {
    let scripted = Scripted::new(&[Ok("x")]);
    let fixture = Fixture::resolved_by(Arc::new(scripted.clone()));
    fixture.a.hook(|_, event| match event {
        Event::Addrs(_) => Flow::Reject,
        _ => Flow::Default,
    });
    fixture.connect().pass(1.2);
    assert_eq!(scripted.asked(), 2);
    fixture.a.unhook();
    fixture.pass(3.0);
    let accepted = scripted.asked();
    fixture.pass(1_000.0);
    assert_eq!(scripted.asked(), accepted);
}

#[test]
fn only_the_newest_unread_list_counts() {
    let fixture = Fixture::new("x");
    fixture.connect();
    fixture.log.take();
    for names in ["x y", "x y z", "z"] {
        fixture.resolver.set_endpoints(endpoints(names));
    }
    fixture.run();
    assert_eq!(fixture.told()[0], "a1: addrs [z]");
}
