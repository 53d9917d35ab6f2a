//! Every field of a service config but the policy: what is read, what is refused, and with which words.

mod support;

use std::time::Duration;

use balancer_api::Code;
use balancer_registry::{Attempts, Limits, MethodConfig, ServiceConfig};
use support::{accept, refuse, refuse_once, registry, warnings};

/// A config whose only method config has `fields`, for all methods.
fn in_method(fields: &str) -> String {
    format!(r#"{{"methodConfig":[{{"name":[{{}}],{fields}}}]}}"#)
}

/// The method config with `fields`.
fn method(fields: &str) -> MethodConfig {
    let config = accept(in_method(fields));
    config
        .method_config("/s/m")
        .expect("the default entry")
        .clone()
}

/// A retry policy that is right, but for one field.
fn retry(field: &str, value: &str) -> String {
    let fields = [
        ("maxAttempts", "3"),
        ("initialBackoff", r#""0.1s""#),
        ("maxBackoff", r#""1s""#),
        ("backoffMultiplier", "2"),
        ("retryableStatusCodes", r#"["UNAVAILABLE"]"#),
    ]
    .map(|(name, right)| format!("\"{name}\":{}", if name == field { value } else { right }))
    .join(",");
    in_method(&format!("\"retryPolicy\":{{{fields}}}"))
}

fn error(path: &str, value: &str, rule: &str) -> (String, String, String) {
    (path.into(), value.into(), rule.into())
}

const DURATION: &str = "must be a duration such as \"1.5s\", not negative";
const LONGER: &str = "must be a duration such as \"1.5s\", longer than 0s";
const U32: &str = "must be a whole number from 0 to 4294967295";

#[test]
fn a_method_finds_its_own_entry_then_its_service_s_then_the_default() {
    let config = accept(
        r#"{"methodConfig":[
            {"name":[{"service":"s","method":"m"},{"service":"t"}],"timeout":"1s"},
            {"name":[{"service":"s"}],"timeout":"2s"},
            {"name":[{"service":"","method":""}],"timeout":"3s"}
        ]}"#,
    );
    for (path, seconds) in [
        ("/s/m", 1),
        ("/s/n", 2),
        ("/s/", 2),
        ("/t/m", 1),
        ("/u/m", 3),
        ("/s/m/n", 3),
        ("/s", 3),
        ("s/m", 3),
        ("", 3),
        ("é/é", 3),
    ] {
        let timeout = config.method_config(path).and_then(|config| config.timeout);
        assert_eq!(timeout, Some(Duration::from_secs(seconds)), "{path}");
    }
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn without_a_default_entry_other_methods_have_no_config() {
    let config = accept(r#"{"methodConfig":[{"name":[{"service":"s","method":"m"}]}]}"#);
    assert_eq!(config.method_config("/s/m"), Some(&MethodConfig::default()));
    assert_eq!(config.method_config("/s/n"), None);
    assert_eq!(accept("{}").method_config("/s/m"), None);
}

#[test]
fn names_are_unique_and_methods_have_services() {
    for (entries, path, value, rule) in [
        (
            r#"{"name":[{"service":"s"}]},{"name":[{"service":"t"},{"service":"s","method":""}]}"#,
            "methodConfig[1].name[1]",
            r#"{"service":"s","method":""}"#,
            "this name has a config already, in methodConfig[0].name[0]",
        ),
        (
            r#"{"name":[{},{"service":""}]}"#,
            "methodConfig[0].name[1]",
            r#"{"service":""}"#,
            "this name has a config already, in methodConfig[0].name[0]",
        ),
        (
            r#"{"name":[{"method":"m"}]}"#,
            "methodConfig[0].name[0]",
            r#"{"method":"m"}"#,
            "a method needs a service",
        ),
        (
            r#"{"name":[{"service":null,"method":"m"}]}"#,
            "methodConfig[0].name[0]",
            r#"{"service":null,"method":"m"}"#,
            "a method needs a service",
        ),
        (
            r#"{"name":[{"service":1,"method":"m"}]}"#,
            "methodConfig[0].name[0].service",
            "1",
            "must be a string",
        ),
        (
            r#"{"name":["s"]}"#,
            "methodConfig[0].name[0]",
            "\"s\"",
            "must be an object",
        ),
        (
            r#"{"name":{}}"#,
            "methodConfig[0].name",
            "{}",
            "must be a list",
        ),
        ("7", "methodConfig[0]", "7", "must be an object"),
    ] {
        let json = format!(r#"{{"methodConfig":[{entries}]}}"#);
        assert_eq!(refuse_once(&json), error(path, value, rule), "{json}");
    }
    assert_eq!(
        refuse_once(r#"{"methodConfig":{}}"#),
        error("methodConfig", "{}", "must be a list")
    );
}

#[test]
fn there_are_at_most_4096_names() {
    let names = |count: usize| {
        let names: Vec<_> = (0..count)
            .map(|i| format!(r#"{{"service":"{i}"}}"#))
            .collect();
        let (first, second) = names.split_at(2048);
        let entry = |names: &[String]| format!(r#"{{"name":[{}]}}"#, names.join(","));
        format!(r#"{{"methodConfig":[{},{}]}}"#, entry(first), entry(second))
    };
    let most = Limits::default();
    let mut room = most.clone();
    room.max_bytes *= 4;
    let config = ServiceConfig::parse_with(names(4096), &registry(), &room).unwrap();
    assert!(
        config.method_config("/4095/x").is_some(),
        "the last one must count"
    );
    let refused = ServiceConfig::parse_with(names(4097), &registry(), &room).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "invalid service config: methodConfig: 4097 names: may hold at most 4096 names"
    );
}

#[test]
fn names_that_cannot_match_are_warned_of() {
    let json = |name: &str| format!(r#"{{"methodConfig":[{{"name":[{name}]}}]}}"#);
    let slashes =
        "methodConfig[0].name[0]: the names of services and methods are written without slashes";
    for name in [
        r#"{"service":"/s"}"#,
        r#"{"service":"s/"}"#,
        r#"{"service":"s","method":"/m"}"#,
    ] {
        assert_eq!(warnings(json(name)), [slashes], "{name}");
    }
    assert_eq!(
        warnings(json("")),
        ["methodConfig[0].name: is empty: the entry applies to no method"]
    );
    assert_eq!(
        warnings(r#"{"methodConfig":[{"timeout":"1s"}]}"#),
        ["methodConfig[0]: applies to no method: it has no name"]
    );
}

#[test]
fn durations_are_seconds_with_an_s() {
    for (text, expected) in [
        ("\"1s\"", Duration::from_secs(1)),
        ("\"1.5s\"", Duration::from_millis(1500)),
        ("\"0s\"", Duration::ZERO),
        ("\"0.000000001s\"", Duration::from_nanos(1)),
        ("\"315576000000s\"", Duration::from_secs(315_576_000_000)),
        ("\"\\u0031s\"", Duration::from_secs(1)),
    ] {
        assert_eq!(
            method(&format!("\"timeout\":{text}")).timeout,
            Some(expected),
            "{text}"
        );
    }
    for text in [
        "1",
        "\"1\"",
        "\"-1s\"",
        "\"+1s\"",
        "\"1m\"",
        "\"1 s\"",
        "\"1e3s\"",
        "\"s\"",
        "\"\"",
        "\"1.s\"",
        "\".5s\"",
        "\"0.0000000001s\"",
        "\"315576000001s\"",
        "\"99999999999999999999999s\"",
        "\"NaNs\"",
        "\"infs\"",
        "true",
        "[]",
        "{}",
    ] {
        let expected = error("methodConfig[0].timeout", text, DURATION);
        assert_eq!(
            refuse_once(in_method(&format!("\"timeout\":{text}"))),
            expected
        );
    }
}

#[test]
fn numbers_are_written_as_proto_json_allows() {
    for (text, expected) in [
        ("0", 0),
        ("1024", 1024),
        ("1024.0", 1024),
        ("1.024e3", 1024),
        ("\"1024\"", 1024),
        ("\"1.024e3\"", 1024),
        ("4294967295", u32::MAX),
        ("-0", 0),
    ] {
        let request = method(&format!("\"maxRequestMessageBytes\":{text}"));
        assert_eq!(request.max_request_message_bytes, Some(expected), "{text}");
        let response = method(&format!("\"maxResponseMessageBytes\":{text}"));
        assert_eq!(
            response.max_response_message_bytes,
            Some(expected),
            "{text}"
        );
    }
    for text in [
        "-1",
        "0.5",
        "4294967296",
        "1e300",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "\"0x10\"",
        "\"NaN\"",
        "\"inf\"",
        "\"+1\"",
        "\".5\"",
        "\"1.\"",
        "\"01\"",
        "\"1e400\"",
        "true",
        "[1]",
        "{}",
    ] {
        let json = in_method(&format!("\"maxRequestMessageBytes\":{text}"));
        let expected = error("methodConfig[0].maxRequestMessageBytes", text, U32);
        assert_eq!(refuse_once(json), expected);
    }
}

#[test]
fn wait_for_ready_is_true_or_false() {
    assert_eq!(method("\"waitForReady\":true").wait_for_ready, Some(true));
    assert_eq!(method("\"waitForReady\":false").wait_for_ready, Some(false));
    for text in ["1", "\"true\"", "[]"] {
        let json = in_method(&format!("\"waitForReady\":{text}"));
        let path = "methodConfig[0].waitForReady";
        assert_eq!(
            refuse_once(json),
            error(path, text, "must be true or false")
        );
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let nothing = method(
        r#""waitForReady":null,"timeout":null,"maxRequestMessageBytes":null,
           "maxResponseMessageBytes":null,"retryPolicy":null,"hedgingPolicy":null"#,
    );
    assert_eq!(nothing, MethodConfig::default());
    let config = accept(
        r#"{"methodConfig":null,"retryThrottling":null,"healthCheckConfig":null,"connectionScaling":null}"#,
    );
    assert!(config.retry_throttling().is_none() && config.health_check_service_name().is_none());
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_retry_policy_is_read() {
    let config = method(
        r#""retryPolicy":{"maxAttempts":"4","initialBackoff":"0.1s","maxBackoff":"2s",
           "backoffMultiplier":1.5,"retryableStatusCodes":["UNAVAILABLE","aborted",8,14.0]}"#,
    );
    let policy = config.retry_policy().expect("a retry policy");
    assert!(config.hedging_policy().is_none());
    assert_eq!(policy.max_attempts, 4);
    assert_eq!(policy.initial_backoff, Duration::from_millis(100));
    assert_eq!(policy.max_backoff, Duration::from_secs(2));
    assert_eq!(policy.backoff_multiplier.to_bits(), 1.5_f64.to_bits());
    let codes: Vec<_> = policy.retryable_status_codes.iter().collect();
    assert_eq!(
        codes,
        [Code::ResourceExhausted, Code::Aborted, Code::Unavailable]
    );
}

#[test]
fn a_retry_policy_obeys_a6() {
    let at = |field: &str| format!("methodConfig[0].retryPolicy.{field}");
    let attempts = "must be a whole number from 2 to 4294967295";
    let code = "must be a status code, such as \"UNAVAILABLE\" or 14";
    for (field, value, path, shown, rule) in [
        ("maxAttempts", "1", "maxAttempts", "1", attempts),
        ("maxAttempts", "0", "maxAttempts", "0", attempts),
        ("maxAttempts", "2.5", "maxAttempts", "2.5", attempts),
        (
            "initialBackoff",
            "\"0s\"",
            "initialBackoff",
            "\"0s\"",
            LONGER,
        ),
        (
            "initialBackoff",
            "\"-1s\"",
            "initialBackoff",
            "\"-1s\"",
            LONGER,
        ),
        ("maxBackoff", "\"0.0s\"", "maxBackoff", "\"0.0s\"", LONGER),
        ("maxBackoff", "1", "maxBackoff", "1", LONGER),
        (
            "backoffMultiplier",
            "0",
            "backoffMultiplier",
            "0",
            "must be a number greater than 0",
        ),
        (
            "backoffMultiplier",
            "-1",
            "backoffMultiplier",
            "-1",
            "must be a number greater than 0",
        ),
        (
            "backoffMultiplier",
            "\"NaN\"",
            "backoffMultiplier",
            "\"NaN\"",
            "must be a number greater than 0",
        ),
        (
            "retryableStatusCodes",
            "[]",
            "retryableStatusCodes",
            "[]",
            "must name at least one status code",
        ),
        (
            "retryableStatusCodes",
            "14",
            "retryableStatusCodes",
            "14",
            "must be a list",
        ),
        (
            "retryableStatusCodes",
            "[\"GONE\"]",
            "retryableStatusCodes[0]",
            "\"GONE\"",
            code,
        ),
        (
            "retryableStatusCodes",
            "[14,17]",
            "retryableStatusCodes[1]",
            "17",
            code,
        ),
        (
            "retryableStatusCodes",
            "[14,\"14\"]",
            "retryableStatusCodes[1]",
            "\"14\"",
            code,
        ),
        (
            "retryableStatusCodes",
            "[1.5]",
            "retryableStatusCodes[0]",
            "1.5",
            code,
        ),
        (
            "retryableStatusCodes",
            "[null]",
            "retryableStatusCodes[0]",
            "null",
            code,
        ),
        (
            "retryableStatusCodes",
            "[\"OK\"]",
            "retryableStatusCodes[0]",
            "\"OK\"",
            "must not be OK, which is no failure",
        ),
        (
            "retryableStatusCodes",
            "[0]",
            "retryableStatusCodes[0]",
            "0",
            "must not be OK, which is no failure",
        ),
    ] {
        let expected = error(&at(path), shown, rule);
        assert_eq!(
            refuse_once(retry(field, value)),
            expected,
            "{field}: {value}"
        );
    }
    for field in [
        "maxAttempts",
        "initialBackoff",
        "maxBackoff",
        "backoffMultiplier",
        "retryableStatusCodes",
    ] {
        let expected = error(&at(field), "", "is required");
        assert_eq!(refuse_once(retry(field, "null")), expected, "{field}");
    }
}

#[test]
fn a_config_cannot_ask_for_more_than_the_client_allows() {
    let config = accept(retry("maxAttempts", "6"));
    let policy = config
        .method_config("/s/m")
        .and_then(MethodConfig::retry_policy);
    assert_eq!(policy.map(|policy| policy.max_attempts), Some(5));
    assert_eq!(
        warnings(retry("maxAttempts", "6")),
        [
            "methodConfig[0].retryPolicy.maxAttempts: 6 attempts are more than the client allows; 5 are used"
        ]
    );
    assert!(warnings(retry("maxAttempts", "5")).is_empty());

    for field in ["initialBackoff", "maxBackoff"] {
        assert!(
            warnings(retry(field, "\"0.001s\"")).is_empty(),
            "1 ms is enough"
        );
        let json = retry(field, "\"0.000999999s\"");
        assert_eq!(
            warnings(&json),
            [format!(
                "methodConfig[0].retryPolicy.{field}: less than the client allows; 1 ms is used"
            )]
        );
        let config = accept(json);
        let policy = config
            .method_config("/s/m")
            .and_then(MethodConfig::retry_policy);
        let policy = policy.expect("a retry policy");
        let shortest = policy.initial_backoff.min(policy.max_backoff);
        assert_eq!(shortest, Duration::from_millis(1));
    }

    let mut strict = Limits::default();
    strict.max_attempts = 2;
    let config =
        ServiceConfig::parse_with(retry("maxAttempts", "3"), &registry(), &strict).unwrap();
    let policy = config
        .method_config("/s/m")
        .and_then(MethodConfig::retry_policy);
    assert_eq!(policy.map(|policy| policy.max_attempts), Some(2));
}

#[test]
fn a_hedging_policy_is_read() {
    let least = method(r#""hedgingPolicy":{"maxAttempts":2}"#);
    let policy = least.hedging_policy().expect("a hedging policy");
    assert!(least.retry_policy().is_none());
    assert_eq!(
        (policy.max_attempts, policy.hedging_delay),
        (2, Duration::ZERO)
    );
    assert!(policy.non_fatal_status_codes.is_empty());

    let most = method(
        r#""hedgingPolicy":{"maxAttempts":9,"hedgingDelay":"0.5s","nonFatalStatusCodes":["INTERNAL"]}"#,
    );
    let policy = most.hedging_policy().expect("a hedging policy");
    assert_eq!(
        (policy.max_attempts, policy.hedging_delay),
        (5, Duration::from_millis(500))
    );
    assert!(policy.non_fatal_status_codes.contains(Code::Internal));

    for (fields, path, value, rule) in [
        ("", "maxAttempts", "", "is required"),
        (
            r#""maxAttempts":1"#,
            "maxAttempts",
            "1",
            "must be a whole number from 2 to 4294967295",
        ),
        (
            r#""maxAttempts":2,"hedgingDelay":"-0.5s""#,
            "hedgingDelay",
            "\"-0.5s\"",
            DURATION,
        ),
        (
            r#""maxAttempts":2,"nonFatalStatusCodes":["x"]"#,
            "nonFatalStatusCodes[0]",
            "\"x\"",
            "must be a status code, such as \"UNAVAILABLE\" or 14",
        ),
    ] {
        let json = in_method(&format!("\"hedgingPolicy\":{{{fields}}}"));
        let path = format!("methodConfig[0].hedgingPolicy.{path}");
        assert_eq!(refuse_once(json), error(&path, value, rule), "{fields}");
    }
}

#[test]
fn a_method_retries_or_hedges_but_not_both() {
    let json = retry("maxAttempts", "2").replace(
        "\"retryPolicy\"",
        r#""hedgingPolicy":{"maxAttempts":2},"retryPolicy""#,
    );
    let rule = "must not stand beside a retryPolicy: a method has one or the other";
    let expected = error(
        "methodConfig[0].hedgingPolicy",
        r#"{"maxAttempts":2}"#,
        rule,
    );
    assert_eq!(refuse_once(json), expected);
    assert_eq!(method("\"timeout\":\"1s\"").attempts, Attempts::Once);
}

#[test]
fn retry_throttling_counts_thousandths() {
    let read = |tokens: &str, ratio: &str| {
        let json =
            format!(r#"{{"retryThrottling":{{"maxTokens":{tokens},"tokenRatio":{ratio}}}}}"#);
        let throttling = accept(json).retry_throttling().expect("throttling");
        (throttling.max_milli_tokens, throttling.milli_token_ratio)
    };
    assert_eq!(read("10", "0.1"), (10_000, 100));
    assert_eq!(
        read("1000", "\"1.001\""),
        (1_000_000, 1001),
        "must not lose the last decimal"
    );
    assert_eq!(read("\"1\"", "0.0019999"), (1000, 1), "must cut, not round");
    assert_eq!(
        read("1", "1e300"),
        (1000, 1_000_000),
        "no success gives more than all tokens"
    );
    assert_eq!(read("1", "999.9999"), (1000, 999_999));
    for milli in 1..=2000_u32 {
        let ratio = f64::from(milli) / 1000.0;
        assert_eq!(read("1", &ratio.to_string()).1, milli, "{ratio}");
    }

    let tokens = "must be a whole number from 1 to 1000";
    let small = "must be at least 0.001: more than three decimals are not looked at";
    for (fields, path, value, rule) in [
        (r#""maxTokens":0,"tokenRatio":1"#, "maxTokens", "0", tokens),
        (
            r#""maxTokens":1001,"tokenRatio":1"#,
            "maxTokens",
            "1001",
            tokens,
        ),
        (
            r#""maxTokens":0.5,"tokenRatio":1"#,
            "maxTokens",
            "0.5",
            tokens,
        ),
        (
            r#""maxTokens":-1,"tokenRatio":1"#,
            "maxTokens",
            "-1",
            tokens,
        ),
        (
            r#""maxTokens":1,"tokenRatio":0"#,
            "tokenRatio",
            "0",
            "must be a number greater than 0",
        ),
        (
            r#""maxTokens":1,"tokenRatio":-1"#,
            "tokenRatio",
            "-1",
            "must be a number greater than 0",
        ),
        (
            r#""maxTokens":1,"tokenRatio":0.0009"#,
            "tokenRatio",
            "0.0009",
            small,
        ),
        (r#""maxTokens":1"#, "tokenRatio", "", "is required"),
        (r#""tokenRatio":1"#, "maxTokens", "", "is required"),
    ] {
        let json = format!(r#"{{"retryThrottling":{{{fields}}}}}"#);
        let path = format!("retryThrottling.{path}");
        assert_eq!(refuse_once(json), error(&path, value, rule), "{fields}");
    }
    assert_eq!(
        refuse_once(r#"{"retryThrottling":[]}"#),
        error("retryThrottling", "[]", "must be an object")
    );
}

#[test]
fn a_health_check_is_asked_for_by_name() {
    let name = |json: &str| {
        accept(json)
            .health_check_service_name()
            .map(ToString::to_string)
    };
    assert_eq!(
        name(r#"{"healthCheckConfig":{"serviceName":"s"}}"#),
        Some("s".into())
    );
    assert_eq!(
        name(r#"{"healthCheckConfig":{"serviceName":""}}"#),
        Some("".into())
    );
    assert_eq!(name(r#"{"healthCheckConfig":{}}"#), None);
    assert_eq!(
        refuse_once(r#"{"healthCheckConfig":{"serviceName":1}}"#),
        error("healthCheckConfig.serviceName", "1", "must be a string")
    );
}

#[test]
fn connections_scale_within_the_client_s_limit() {
    let json =
        |n: &str| format!(r#"{{"connectionScaling":{{"maxConnectionsPerSubchannel":{n}}}}}"#);
    for (n, used) in [("1", 1), ("10", 10), ("\"3\"", 3)] {
        assert_eq!(accept(json(n)).max_connections_per_subchannel(), used);
        assert!(warnings(json(n)).is_empty());
    }
    for (n, used) in [("0", 1), ("11", 10), ("4294967295", 10)] {
        assert_eq!(accept(json(n)).max_connections_per_subchannel(), used);
        let at = "connectionScaling.maxConnectionsPerSubchannel";
        assert_eq!(
            warnings(json(n)),
            [format!("{at}: {n} is outside of 1 to 10; {used} is used")]
        );
    }
    assert_eq!(accept("{}").max_connections_per_subchannel(), 1);
    assert_eq!(
        accept(r#"{"connectionScaling":{}}"#).max_connections_per_subchannel(),
        1
    );
    assert_eq!(
        refuse_once(json("-1")),
        error("connectionScaling.maxConnectionsPerSubchannel", "-1", U32)
    );
}

#[test]
fn a_key_that_was_meant_to_be_another_is_warned_of() {
    for (key, message) in [
        (
            "LoadBalancerConfig",
            "unknown field; did you mean loadBalancingConfig?",
        ),
        (
            "loadBalancerConfig",
            "unknown field; did you mean loadBalancingConfig?",
        ),
        (
            "load_balancing_config",
            "unknown field; did you mean loadBalancingConfig?",
        ),
        (
            "LoadBalancingConfig",
            "unknown field; did you mean loadBalancingConfig?",
        ),
        (
            "loadbalancingpolicy",
            "unknown field; did you mean loadBalancingPolicy?",
        ),
        ("methodConfigs", "unknown field; did you mean methodConfig?"),
        ("MethodConfig", "unknown field; did you mean methodConfig?"),
        (
            "retryThrotling",
            "unknown field; did you mean retryThrottling?",
        ),
        (
            "health-check-config",
            "unknown field; did you mean healthCheckConfig?",
        ),
        (
            "retryPolicy",
            "retryPolicy means nothing here; it belongs in an entry of methodConfig",
        ),
        (
            "retry_policy",
            "retryPolicy means nothing here; it belongs in an entry of methodConfig",
        ),
        (
            "timeout",
            "timeout means nothing here; it belongs in an entry of methodConfig",
        ),
        (
            "maxAttempts",
            "maxAttempts means nothing here; it belongs in a retryPolicy",
        ),
        (
            "serviceName",
            "serviceName means nothing here; it belongs in healthCheckConfig",
        ),
        (
            "retryPolicys",
            "unknown field; did you mean retryPolicy? It belongs in an entry of methodConfig",
        ),
        (
            "round_robin",
            "a policy means nothing here; write \"loadBalancingConfig\": [{\"round_robin\": {…}}]",
        ),
        ("comment", "unknown field; it is ignored"),
        ("", "unknown field; it is ignored"),
    ] {
        let expected = match key {
            "" => message.to_owned(),
            key => format!("{key}: {message}"),
        };
        assert_eq!(warnings(format!("{{\"{key}\":{{}}}}")), [expected]);
    }
    assert_eq!(
        warnings(in_method(
            r#""retry_policy":{},"retryThrottling":{},"waitForRedy":true"#
        )),
        [
            "methodConfig[0].retry_policy: unknown field; did you mean retryPolicy?",
            "methodConfig[0].retryThrottling: retryThrottling means nothing here; it belongs at the top of the service config",
            "methodConfig[0].waitForRedy: unknown field; did you mean waitForReady?",
        ]
    );
    assert_eq!(
        warnings(retry("x", "").replace("\"maxAttempts\"", "\"maxRetries\":1,\"maxAttempts\"")),
        ["methodConfig[0].retryPolicy.maxRetries: unknown field; it is ignored"]
    );
}

#[test]
fn three_letters_of_a_long_name_may_be_wrong_and_none_of_a_short_one() {
    let (hint, ignored) = (
        "unknown field; did you mean",
        "unknown field; it is ignored",
    );
    for (key, field) in [
        ("loadBalancingCon", Some("loadBalancingConfig")),
        ("loadBalancingCo", None),
        ("loadBalancingConfigxyz", Some("loadBalancingConfig")),
        ("loadBalancingConfigwxyz", None),
        ("xyzloadBalancingConfig", Some("loadBalancingConfig")),
        ("wxyzloadBalancingConfig", None),
        ("loadBaxyzcingConfig", Some("loadBalancingConfig")),
        ("loadBwxyzcingConfig", None),
        ("loadaBlancingConfig", Some("loadBalancingConfig")),
        ("xloadBalancingConf", Some("loadBalancingConfig")),
        ("xxloadBalancingConf", None),
    ] {
        let message = field.map(|field| format!("{hint} {field}?"));
        let message = message.unwrap_or_else(|| ignored.to_owned());
        let expected = format!("{key}: {message}");
        assert_eq!(warnings(format!("{{\"{key}\":1}}")), [expected]);
    }
    for (key, field) in [
        ("timeot", Some("timeout")),
        ("timeoutt", Some("timeout")),
        ("timet", None),
        ("nam", None),
    ] {
        let message = field.map(|field| format!("{hint} {field}?"));
        let message = message.unwrap_or_else(|| ignored.to_owned());
        let expected = format!("methodConfig[0].{key}: {message}");
        assert_eq!(warnings(in_method(&format!("\"{key}\":1"))), [expected]);
    }
}

#[test]
fn what_is_longer_than_any_field_is_mistaken_for_none() {
    let ignored = "unknown field; it is ignored";
    for (name, padding, message) in [
        (
            "healthCheckConfig",
            40 - 17,
            "unknown field; did you mean healthCheckConfig?",
        ),
        ("healthCheckConfig", 41 - 17, ignored),
        (
            "tokenRatio",
            40 - 10,
            "tokenRatio means nothing here; it belongs in retryThrottling",
        ),
        ("tokenRatio", 41 - 10, ignored),
    ] {
        let key = format!("{}{name}", "_".repeat(padding));
        let expected = format!("{key}: {message}");
        assert_eq!(warnings(format!("{{\"{key}\":1}}")), [expected]);
    }
}

#[test]
fn a_policy_s_own_warnings_come_with_their_path() {
    assert_eq!(
        warnings(
            r#"{"loadBalancingConfig":[{"x":{}},{"least_request":{"ChoiceCount":3}},{"y":{}}]}"#
        ),
        [
            "loadBalancingConfig[1].least_request.ChoiceCount: unknown field; did you mean choiceCount?"
        ]
    );
    assert_eq!(
        warnings(r#"{"loadBalancingConfig":[{"round_robin":{"a":1}}]}"#),
        ["loadBalancingConfig[0].round_robin: this policy takes no configuration; it is ignored"]
    );
}

#[test]
fn a_policy_with_very_many_unknown_fields_names_some() {
    let keys: Vec<_> = (0..40).map(|i| format!("\"k{i:02}\":0")).collect();
    let keys = keys.join(",");
    let warnings = warnings(format!(
        r#"{{"loadBalancingConfig":[{{"least_request":{{{keys}}}}}]}}"#
    ));
    assert_eq!(warnings.len(), 33);
    let at = "loadBalancingConfig[0].least_request";
    assert_eq!(
        warnings[31],
        format!("{at}.k31: unknown field; it is ignored")
    );
    assert_eq!(
        warnings[32],
        format!("{at}: 8 more unknown fields are ignored")
    );
}

#[test]
fn all_errors_are_found_at_once_up_to_sixteen() {
    let errors = refuse(
        r#"{"loadBalancingConfig":[],"methodConfig":[{"name":[{}],"timeout":1,"waitForReady":2}],
            "retryThrottling":3,"healthCheckConfig":{"serviceName":4}}"#,
    );
    let paths: Vec<_> = errors.iter().map(|(path, _, _)| &**path).collect();
    let expected = [
        "loadBalancingConfig",
        "methodConfig[0].timeout",
        "methodConfig[0].waitForReady",
        "retryThrottling",
        "healthCheckConfig.serviceName",
    ];
    assert_eq!(paths, expected);

    let many = format!(r#"{{"methodConfig":[{}0]}}"#, "0,".repeat(19));
    let error = support::parse(&many).unwrap_err();
    assert_eq!((error.errors().len(), error.omitted()), (16, 4));
    assert!(
        error
            .to_string()
            .ends_with("methodConfig[15]: 0: must be an object; and 4 more")
    );
}

#[test]
fn warnings_are_kept_up_to_a_number() {
    let keys: Vec<_> = (0..70).map(|i| format!("\"k{i}\":0")).collect();
    let warnings = warnings(format!("{{{}}}", keys.join(",")));
    assert_eq!(warnings.len(), 65);
    assert_eq!(warnings[63], "k63: unknown field; it is ignored");
    assert_eq!(warnings[64], "6 more warnings are not shown");
}

#[test]
fn debug_shows_no_configuration() {
    let secret = "S3CR3T-d2a84f4b";
    let json = format!(
        r#"{{"loadBalancingConfig":[{{"round_robin":{{"token":"{secret}"}}}}],"x{secret}":1,
            "healthCheckConfig":{{"serviceName":"{secret}"}},
            "methodConfig":[{{"name":[{{"service":"{secret}"}}]}}]}}"#
    );
    let config = accept(&json);
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{:?}", config.resolve()),
    ] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(
            shown.contains("round_robin"),
            "must still say what it is: {shown}"
        );
    }
    assert_eq!(config.json(), json);
}

#[test]
fn a_name_that_is_none_is_not_taken_for_another() {
    let json =
        r#"{"methodConfig":[{"name":[{"service":"d","method":7}]},{"name":[{"service":"d"}]}]}"#;
    // The second one is right.
    let errors = refuse(json);
    let paths: Vec<&str> = errors.iter().map(|(path, ..)| &**path).collect();
    assert_eq!(paths, ["methodConfig[0].name[0].method"]);
}
