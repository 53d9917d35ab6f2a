//! Which policy a service config chooses, and what it says of the others.

mod support;

use std::sync::Arc;

use balancer_registry::{Limits, PolicySource, Registry, ServiceConfig};
use support::{Plain, accept, parse, refuse_once, registry, warnings};

/// The choice of a config: name, source, configuration.
fn choice(json: &str) -> (String, String, String) {
    let config = accept(json);
    let choice = config.resolve();
    (
        choice.name().into(),
        choice.source().to_string(),
        choice.config_json().into(),
    )
}

fn skipped(json: &str) -> Vec<String> {
    let config = accept(json);
    config
        .resolve()
        .skipped()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn without_a_choice_it_is_pick_first() {
    for json in [
        "{}",
        r#"{"loadBalancingConfig":null,"loadBalancingPolicy":null}"#,
    ] {
        let config = accept(json);
        assert_eq!(
            choice(json),
            ("pick_first".into(), "default".into(), "{}".into())
        );
        assert!(
            config.resolve().config().is_none(),
            "must have no configuration"
        );
        assert!(config.warnings().is_empty(), "must be nothing to warn of");
    }
}

#[test]
fn the_first_registered_policy_decides() {
    let json = r#"{"loadBalancingConfig":[
        {"xds":{"a":1}}, {"least_request":{ "choiceCount" : 3 }}, {"round_robin":{}}, {"grpclb":7}
    ]}"#;
    let expected = (
        "least_request",
        "loadBalancingConfig[1]",
        r#"{"choiceCount":3}"#,
    );
    let (name, source, config) = choice(json);
    assert_eq!((&*name, &*source, &*config), expected);
    let later = "not parsed: least_request before it was chosen";
    assert_eq!(
        skipped(json),
        [
            "xds: not registered".to_owned(),
            format!("round_robin: {later}"),
            format!("grpclb: {later}"),
        ]
    );
}

#[test]
fn of_very_many_skipped_policies_some_are_listed_and_the_rest_counted() {
    let mut limits = Limits::default();
    limits.max_skipped = 2;
    for (unknown, listed, warning) in [
        (2, 2, None),
        (3, 2, Some("1 more skipped policies are not listed")),
        (9, 2, Some("7 more skipped policies are not listed")),
    ] {
        let entries: Vec<_> = (0..unknown)
            .map(|i| format!(r#"{{"x{i}":{{}}}},"#))
            .collect();
        let json = format!(
            r#"{{"loadBalancingConfig":[{}{{"round_robin":{{}}}}]}}"#,
            entries.concat()
        );
        let config = ServiceConfig::parse_with(json, &registry(), &limits).expect("a good config");
        assert_eq!(config.resolve().name(), "round_robin");
        assert_eq!(config.resolve().skipped().len(), listed);
        let warned: Vec<_> = config.warnings().iter().map(ToString::to_string).collect();
        let expected = warning.map(|text| format!("loadBalancingConfig: {text}"));
        assert_eq!(warned, Vec::from_iter(expected));
    }
}

#[test]
fn a_later_entry_is_not_even_looked_at() {
    let json = r#"{"loadBalancingConfig":[{"round_robin":{}},{},7,{"least_request":{"choiceCount":0},"b":{}}]}"#;
    assert_eq!(choice(json).0, "round_robin");
    let names: Vec<_> = accept(json)
        .resolve()
        .skipped()
        .iter()
        .map(|skipped| skipped.name().to_owned())
        .collect();
    assert_eq!(names, ["{}", "7", "least_request", "b"]);
}

#[test]
fn the_chosen_policy_s_error_is_the_config_s() {
    let json = r#"{"loadBalancingConfig":[{"x":{}},{"least_request":{"choiceCount":1}},{"round_robin":{}}]}"#;
    let expected = (
        "loadBalancingConfig[1].least_request.choiceCount".into(),
        "1".into(),
        "must be a whole number of at least 2".into(),
    );
    assert_eq!(
        refuse_once(json),
        expected,
        "must not fall on to round_robin"
    );
}

#[test]
fn a_malformed_list_is_refused() {
    let list = "loadBalancingConfig";
    for (json, path, value, rule) in [
        ("[]", list, "[]", "must name at least one policy"),
        (
            "{}",
            list,
            "{}",
            "must be a list of policies, such as [{\"round_robin\":{}}]",
        ),
        (
            r#"[{"x":{}},{}]"#,
            "loadBalancingConfig[1]",
            "{}",
            "must name a policy, such as {\"round_robin\":{}}",
        ),
        (
            r#"[{"round_robin":{},"x":{}}]"#,
            "loadBalancingConfig[0]",
            r#"{"round_robin":{},"x":{}}"#,
            "must have one policy only; each one is an entry of its own",
        ),
        (
            r#"["round_robin"]"#,
            "loadBalancingConfig[0]",
            r#""round_robin""#,
            "must be an object with one policy, such as {\"round_robin\":{}}",
        ),
        (
            r#"[{"a":{}},{"b":{}}]"#,
            list,
            r#"[{"a":{}},{"b":{}}]"#,
            "none of these policies is registered: a, b \
             (registered: least_request, nest, pick_first, round_robin)",
        ),
        (
            r#"[{"least_request":null}]"#,
            "loadBalancingConfig[0].least_request",
            "null",
            "must be an object",
        ),
    ] {
        let json = format!("{{\"loadBalancingConfig\":{json}}}");
        let expected = (path.into(), value.into(), rule.into());
        assert_eq!(refuse_once(&json), expected, "{json}");
    }
}

#[test]
fn the_list_counts_before_the_old_field() {
    let json = r#"{"loadBalancingConfig":[{"round_robin":{}}],"loadBalancingPolicy":"pick_first"}"#;
    assert_eq!(choice(json).0, "round_robin");
    assert_eq!(
        warnings(json),
        ["loadBalancingPolicy: pick_first is ignored: there is a loadBalancingConfig"]
    );
    let unsupported = r#"{"loadBalancingConfig":[{"x":{}}],"loadBalancingPolicy":"pick_first"}"#;
    assert_eq!(refuse_once(unsupported).0, "loadBalancingConfig");
}

#[test]
fn the_old_field_is_read_in_any_case() {
    for name in ["round_robin", "ROUND_ROBIN", "Round_Robin"] {
        let json = format!(r#"{{"loadBalancingPolicy":"{name}"}}"#);
        let expected = (
            "round_robin".into(),
            "loadBalancingPolicy".into(),
            "{}".into(),
        );
        assert_eq!(choice(&json), expected);
        assert!(
            warnings(&json).is_empty(),
            "capitals are how this field is written"
        );
        assert!(accept(&json).resolve().config().is_some());
    }
}

#[test]
fn an_unknown_name_in_the_old_field_means_pick_first() {
    for name in ["xds", ""] {
        let json = format!(r#"{{"loadBalancingPolicy":"{name}"}}"#);
        assert_eq!(
            choice(&json),
            ("pick_first".into(), "default".into(), "{}".into())
        );
        assert_eq!(
            warnings(&json),
            [format!(
                "loadBalancingPolicy: {name} is not registered; pick_first is used"
            )]
        );
        assert_eq!(skipped(&json), [format!("{name}: not registered")]);
    }
}

#[test]
fn the_old_field_must_be_a_string() {
    for list in ["", r#""loadBalancingConfig":[{"round_robin":{}}],"#] {
        let json = format!("{{{list}\"loadBalancingPolicy\":1}}");
        let expected = (
            "loadBalancingPolicy".into(),
            "1".into(),
            "must be a string".into(),
        );
        assert_eq!(refuse_once(json), expected);
    }
}

#[test]
fn another_case_will_do_with_a_warning() {
    let json = r#"{"loadBalancingConfig":[{"Round_Robin":{}}]}"#;
    assert_eq!(choice(json).0, "round_robin");
    assert_eq!(
        warnings(json),
        [
            "loadBalancingConfig[0].Round_Robin: no policy has exactly this name; round_robin is used"
        ]
    );
}

#[test]
fn a_registry_without_the_default_says_so() {
    let registry = Registry::new();
    let error = ServiceConfig::parse("{}", &registry).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid service config: loadBalancingConfig: no policy is chosen and the default, \
         pick_first, is not registered"
    );
    registry.register(Arc::new(Plain("mine"))).unwrap();
    let config = ServiceConfig::parse(r#"{"loadBalancingPolicy":"mine"}"#, &registry).unwrap();
    assert_eq!(config.resolve().source(), PolicySource::LoadBalancingPolicy);
}

#[test]
fn of_very_many_names_sixteen_are_said_and_the_rest_counted() {
    let names = |count: usize| (0..count).map(|i| format!("p{i:02}")).collect::<Vec<_>>();
    let rule_of = |count: usize| {
        let entries: Vec<_> = names(count)
            .iter()
            .map(|n| format!(r#"{{"{n}":{{}}}}"#))
            .collect();
        let json = format!(r#"{{"loadBalancingConfig":[{}]}}"#, entries.join(","));
        let error = ServiceConfig::parse(json, &Registry::new()).expect_err("nothing is known");
        error.errors()[0].rule().to_owned()
    };
    for (count, more) in [(15, ""), (16, ""), (17, " and 1 more"), (20, " and 4 more")] {
        let said = names(count.min(16)).join(", ");
        let rule = format!("none of these policies is registered: {said}{more} (registered: none)");
        assert_eq!(rule_of(count), rule);
    }
}

#[test]
fn an_empty_text_is_no_service_config() {
    for text in ["", " ", "null", "[]", "\"\"", "7"] {
        assert!(parse(text).is_err(), "{text:?} must be refused");
    }
}
