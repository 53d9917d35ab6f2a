//! What logs and messages show of a registry and of what it has read.

mod support;

use std::sync::Arc;

use balancer_api::Code;
use balancer_registry::{CodeSet, PolicySource, RegistrationError, Registry, ServiceConfig};
use support::{Plain, registry};

#[test]
fn a_set_of_codes_is_what_was_put_into_it() {
    let none = CodeSet::default();
    assert!(none.is_empty());
    assert_eq!(none.iter().count(), 0);
    assert_eq!(format!("{none:?}"), "{}");
    let both: CodeSet = [Code::Unavailable, Code::Aborted, Code::Aborted]
        .into_iter()
        .collect();
    assert!(!both.is_empty());
    for code in Code::ALL {
        let expected = matches!(code, Code::Unavailable | Code::Aborted);
        assert_eq!(both.contains(code), expected, "{code}");
    }
    assert!(both.iter().eq([Code::Aborted, Code::Unavailable]));
    assert_eq!(format!("{both:?}"), "{ABORTED, UNAVAILABLE}");
}

#[test]
fn a_registry_and_its_guards_show_the_names() {
    let registry = Registry::new();
    let guard = registry.register_guarded(Arc::new(Plain("b"))).unwrap();
    registry.register(Arc::new(Plain("a"))).unwrap();
    assert_eq!(format!("{registry:?}"), r#"Registry(["a", "b"])"#);
    let shown = format!("{guard:?}");
    assert!(shown.contains(r#"name: "b""#), "{shown}");
}

#[test]
fn a_refused_registration_says_why() {
    for (error, shown) in [
        (
            RegistrationError::EmptyName,
            "a policy's name must not be empty",
        ),
        (
            RegistrationError::NameVaries {
                name: "a".into(),
                again: "b".into(),
            },
            r#"a policy's name must not change: it was "a", then "b""#,
        ),
        (
            RegistrationError::Panicked("oh".into()),
            "asking for the policy's name panicked: oh",
        ),
    ] {
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn the_choice_of_a_policy_explains_itself() {
    let json = r#"{"loadBalancingConfig":[{"xds":{}},{"round_robin":{ }}]}"#;
    let config = ServiceConfig::parse(json, &registry()).expect("a good config");
    assert_eq!(config.json(), json, "the text as it came");
    let choice = config.resolve();
    assert_eq!(choice.name(), "round_robin");
    assert_eq!(choice.policy().name(), "round_robin");
    assert_eq!(choice.builder().name(), "round_robin");
    assert!(choice.config().is_some());
    assert_eq!(choice.config_json(), "{}");
    assert_eq!(choice.source(), PolicySource::LoadBalancingConfig(1));
    assert_eq!(choice.source().to_string(), "loadBalancingConfig[1]");
    let [xds] = choice.skipped() else {
        panic!("one is skipped: {choice:?}");
    };
    assert_eq!((xds.name(), xds.reason()), ("xds", "not registered"));
    assert_eq!(xds.to_string(), "xds: not registered");
    assert_eq!(PolicySource::Default.to_string(), "default");
    let legacy = PolicySource::LoadBalancingPolicy.to_string();
    assert_eq!(legacy, "loadBalancingPolicy");
    let shown = format!("{choice:?}");
    for part in ["round_robin", "LoadBalancingConfig(1)", "xds"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn an_invalid_config_names_every_fault_and_keeps_its_warnings() {
    let json = r#"{"methodConfig":[{"name":[{}],"timeout":1,"waitForReady":2}],"colour":3}"#;
    let error = ServiceConfig::parse(json, &registry()).expect_err("two faults");
    assert_eq!(
        error.to_string(),
        "invalid service config: methodConfig[0].timeout: 1: must be a duration such as \"1.5s\", \
         not negative; methodConfig[0].waitForReady: 2: must be true or false"
    );
    assert_eq!((error.errors().len(), error.omitted()), (2, 0));
    let warned: Vec<_> = error.warnings().iter().map(|w| w.path()).collect();
    assert_eq!(warned, ["colour"]);
}

#[test]
fn a_config_shows_its_policy_and_how_much_it_holds() {
    let json = r#"{"methodConfig":[{"name":[{},{"service":"s"},{"service":"t"}]}],"colour":3}"#;
    let config = ServiceConfig::parse(json, &registry()).expect("a good config");
    let shown = format!("{config:?}");
    let bytes = format!("bytes: {}", json.len());
    for part in ["pick_first", "method_names: 3", "warnings: 1", &bytes] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let config = ServiceConfig::parse("{}", &registry()).expect("a good config");
    let shown = format!("{config:?}");
    assert!(shown.contains("method_names: 0"), "{shown}");
}

#[test]
fn tokens_are_counted_in_thousandths_and_told_as_configured() {
    let json = r#"{"retryThrottling":{"maxTokens":10,"tokenRatio":0.25}}"#;
    let config = ServiceConfig::parse(json, &registry()).expect("a good config");
    let tokens = config.retry_throttling().expect("it has some");
    assert_eq!(
        (tokens.max_milli_tokens, tokens.milli_token_ratio),
        (10_000, 250)
    );
    assert_eq!((tokens.max_tokens(), tokens.token_ratio()), (10, 0.25));
}
