//! Laws of parsing, for texts that nobody thought of. A failure prints the text and a seed that
//! replays it.

mod support;

use std::time::Duration;

use balancer_registry::{Limits, MethodConfig, ServiceConfig, TxtClient, parse_txt_choices};
use proptest::{
    collection::vec, prelude::*, sample::select, string::string_regex,
    test_runner::FileFailurePersistence,
};
use serde_json::{Value, json};
use support::{parse, refuse, registry};

/// Where seeds of failures are kept: beside this file.
fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig {
        // `PROPTEST_CASES` asks for more.
        cases: ProptestConfig::default().cases * 2,
        failure_persistence: Some(Box::new(seeds)),
        ..ProptestConfig::default()
    }
}

/// Trees of JSON, as deep and wide as a config may be.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |x| x.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inside| {
        prop_oneof![
            vec(inside.clone(), 0..8).prop_map(Value::from),
            vec((any::<String>(), inside), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Texts made of what a service config is made of, in any order.
fn shreds() -> impl Strategy<Value = String> {
    let shred = select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u00",
        "\\ud83d",
        "null",
        "true",
        "1",
        "-0",
        "1e400",
        "0.1",
        " ",
        "\n",
        "\u{1}",
        "é",
        "\"loadBalancingConfig\":",
        "\"loadBalancingPolicy\":",
        "\"methodConfig\":[",
        "\"name\":[{",
        "\"service\":\"s\"",
        "\"retryPolicy\":{",
        "\"timeout\":\"1s\"",
        "{\"round_robin\":{}}",
        "{\"nest\":{\"childPolicy\":[",
        "\"least_request\":",
        "\"retryThrottling\":{",
        "\"healthCheckConfig\":{",
        "\"connectionScaling\":{",
        "\"a\":1",
    ]);
    vec(shred, 0..40).prop_map(|shreds| shreds.concat())
}

/// A service config without a mistake: what it says, and its JSON.
fn valid() -> impl Strategy<Value = Valid> {
    let policy = select(vec![
        json!({"round_robin": {}}),
        json!({"least_request": {"choiceCount": 3}}),
        json!({"nest": {"childPolicy": [{"gone": {}}, {"round_robin": {}}]}}),
    ]);
    let method = (
        string_regex("[a-z]{1,8}(\\.[A-Z][a-z]{1,8})?").expect("a regex"),
        proptest::option::of(string_regex("[A-Z][a-z]{0,8}").expect("a regex")),
        proptest::option::of((0..100_000_u64, 0..1_000_000_000_u32)),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<u32>()),
        0..3_u8,
        2..=5_u32,
    );
    (
        policy,
        vec(method, 0..6),
        1..=1000_u32,
        1..=1_000_000_u32,
        any::<String>(),
    )
        .prop_map(|(policy, methods, tokens, milli, health)| {
            let mut seen = std::collections::BTreeSet::new();
            let methods: Vec<Method> = methods
                .into_iter()
                .map(
                    |(service, method, timeout, wait, bytes, kind, attempts)| Method {
                        path: format!("/{service}/{}", method.as_deref().unwrap_or_default()),
                        service,
                        method,
                        timeout: timeout.map(|(s, ns)| Duration::new(s, ns)),
                        wait,
                        bytes,
                        kind,
                        attempts,
                    },
                )
                .filter(|method| seen.insert(method.path.clone()))
                .collect();
            Valid {
                policy,
                methods,
                tokens,
                milli,
                health,
            }
        })
}

#[derive(Clone, Debug)]
struct Valid {
    policy: Value,
    methods: Vec<Method>,
    tokens: u32,
    milli: u32,
    health: String,
}

#[derive(Clone, Debug)]
struct Method {
    path: String,
    service: String,
    method: Option<String>,
    timeout: Option<Duration>,
    wait: Option<bool>,
    bytes: Option<u32>,
    /// 0: one attempt, 1: retries, 2: hedges.
    kind: u8,
    attempts: u32,
}

impl Valid {
    fn json(&self) -> Value {
        let methods: Vec<Value> = self.methods.iter().map(Method::json).collect();
        json!({
            "loadBalancingConfig": [{"gone": {}}, self.policy],
            "methodConfig": methods,
            "retryThrottling": {"maxTokens": self.tokens, "tokenRatio": f64::from(self.milli) / 1000.0},
            "healthCheckConfig": {"serviceName": self.health},
            "connectionScaling": {"maxConnectionsPerSubchannel": 3},
        })
    }
}

impl Method {
    fn json(&self) -> Value {
        let mut json = json!({
            "name": [{"service": self.service, "method": self.method}],
            "timeout": self.timeout.map(|d| format!("{}.{:09}s", d.as_secs(), d.subsec_nanos())),
            "waitForReady": self.wait,
            "maxRequestMessageBytes": self.bytes.map(|bytes| bytes.to_string()),
        });
        match self.kind {
            1 => {
                json["retryPolicy"] = json!({
                    "maxAttempts": self.attempts, "initialBackoff": "0.1s", "maxBackoff": "1s",
                    "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", 8],
                });
            }
            2 => json["hedgingPolicy"] = json!({"maxAttempts": self.attempts}),
            _ => {}
        }
        json
    }

    fn check(&self, config: Option<&MethodConfig>) {
        let config = config.expect("an entry");
        assert_eq!(config.timeout, self.timeout);
        assert_eq!(config.wait_for_ready, self.wait);
        assert_eq!(config.max_request_message_bytes, self.bytes);
        let retry = config.retry_policy().map(|policy| policy.max_attempts);
        let hedge = config.hedging_policy().map(|policy| policy.max_attempts);
        assert_eq!(retry, (self.kind == 1).then_some(self.attempts));
        assert_eq!(hedge, (self.kind == 2).then_some(self.attempts));
    }
}

/// Every place in a tree that holds a value, as the error's path and a JSON pointer.
fn places(value: &Value, path: &str, pointer: &str, places: &mut Vec<(String, String)>) {
    places.push((path.to_owned(), pointer.to_owned()));
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                self::places(
                    value,
                    &format!("{path}{dot}{key}"),
                    &format!("{pointer}/{key}"),
                    places,
                );
            }
        }
        Value::Array(elements) => {
            for (i, value) in elements.iter().enumerate() {
                self::places(
                    value,
                    &format!("{path}[{i}]"),
                    &format!("{pointer}/{i}"),
                    places,
                );
            }
        }
        _ => {}
    }
}

/// Whether an error in what is at `path` may be reported at `reported`: there, or further out (a
/// policy's entry), since not each rule is one of a single field.
fn names(reported: &str, path: &str) -> bool {
    path.strip_prefix(reported)
        .is_some_and(|rest| rest.is_empty() || reported.is_empty() || rest.starts_with(['.', '[']))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        let _ = parse_txt_choices([[&b"grpc_config="[..], &bytes]], &Limits::default());
    }

    #[test]
    fn any_shreds_get_an_answer(text in shreds()) {
        let parsed = parse(&text);
        if serde_json::from_str::<Value>(&text).is_err() {
            prop_assert!(parsed.is_err(), "is no JSON, must be refused");
        }
        let choices = parse_txt_choices([[format!("grpc_config=[{text}]")]], &Limits::default());
        if let Ok(choices) = choices {
            let _ = choices.choose(&TxtClient::new("rust", "a", 0));
        }
    }

    #[test]
    fn a_tree_reaches_its_policy_unchanged(tree in tree(), pretty in any::<bool>()) {
        let config = json!({"loadBalancingConfig": [{"round_robin": tree}]});
        let text = if pretty {
            serde_json::to_string_pretty(&config)
        } else {
            serde_json::to_string(&config)
        };
        let parsed = parse(text.expect("a text")).expect("any JSON is fine for round_robin");
        let json = parsed.resolve().config_json();
        // serde_json writes keys in order and no blanks, too.
        prop_assert_eq!(json, tree.to_string());
    }

    #[test]
    fn a_valid_config_says_what_was_written(valid in valid()) {
        let config = parse(valid.json().to_string()).expect("a valid config");
        prop_assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        let name = valid.policy.as_object().and_then(|policy| policy.keys().next()).cloned();
        prop_assert_eq!(Some(config.resolve().name()), name.as_deref());
        for method in &valid.methods {
            method.check(config.method_config(&method.path));
        }
        let throttling = config.retry_throttling().expect("throttling");
        prop_assert_eq!(throttling.max_tokens(), valid.tokens);
        prop_assert_eq!(throttling.milli_token_ratio, valid.milli);
        let health = config.health_check_service_name().map(|name| name.to_string());
        prop_assert_eq!(health, Some(valid.health));
    }

    #[test]
    fn one_wrong_field_is_named(valid in valid(), at in any::<prop::sample::Index>()) {
        let mut json = valid.json();
        let mut all = Vec::new();
        places(&json, "", "", &mut all);
        // What an unknown policy is given, nobody looks at.
        all.retain(|(path, _)| !path.contains("gone") && !path.contains("round_robin"));
        let (path, pointer) = at.get(&all).clone();
        // Wrong for every field: none is a fraction below zero, and no key is this long.
        *json.pointer_mut(&pointer).expect("a place in the tree") = json!(-0.5);
        let errors = refuse(json.to_string());
        for (reported, value, rule) in &errors {
            prop_assert!(names(reported, &path), "{reported} is not {path}: {rule}");
            prop_assert!(value.contains("-0.5"), "{value}");
        }
    }

    #[test]
    fn one_repeated_key_is_named(valid in valid(), at in any::<prop::sample::Index>()) {
        let json = valid.json();
        let mut all = Vec::new();
        places(&json, "", "", &mut all);
        let objects: Vec<_> = all
            .into_iter()
            .filter(|(_, pointer)| {
                json.pointer(pointer).is_some_and(|v| v.as_object().is_some_and(|o| !o.is_empty()))
            })
            .collect();
        let (path, pointer) = at.get(&objects).clone();
        let object = json.pointer(&pointer).expect("a place in the tree");
        let (key, _) = object.as_object().and_then(|o| o.iter().next()).expect("a member");
        // Written twice, the second time in another way.
        let escaped: String = key.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let marked = "\u{10ffff}";
        let mut changed = json.clone();
        *changed.pointer_mut(&pointer).expect("the same place") = Value::from(marked);
        let inside = object.to_string();
        let twice = format!("{},\"{escaped}\":7}}", &inside[..inside.len() - 1]);
        let text = changed.to_string().replace(&Value::from(marked).to_string(), &twice);
        let dot = if path.is_empty() { "" } else { "." };
        let errors = refuse(&text);
        let expected = (format!("{path}{dot}{key}"), "7".to_owned(), "a key must be given only once".to_owned());
        prop_assert_eq!(errors, [expected]);
    }

    #[test]
    fn what_is_cut_off_is_refused(valid in valid(), at in any::<prop::sample::Index>()) {
        let text = valid.json().to_string();
        let cut = &text.as_bytes()[..at.index(text.len())];
        prop_assert!(parse(cut).is_err());
    }

    #[test]
    fn the_scan_and_another_parser_agree(text in shreds(), tree in tree()) {
        // Both ways: shreds are seldom JSON, trees always are.
        for text in [format!("{{\"x\":[{text}]}}"), format!("{{\"x\":{tree}}}")] {
            let ours = ServiceConfig::parse(&text, &registry());
            let theirs = serde_json::from_str::<Value>(&text);
            match (&ours, &theirs) {
                (Ok(_), Err(error)) => prop_assert!(false, "{text}: accepted, but {error}"),
                // Shreds may close the list and go on with a field that has rules of its own.
                (Err(_), Ok(Value::Object(fields))) if fields.keys().any(|field| field != "x") => {}
                (Err(error), Ok(_)) => {
                    let repeated = |e: &balancer_api::ConfigError| e.rule() == "a key must be given only once";
                    prop_assert!(error.errors().iter().all(repeated), "{text}: {error}");
                }
                _ => {}
            }
        }
    }
}
