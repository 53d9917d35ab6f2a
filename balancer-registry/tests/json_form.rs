//! The form of the JSON: what the scan refuses, where, and with which words.

mod support;

use balancer_registry::{Limits, ServiceConfig};
use support::{accept, refuse, refuse_once, registry};

fn error(path: &str, value: &str, rule: &str) -> (String, String, String) {
    (path.into(), value.into(), rule.into())
}

#[test]
fn what_is_no_json_is_refused_at_its_place() {
    let value = "must be JSON: expected a value at";
    for (json, path, at, rule) in [
        (
            "",
            "",
            "",
            format!("{value} line 1 column 1, where the text ends"),
        ),
        (
            "{",
            "",
            "",
            "must be JSON: expected a key in quotes at line 1 column 2, where the text ends".into(),
        ),
        (
            "{} x",
            "",
            "x",
            "must be JSON: expected the end: something follows the value at line 1 column 4".into(),
        ),
        (
            "{}{}",
            "",
            "{}",
            "must be JSON: expected the end: something follows the value at line 1 column 3".into(),
        ),
        (
            "{\"a\":NaN}",
            "a",
            "NaN}",
            format!("{value} line 1 column 6"),
        ),
        (
            "{\"a\":-Infinity}",
            "a",
            "Infinity}",
            "must be JSON: expected a number at line 1 column 7".into(),
        ),
        (
            "{\"a\":[1,\n 2,]}",
            "a[2]",
            "]}",
            format!("{value} line 2 column 4"),
        ),
        (
            "{\"a\":[1 2]}",
            "a",
            "2]}",
            "must be JSON: expected `,` or `]` at line 1 column 9".into(),
        ),
        (
            "{\"a\":1 \"b\"}",
            "",
            "\"b\"}",
            "must be JSON: expected `,` or `}` at line 1 column 8".into(),
        ),
        (
            "{\"a\":1,}",
            "",
            "}",
            "must be JSON: expected a key in quotes at line 1 column 8".into(),
        ),
        (
            "{\"a\" 1}",
            "a",
            "1}",
            "must be JSON: expected `:` at line 1 column 6".into(),
        ),
        ("{\"a\":}", "a", "}", format!("{value} line 1 column 6")),
        (
            "{a:1}",
            "",
            "a:1}",
            "must be JSON: expected a key in quotes at line 1 column 2".into(),
        ),
        (
            "{\"a\":[{\"b\":tru}]}",
            "a[0].b",
            "tru}]}",
            format!("{value} line 1 column 12"),
        ),
        (
            "{\"a\":'x'}",
            "a",
            "'x'}",
            format!("{value} line 1 column 6"),
        ),
        (
            "{\"a\":01}",
            "a",
            "01}",
            "must be JSON: expected a number at line 1 column 6".into(),
        ),
        (
            "{\"a\":1.}",
            "a",
            "}",
            "must be JSON: expected a number at line 1 column 8".into(),
        ),
        (
            "{\"a\":1e+}",
            "a",
            "}",
            "must be JSON: expected a number at line 1 column 9".into(),
        ),
        (
            "{\"a\":1e}",
            "a",
            "}",
            "must be JSON: expected a number at line 1 column 8".into(),
        ),
        ("{\"a\":+1}", "a", "+1}", format!("{value} line 1 column 6")),
        ("{\"a\":.5}", "a", ".5}", format!("{value} line 1 column 6")),
        (
            "{\"a\":\"x",
            "a",
            "",
            "must be JSON: expected a closing quote at line 1 column 8, where the text ends".into(),
        ),
        (
            "{\"a\":\"\\x\"}",
            "a",
            "\\x\"}",
            "must be JSON: expected a whole escape at line 1 column 7".into(),
        ),
        (
            "{\"a\":\"\\u12\"}",
            "a",
            "\\u12\"}",
            "must be JSON: expected a whole escape at line 1 column 7".into(),
        ),
        (
            "{\"a\":\"\\ud800\"}",
            "a",
            "\\ud800\"}",
            "must be JSON: expected a whole escape at line 1 column 7".into(),
        ),
        (
            "{\"a\":\"\\udc00\"}",
            "a",
            "\\udc00\"}",
            "must be JSON: expected a whole escape at line 1 column 7".into(),
        ),
        (
            "{\"é\":\"\n\"}",
            "é",
            "\\n\"}",
            "must be JSON: expected no control character in a string at line 1 column 7".into(),
        ),
        (
            "[1}",
            "",
            "}",
            "must be JSON: expected `,` or `]` at line 1 column 3".into(),
        ),
        ("]", "", "]", format!("{value} line 1 column 1")),
        (
            "// hi\n{}",
            "",
            "// hi\\n{}",
            format!("{value} line 1 column 1"),
        ),
    ] {
        assert_eq!(refuse_once(json), error(path, at, &rule), "{json}");
    }
}

#[test]
fn no_control_character_may_stand_in_a_string() {
    for control in '\0'..' ' {
        let (path, _, rule) = refuse_once(format!("{{\"a\":\"{control}\"}}"));
        assert_eq!(path, "a", "{control:?}");
        assert!(
            rule.contains("expected no control character"),
            "{control:?}: {rule}"
        );
    }
    accept("{\"a\":\" \u{7f}\u{80}\"}");
}

#[test]
fn a_number_must_fit_a_double() {
    let rule = "must be a number that a double can hold";
    for number in ["1e400", "-1e400", "1e99999999999999999999"] {
        let json = format!("{{\"a\":[{number}]}}");
        let (path, value, found) = refuse_once(json);
        assert_eq!((&*path, &*found), ("a[0]", rule), "{number}");
        assert!(value.starts_with(number), "{value}");
    }
    let digits = "9".repeat(400);
    assert_eq!(refuse_once(format!("{{\"a\":{digits}}}")).2, rule);
    accept(format!(
        "{{\"a\":[1e308,1e-400,0.{digits},{}]}}",
        "9".repeat(308)
    ));
}

#[test]
fn what_is_no_utf8_is_refused() {
    let rule = "must be UTF-8: byte 6 is not";
    assert_eq!(
        refuse_once(b"{\"a\":\"\xff\"}"),
        error("", "{\"a\":\"�\"}", rule)
    );
    let long = [&[b'a'; 30][..], b"\xff", &[b'b'; 30]].concat();
    let around = format!("{}�{}", "a".repeat(16), "b".repeat(15));
    let rule = "must be UTF-8: byte 30 is not";
    assert_eq!(refuse_once(long), error("", &around, rule));
    let utf16: Vec<u8> = "{}".bytes().flat_map(|b| [b, 0]).collect();
    assert_eq!(
        refuse_once(utf16),
        error(
            "",
            "\\0}\\0",
            "must be JSON: expected a key in quotes at line 1 column 2"
        )
    );
    assert_eq!(
        refuse_once("\u{feff}{}"),
        error(
            "",
            "\\u{feff}",
            "must be JSON: remove the byte order mark at the start"
        )
    );
}

#[test]
fn a_key_may_be_given_only_once_at_any_depth() {
    let rule = "a key must be given only once";
    for (json, path, value) in [
        (
            r#"{"methodConfig":[],"methodConfig":[{}]}"#,
            "methodConfig",
            "[{}]",
        ),
        (r#"{"a":1,"\u0061":2}"#, "a", "2"),
        (
            r#"{"x":[0,{"y":{"a":1,"b":2,"a":[3]}}]}"#,
            "x[1].y.a",
            "[3]",
        ),
        (
            r#"{"methodConfig":[{"name":[{"service":"a","service":"b"}]}]}"#,
            "methodConfig[0].name[0].service",
            "\"b\"",
        ),
        (
            r#"{"loadBalancingConfig":[{"round_robin":{}},{"x":{"k":1,"k":1}}]}"#,
            "loadBalancingConfig[1].x.k",
            "1",
        ),
        (r#"{"":0,"":1}"#, "", "1"),
    ] {
        assert_eq!(refuse_once(json), error(path, value, rule), "{json}");
    }
    let all = refuse(r#"{"c":1,"b":1,"c":2,"a":{"d":1,"d":2},"b":2,"c":3}"#);
    let all: Vec<_> = all
        .iter()
        .map(|(path, value, _)| (&**path, &**value))
        .collect();
    assert_eq!(
        all,
        [("a.d", "2"), ("c", "2"), ("b", "2"), ("c", "3")],
        "must report each"
    );
    accept(r#"{"x":{"a":1,"A":1,"a ":1},"y":{"a":1}}"#);
}

#[test]
fn depth_is_limited() {
    let deep = |depth: usize| {
        format!(
            "{{\"x\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    accept(deep(64));
    let (path, value, rule) = refuse_once(deep(65));
    assert_eq!(rule, "must not nest deeper than 64 levels");
    assert_eq!(path, format!("x{}", "[0]".repeat(63)));
    assert!(value.starts_with("[]]"), "{value}");
    let mut limits = Limits::default();
    limits.max_depth = 3;
    assert!(ServiceConfig::parse_with(deep(3), &registry(), &limits).is_ok());
    assert!(ServiceConfig::parse_with(deep(4), &registry(), &limits).is_err());
    limits.max_depth = usize::MAX;
    assert!(ServiceConfig::parse_with(deep(128), &registry(), &limits).is_ok());
    assert!(ServiceConfig::parse_with(deep(129), &registry(), &limits).is_err());
}

#[test]
fn size_is_limited() {
    let sized = |size: usize| format!("{{}}{}", " ".repeat(size - 2));
    accept(sized(65_536));
    assert_eq!(
        refuse_once(sized(65_537)),
        error(
            "",
            "65537 bytes",
            "a service config may have at most 65536 bytes"
        )
    );
    let mut limits = Limits::default();
    limits.max_bytes = 10;
    assert!(ServiceConfig::parse_with(sized(10), &registry(), &limits).is_ok());
    assert!(ServiceConfig::parse_with(sized(11), &registry(), &limits).is_err());
}

#[test]
fn the_policy_gets_one_text_for_equal_json() {
    let texts = [
        r#"{"a":[1,{"c":"é\n","d":"\"\\"}],"b":null,"é":1.50}"#,
        "{ \"b\" : null ,\r\n\t\"\\u00e9\":1.50, \"a\":[ 1,{\"d\":\"\\u0022\\\\\",\"c\":\"\\u00E9\\u000a\"} ] }",
    ];
    for text in texts {
        let config = accept(format!(
            r#"{{"loadBalancingConfig":[{{"round_robin":{text}}}]}}"#
        ));
        assert_eq!(config.resolve().config_json(), texts[0]);
        assert_eq!(
            config.resolve().config().map(|config| config.json()),
            Some(texts[0])
        );
    }
    let config = accept(r#"{"loadBalancingConfig":[{"round_robin":{"b":1,"a":{"d":2,"c":3}}}]}"#);
    assert_eq!(
        config.resolve().config_json(),
        r#"{"a":{"c":3,"d":2},"b":1}"#,
        "keys must be in order, even if all else is right"
    );
    let escapes = r#"{"k":"\b\f\n\r\t\/\u0001\u001f\ud83d\ude00"}"#;
    let config = accept(format!(
        r#"{{"loadBalancingConfig":[{{"round_robin":{escapes}}}]}}"#
    ));
    assert_eq!(
        config.resolve().config_json(),
        "{\"k\":\"\\b\\f\\n\\r\\t/\\u0001\\u001f😀\"}"
    );
    // What looks like the second half of a pair is plain text behind what is no first half.
    let json = "{\"loadBalancingConfig\":[{\"round_robin\":{\"k\":\"\\u0041--dc00\"}}]}";
    assert_eq!(accept(json).resolve().config_json(), r#"{"k":"A--dc00"}"#);
    let all_escaped = "{\"load\\u0042alancingConfig\":[{\"round\\u005frobin\":{\"\\u0061\":1}}]}";
    let config = accept(all_escaped);
    assert_eq!(
        config.resolve().config_json(),
        r#"{"a":1}"#,
        "though no string is plain"
    );
}

#[test]
fn what_is_shown_of_a_text_is_escaped_and_short() {
    let long = "\u{1b}[31mé".repeat(1000);
    let escaped = long.replace('\u{1b}', "\\u001b");
    for json in [
        format!("{{\"methodConfig\":[{{\"timeout\":\"{escaped}\"}}]}}"),
        format!("{{\"{escaped}\":1,\"{escaped}\":2}}"),
        format!("{{\"loadBalancingConfig\":[{{\"{escaped}\":1}}]}}"),
        format!("{{\"loadBalancingConfig\":[{{\"least_request\":\"{escaped}\"}}]}}"),
        format!("\u{1b}{long}"),
    ] {
        let error = support::parse(&json).unwrap_err();
        for error in error.errors() {
            assert!(error.path().chars().count() <= 256, "{}", error.path());
            assert!(error.value().chars().count() <= 256, "{}", error.value());
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
    let deep: String = (0..60)
        .map(|i| format!("{{\"{i}{}\":", "k".repeat(40)))
        .collect();
    let (path, _, _) = refuse_once(deep);
    assert_eq!(path.chars().count(), 256);
    assert!(path.starts_with("0kkk") && path.ends_with('…'), "{path}");
}
