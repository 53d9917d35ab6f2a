//! Policies inside policies, and configuration that stays the same object.

mod support;

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, Builder, ChildConfig, ChildResolver, ClientConn, ConfigError, LbConfig,
    ParseContext,
};
use balancer_registry::{Registry, ServiceConfig};
use support::{
    Counting, CountingConfig, NestConfig, Plain, accept, refuse_once, registry, warnings,
};

/// The configuration that `json` gives the policy it chooses.
fn config(json: &str, registry: &Registry) -> LbConfig {
    let config = ServiceConfig::parse(json, registry).expect("a valid config");
    config.resolve().config().expect("a configuration").clone()
}

fn child(config: &LbConfig) -> ChildConfig {
    let nest: &NestConfig = config.downcast_ref().expect("a nest");
    nest.0.clone().expect("a child")
}

fn in_list(policy: &str) -> String {
    format!(r#"{{"loadBalancingConfig":[{policy}]}}"#)
}

const NESTED: &str = r#"{"nest":{"childPolicy":[{"xds":{}},{"least_request":{"choiceCount":3}}]}}"#;

#[test]
fn a_child_is_chosen_like_the_policy_at_the_top() {
    let child = child(&config(&in_list(NESTED), &registry()));
    assert_eq!(child.name(), "least_request");
    let counting = child
        .config()
        .and_then(LbConfig::downcast_ref::<CountingConfig>);
    assert_eq!(counting.and_then(|config| config.0), Some(3));
}

#[test]
fn the_registry_resolves_children_for_anybody() {
    let registry = registry();
    let mut cx = ParseContext::new(&registry, 0);
    let list = r#"[ {"LEAST_REQUEST":{"Choicecount":3}} ]"#;
    let child = registry.resolve_child(list, &mut cx).expect("a valid list");
    assert_eq!(child.name(), "least_request");
    let warnings: Vec<_> = cx.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "[0].LEAST_REQUEST: no policy has exactly this name; least_request is used",
            "[0].LEAST_REQUEST.Choicecount: unknown field; did you mean choiceCount?",
        ]
    );
    for (list, error) in [
        (
            "[",
            "[0]: must be JSON: expected a value at line 1 column 2, where the text ends",
        ),
        ("[]", "[]: must name at least one policy"),
        (
            r#"[{"least_request":{"choiceCount":1}}]"#,
            "[0].least_request.choiceCount: 1: must be a whole number of at least 2",
        ),
        (
            r#"[{"a":1,"a":2}]"#,
            "[0].a: 2: a key must be given only once",
        ),
    ] {
        let refused = registry.resolve_child(list, &mut cx).expect_err(list);
        assert_eq!(refused.to_string(), error);
    }
}

#[test]
fn errors_and_warnings_of_children_have_the_whole_path() {
    let (path, value, rule) = refuse_once(in_list(
        r#"{"nest":{"childPolicy":[{"nest":{"childPolicy":[{"a":{}},{"least_request":{"choiceCount":0}}]}}]}}"#,
    ));
    let nested = "loadBalancingConfig[0].nest.childPolicy[0].nest.childPolicy";
    assert_eq!(path, format!("{nested}[1].least_request.choiceCount"));
    assert_eq!(
        (&*value, &*rule),
        ("0", "must be a whole number of at least 2")
    );

    let (path, value, rule) =
        refuse_once(in_list(r#"{"nest":{"childPolicy":[{"a":{}},{"b":{}}]}}"#));
    assert_eq!(path, "loadBalancingConfig[0].nest.childPolicy");
    assert_eq!(value, r#"[{"a":{}},{"b":{}}]"#);
    assert!(
        rule.starts_with("none of these policies is registered: a, b (registered: "),
        "{rule}"
    );

    assert_eq!(
        warnings(in_list(
            r#"{"nest":{"childPolicy":[{"round_robin":{"x":1}}],"y":2}}"#
        )),
        [
            "loadBalancingConfig[0].nest.childPolicy[0].round_robin: this policy takes no configuration; it is ignored",
            "loadBalancingConfig[0].nest.y: unknown field; it is ignored",
        ]
    );
}

/// Warns so many times, and complains at great length when it is given something.
struct Chatty(usize);

impl Builder for Chatty {
    fn name(&self) -> &str {
        "chatty"
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        unreachable!("these tests build no balancer")
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        (0..self.0).for_each(|i| cx.warn(format!("w{i}"), "so what"));
        match json {
            "{}" => Ok(LbConfig::new(json, ())),
            _ => Err(ConfigError::new("p".repeat(1000), json, "must be nothing")),
        }
    }
}

#[test]
fn a_chatty_policy_is_cut_short() {
    let registry = registry();
    registry.register(Arc::new(Chatty(100))).unwrap();
    let mut limits = balancer_registry::Limits::default();
    limits.max_warnings = 1000;
    let parse = |json: &str| ServiceConfig::parse_with(in_list(json), &registry, &limits);
    let config = parse(r#"{"chatty":{}}"#).unwrap();
    assert_eq!(config.warnings().len(), 65);
    let last = config.warnings().last().map(ToString::to_string);
    assert_eq!(
        last.as_deref(),
        Some("loadBalancingConfig[0].chatty: 36 more warnings are not shown")
    );
    registry.register(Arc::new(Chatty(64))).unwrap();
    let config = parse(r#"{"chatty":{}}"#).unwrap();
    assert_eq!(config.warnings().len(), 64, "as many as are shown");
    let error = parse(r#"{"chatty":{"x":1}}"#).unwrap_err();
    let error = &error.errors()[0];
    assert_eq!(error.path().chars().count(), 256);
    assert!(
        error
            .path()
            .starts_with("loadBalancingConfig[0].chatty.ppp"),
        "{}",
        error.path()
    );
    assert_eq!(
        (error.value(), error.rule()),
        (r#"{"x":1}"#, "must be nothing")
    );
}

#[test]
fn equal_configuration_is_the_same_object() {
    let registry = registry();
    let first = config(&in_list(NESTED), &registry);
    let spaced = NESTED
        .replace(':', " : ")
        .replace("choiceCount", "choice\\u0043ount");
    let again = config(&in_list(&format!("{{\"a\":{{}}}},{spaced}")), &registry);
    assert!(
        first.is_same(&again),
        "blanks, escapes and other entries change nothing"
    );

    let other = NESTED.replace('3', "4");
    let other = config(&in_list(&other), &registry);
    assert!(!first.is_same(&other));
    let kept = config(
        &in_list(r#"{"least_request":{"choiceCount":3}}"#),
        &registry,
    );
    let of_child = child(&first);
    assert!(
        of_child
            .config()
            .is_some_and(|config| config.is_same(&kept)),
        "children as well"
    );
}

#[test]
fn equal_text_of_another_policy_is_another_object() {
    let registry = registry();
    registry.register(Arc::new(Counting("other"))).unwrap();
    let one = config(&in_list(r#"{"least_request":{}}"#), &registry);
    let two = config(&in_list(r#"{"other":{}}"#), &registry);
    assert!(!one.is_same(&two));
}

#[test]
fn remembered_warnings_are_repeated() {
    let registry = registry();
    let json = in_list(r#"{"nest":{"childPolicy":[{"round_robin":{"x":1}}],"y":2}}"#);
    let first = ServiceConfig::parse(&json, &registry).unwrap();
    let again = ServiceConfig::parse(&json, &registry).unwrap();
    assert_eq!(first.warnings().len(), 2);
    assert_eq!(first.warnings(), again.warnings());
}

#[test]
fn a_registration_makes_composites_forget() {
    let base = registry();
    let registry = Registry::layered_over(&base);
    let first = config(&in_list(NESTED), &registry);
    for (change, registry_changed) in [("in the parent", &base), ("here", &registry)] {
        let replacement: Arc<dyn Builder> = Arc::new(Counting("least_request"));
        registry_changed.register(replacement.clone()).unwrap();
        let again = config(&in_list(NESTED), &registry);
        assert!(!first.is_same(&again), "{change}");
        assert!(
            Arc::ptr_eq(child(&again).builder(), &replacement),
            "{change}"
        );
    }
    let guard = registry.register_guarded(Arc::new(Plain("xds"))).unwrap();
    assert_eq!(child(&config(&in_list(NESTED), &registry)).name(), "xds");
    drop(guard);
    assert_eq!(
        child(&config(&in_list(NESTED), &registry)).name(),
        "least_request"
    );
}

#[test]
fn what_was_accepted_higher_up_is_not_accepted_too_deep() {
    let registry = registry();
    let nest = |depth: usize, inside: &str| {
        format!(
            "{}{inside}{}",
            r#"{"nest":{"childPolicy":["#.repeat(depth),
            "]}}".repeat(depth)
        )
    };
    // Fifteen policies in each other are fine at the top. Two levels down they are not, however
    // well they are remembered.
    let mut limits = balancer_registry::Limits::default();
    limits.max_depth = 128;
    let fifteen = nest(14, r#"{"round_robin":{}}"#);
    let parse = |policy: &str| ServiceConfig::parse_with(in_list(policy), &registry, &limits);
    let first = parse(&fifteen).expect("fifteen are allowed");
    assert!(parse(&nest(2, &fifteen)).is_err());
    assert!(parse(&nest(1, &fifteen)).is_ok());
    let again = parse(&fifteen).expect("still allowed");
    let same = |a: &ServiceConfig, b: &ServiceConfig| {
        let (a, b) = (a.resolve().config(), b.resolve().config());
        a.zip(b).is_some_and(|(a, b)| a.is_same(b))
    };
    assert!(
        same(&first, &again),
        "reading it deeper must not make it another object"
    );
}

#[test]
fn a_child_s_list_may_be_as_long_and_as_deep_as_the_config_lets_it() {
    let registry = registry();
    let mut limits = balancer_registry::Limits::default();
    limits.max_bytes = 200_000;
    limits.max_depth = 128;
    let long = format!("\"{}\"", "y".repeat(150_000));
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for value in [long, deep] {
        let nest = r#"{"nest":{"childPolicy":[{"round_robin":{"x":VALUE}}]}}"#;
        let json = in_list(&nest.replace("VALUE", &value));
        let config = ServiceConfig::parse_with(json, &registry, &limits);
        let config = config.expect("the limits for all of it are kept");
        let nest = config.resolve().config().expect("it has one").clone();
        assert_eq!(child(&nest).name(), "round_robin");
    }
}

#[test]
fn the_memory_is_bounded() {
    let registry = Registry::new();
    let builder: Arc<dyn Builder> = Arc::new(Counting("least_request"));
    registry.register(builder.clone()).unwrap();
    let policy =
        |count: usize| in_list(&format!(r#"{{"least_request":{{"choiceCount":{count}}}}}"#));
    let first = config(&policy(2), &registry);
    for count in 3..=10_000 {
        config(&policy(count), &registry);
        if count % 100 == 0 {
            let kept = config(&policy(2), &registry);
            assert!(kept.is_same(&first), "what is in use must stay, at {count}");
        }
    }
    let remembered = Arc::strong_count(&builder);
    assert!(
        remembered < 600,
        "must not remember all of 10,000: {remembered}"
    );
    let large = format!(r#"{{"least_request":{{"x":"{}"}}}}"#, "x".repeat(60_000));
    for count in 0..100 {
        config(
            &in_list(&large.replace("\"x\":", &format!("\"x{count}\":"))),
            &registry,
        );
    }
    let remembered = Arc::strong_count(&builder);
    assert!(remembered < 20, "must count bytes, too: {remembered}");
}

#[test]
fn a_nest_without_children_is_fine() {
    let config = accept(in_list(r#"{"nest":{}}"#));
    let nest = config
        .resolve()
        .config()
        .and_then(LbConfig::downcast_ref::<NestConfig>);
    assert!(nest.is_some_and(|nest| nest.0.is_none()));
}
