//! Registering and finding policies.

mod support;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use balancer_api::{Balancer, BuildOptions, Builder, ClientConn};
use balancer_registry::{RegistrationError, Registry, ServiceConfig};
use support::{Plain, registry};

fn plain(name: &'static str) -> Arc<dyn Builder> {
    Arc::new(Plain(name))
}

/// Whether `registry` finds exactly `builder` under `name`.
fn finds(registry: &Registry, name: &str, builder: &Arc<dyn Builder>) -> bool {
    registry
        .get(name)
        .is_some_and(|found| Arc::ptr_eq(&found, builder))
}

/// Answers with one name after the other, and in the end always with the last one.
struct Fickle {
    names: Vec<&'static str>,
    asked: AtomicUsize,
}

fn fickle(names: &[&'static str]) -> Arc<dyn Builder> {
    Arc::new(Fickle {
        names: names.to_vec(),
        asked: AtomicUsize::new(0),
    })
}

impl Builder for Fickle {
    fn name(&self) -> &str {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        let name = self.names[turn.min(self.names.len() - 1)];
        assert_ne!(name, "panic", "asked for the name");
        name
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        unreachable!("these tests build no balancer")
    }
}

#[test]
fn the_last_registration_counts() {
    let registry = Registry::new();
    let (first, second) = (plain("a"), plain("a"));
    assert!(registry.register(first.clone()).unwrap().is_none());
    let replaced = registry.register(second.clone()).unwrap();
    assert!(replaced.is_some_and(|replaced| Arc::ptr_eq(&replaced, &first)));
    assert!(finds(&registry, "a", &second));
    assert_eq!(registry.names(), ["a".into()]);
    let removed = registry.unregister("a");
    assert!(removed.is_some_and(|removed| Arc::ptr_eq(&removed, &second)));
    assert!(
        registry.get("a").is_none(),
        "a replaced builder must not come back"
    );
    assert!(registry.unregister("a").is_none());
    assert!(registry.names().is_empty());
}

#[test]
fn a_replaced_builder_is_let_go() {
    let registry = Registry::new();
    let first = plain("a");
    registry.register(first.clone()).unwrap();
    registry.register(plain("a")).unwrap();
    assert_eq!(Arc::strong_count(&first), 1, "must keep nothing of it");
}

#[test]
fn a_guard_takes_its_registration_back() {
    let registry = Registry::new();
    let (own, guarded) = (plain("a"), plain("a"));
    registry.register(own.clone()).unwrap();
    let guard = registry.register_guarded(guarded.clone()).unwrap();
    assert!(finds(&registry, "a", &guarded));
    drop(guard);
    assert!(finds(&registry, "a", &own));
}

#[test]
fn guards_go_in_any_order() {
    let [own, one, two, three] = [plain("a"), plain("a"), plain("a"), plain("a")];
    let registry = Registry::new();
    registry.register(own.clone()).unwrap();
    let first = registry.register_guarded(one).unwrap();
    let second = registry.register_guarded(two.clone()).unwrap();
    let third = registry.register_guarded(three).unwrap();
    drop(first);
    drop(third);
    assert!(
        finds(&registry, "a", &two),
        "the youngest one left must count"
    );
    drop(second);
    assert!(finds(&registry, "a", &own));
}

#[test]
fn what_is_registered_under_a_guard_stays() {
    let registry = Registry::new();
    let (later, guarded) = (plain("a"), plain("a"));
    let guard = registry.register_guarded(guarded.clone()).unwrap();
    let replaced = registry.register(later.clone()).unwrap();
    assert!(replaced.is_some_and(|replaced| Arc::ptr_eq(&replaced, &guarded)));
    drop(guard);
    assert!(finds(&registry, "a", &later));

    let guard = registry.register_guarded(guarded).unwrap();
    registry.unregister("a");
    drop(guard);
    assert!(
        registry.get("a").is_none(),
        "must not come back with the guard"
    );
}

#[test]
fn an_exact_name_goes_before_another_case() {
    let registry = Registry::new();
    let (lower, upper) = (plain("mine"), plain("Mine"));
    registry.register(upper.clone()).unwrap();
    assert!(finds(&registry, "mine", &upper), "another case will do");
    registry.register(lower.clone()).unwrap();
    assert!(finds(&registry, "mine", &lower));
    assert!(finds(&registry, "Mine", &upper));
    assert!(
        finds(&registry, "MINE", &upper),
        "the first in the order of bytes"
    );
    assert_eq!(registry.names(), ["Mine".into(), "mine".into()]);
    assert!(
        registry.unregister("MINE").is_none(),
        "must be the exact name"
    );
    registry.unregister("Mine");
    assert!(finds(&registry, "MINE", &lower));
}

#[test]
fn which_other_case_will_do_does_not_depend_on_the_order_of_registration() {
    for names in [["Mine", "mine"], ["mine", "Mine"]] {
        let registry = Registry::new();
        for name in names {
            registry.register(plain(name)).unwrap();
        }
        let found = registry.get("MINE").expect("another case will do");
        assert_eq!(found.name(), "Mine", "the first in the order of bytes");
        let legacy = r#"{"loadBalancingPolicy":"MINE"}"#;
        let config = ServiceConfig::parse(legacy, &registry).unwrap();
        assert_eq!(
            config.resolve().name(),
            "mine",
            "the old field's capitals stand for small letters"
        );
    }
}

#[test]
fn only_ascii_case_is_folded() {
    let registry = Registry::new();
    registry.register(plain("straße")).unwrap();
    assert!(registry.get("STRAßE").is_some());
    assert!(registry.get("STRASSE").is_none());
}

#[test]
fn layers_are_searched_from_the_top() {
    let base = Registry::new();
    let top = Registry::layered_over(&base);
    let (below, above) = (plain("a"), plain("a"));
    base.register(below.clone()).unwrap();
    assert!(
        finds(&top, "a", &below),
        "must see what comes to the parent later"
    );
    let replaced = top.register(above.clone()).unwrap();
    assert!(replaced.is_none(), "the parent's is hidden, not replaced");
    assert!(finds(&top, "a", &above) && finds(&base, "a", &below));
    base.register(plain("b")).unwrap();
    assert_eq!(top.names(), ["a".into(), "b".into()]);
    assert!(
        Arc::ptr_eq(&top.policies()[0].1, &above),
        "must list the one that counts"
    );
    top.unregister("a");
    assert!(finds(&top, "a", &below));
}

#[test]
fn an_exact_name_of_a_parent_goes_before_another_case_here() {
    let base = Registry::new();
    let top = Registry::layered_over(&base);
    let (exact, near) = (plain("mine"), plain("MINE"));
    base.register(exact.clone()).unwrap();
    top.register(near.clone()).unwrap();
    assert!(finds(&top, "mine", &exact));
    assert!(
        finds(&top, "Mine", &near),
        "without an exact one the nearest registry decides"
    );
}

#[test]
fn the_global_registry_starts_empty() {
    // The only test of this process that touches it.
    assert!(Registry::global().names().is_empty());
    let guard = Registry::global()
        .register_guarded(plain("for_a_test"))
        .unwrap();
    assert!(
        Registry::layered_over(Registry::global())
            .get("for_a_test")
            .is_some()
    );
    drop(guard);
    assert!(Registry::global().get("for_a_test").is_none());
}

#[test]
fn a_bad_name_is_refused() {
    let registry = Registry::new();
    let refused = |names: &[&'static str]| registry.register(fickle(names)).err();
    assert_eq!(refused(&[""]), Some(RegistrationError::EmptyName));
    let varies = refused(&["a", "b"]).expect("must be refused");
    assert_eq!(
        varies.to_string(),
        "a policy's name must not change: it was \"a\", then \"b\""
    );
    let panics = refused(&["panic"]).expect("must be refused");
    assert!(
        panics
            .to_string()
            .starts_with("asking for the policy's name panicked: ")
    );
    assert!(panics.to_string().contains("asked for the name"));
    assert!(registry.names().is_empty(), "must register nothing");
}

#[test]
fn a_name_that_changes_later_is_found_out() {
    for (names, now) in [(["a", "a", "b"], "b"), (["a", "a", ""], "")] {
        let registry = Registry::new();
        registry.register(fickle(&names)).unwrap();
        let json = r#"{"loadBalancingConfig":[{"a":{"x":1}}]}"#;
        let error = ServiceConfig::parse(json, &registry).unwrap_err();
        let error = &error.errors()[0];
        assert_eq!(
            (error.path(), error.value()),
            ("loadBalancingConfig[0].a", r#"{"x":1}"#)
        );
        assert_eq!(
            error.rule(),
            format!("the policy registered as a now calls itself {now}: a name may not change")
        );
    }
    let registry = Registry::new();
    registry.register(fickle(&["a", "a", "panic"])).unwrap();
    let parsed = ServiceConfig::parse(r#"{"loadBalancingConfig":[{"a":{}}]}"#, &registry);
    assert!(
        parsed
            .unwrap_err()
            .to_string()
            .contains("asked for the name")
    );
}

#[test]
fn a_resolved_policy_outlives_its_registration() {
    let registry = Registry::new();
    let builder = plain("a");
    registry.register(builder.clone()).unwrap();
    let json = r#"{"loadBalancingConfig":[{"a":{}}]}"#;
    let config = ServiceConfig::parse(json, &registry).unwrap();
    registry.register(plain("a")).unwrap();
    assert!(Arc::ptr_eq(config.resolve().builder(), &builder));
    let config = ServiceConfig::parse(json, &registry).unwrap();
    assert!(
        !Arc::ptr_eq(config.resolve().builder(), &builder),
        "the next one gets the new one"
    );
}

#[test]
fn a_builder_may_use_the_registry_when_it_is_dropped() {
    struct Nosy(Registry);
    impl Builder for Nosy {
        fn name(&self) -> &str {
            "nosy"
        }
        fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("these tests build no balancer")
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            // With a lock held this would never come back.
            self.0
                .register(Arc::new(Plain("from_drop")))
                .expect("a good name");
            assert!(self.0.get("nosy").is_none_or(|nosy| nosy.name() == "nosy"));
        }
    }
    for forget in [
        |registry: &Registry| drop(registry.register(plain("nosy"))),
        |registry: &Registry| drop(registry.unregister("nosy")),
    ] {
        let registry = Registry::new();
        registry.register(Arc::new(Nosy(registry.clone()))).unwrap();
        forget(&registry);
        assert!(
            registry.get("from_drop").is_some(),
            "must have been dropped"
        );
    }
    let registry = Registry::new();
    registry.register(Arc::new(Nosy(registry.clone()))).unwrap();
    let _guard = registry.register_guarded(plain("nosy")).unwrap();
    registry.register(plain("nosy")).unwrap();
    assert!(
        registry.get("from_drop").is_some(),
        "must have gone from under the guard"
    );

    let registry = Registry::new();
    drop(
        registry
            .register_guarded(Arc::new(Nosy(registry.clone())))
            .unwrap(),
    );
    assert!(registry.get("from_drop").is_some());
}

#[test]
fn threads_register_find_and_parse_at_once() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 200;
    let registry = registry();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (registry, start) = (&registry, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let guard = registry.register_guarded(plain("shared")).unwrap();
                    let found = registry.get("shared").expect("at least our own is there");
                    assert_eq!(found.name(), "shared");
                    let count = round % 5 + 2;
                    let json = format!(
                        r#"{{"loadBalancingConfig":[{{"gone{thread}":{{}}}},{{"least_request":{{"choiceCount":{count}}}}}]}}"#
                    );
                    let config = ServiceConfig::parse(json, registry).unwrap();
                    assert_eq!(config.resolve().name(), "least_request");
                    let expected = format!(r#"{{"choiceCount":{count}}}"#);
                    assert_eq!(config.resolve().config_json(), expected);
                    drop(guard);
                }
            });
        }
    });
    assert!(registry.get("shared").is_none(), "all guards are gone");
    assert_eq!(registry.names().len(), 4);
}
