//! Reading a policy's configuration: what is accepted, what is refused and how it is said.

use std::time::Duration;

use balancer_api::*;
use proptest::prelude::*;

fn fields(json: &str) -> ConfigFields {
    ConfigFields::parse(json).expect("an object")
}

#[test]
fn only_an_object_is_read() {
    for bad in ["", "[]", "1", "null", "\"a\"", "{", "{}{}", "{\"a\":1,}"] {
        let error = ConfigFields::parse(bad).expect_err(bad);
        assert!(error.rule().starts_with("must be"), "{bad}: {error}");
    }
    let rule = |json| ConfigFields::parse(json).expect_err(json).rule().to_owned();
    assert_eq!(rule("[]"), "must be an object", "it is JSON");
    assert!(rule("{").starts_with("must be JSON: "), "{}", rule("{"));
}

#[test]
fn absent_and_null_are_the_same() {
    let mut fields = fields(r#"{"a":null}"#);
    assert_eq!(fields.bool("a"), Ok(None));
    assert_eq!(fields.bool("b"), Ok(None));
}

#[test]
fn numbers_may_be_written_as_proto_json_writes_them() {
    for two in ["2", "2.0", "\"2\"", "2e0"] {
        let read = fields(&format!(r#"{{"n":{two}}}"#)).u32("n", 0..=10);
        assert_eq!(read, Ok(Some(2)), "{two}");
    }
    for bad in [
        "-1",
        "2.5",
        "11",
        "\"two\"",
        "true",
        "[2]",
        "4294967298",
        "1e99",
        "\"inf\"",
    ] {
        let read = fields(&format!(r#"{{"n":{bad}}}"#)).u32("n", 0..=10);
        let error = read.expect_err(bad);
        assert_eq!(
            (error.path(), error.rule()),
            ("n", "must be a whole number from 0 to 10")
        );
    }
    let whole = fields(r#"{"n":4294967295}"#).u32("n", 0..=u32::MAX);
    assert_eq!(whole, Ok(Some(u32::MAX)));
    let any = |json: &str| fields(json).f64("x", "must not be negative", |x| x >= 0.0);
    assert_eq!(any(r#"{"x":"0.25"}"#), Ok(Some(0.25)));
    for bad in [
        r#"{"x":-1}"#,
        r#"{"x":"NaN"}"#,
        r#"{"x":"inf"}"#,
        r#"{"x":[]}"#,
    ] {
        assert_eq!(any(bad).expect_err(bad).rule(), "must not be negative");
    }
}

#[test]
fn texts_lists_and_durations_are_checked() {
    let mut good = fields(r#"{"t":"x","l":["a","b"],"d":"1.5s","j":{"k":[1]}}"#);
    assert_eq!(good.string("t"), Ok(Some("x".to_owned())));
    assert_eq!(
        good.strings("l"),
        Ok(Some(vec!["a".to_owned(), "b".to_owned()]))
    );
    assert_eq!(good.duration("d"), Ok(Some(Duration::from_millis(1500))));
    assert_eq!(good.json("j"), Some(r#"{"k":[1]}"#.to_owned()));
    let mut bad = fields(r#"{"t":1,"l":["a",1],"d":"-1s"}"#);
    assert_eq!(bad.string("t").expect_err("a number").path(), "t");
    assert_eq!(bad.strings("l").expect_err("mixed").path(), "l");
    let error = bad.duration("d").expect_err("negative");
    assert_eq!(error.value(), r#""-1s""#);
}

#[test]
fn unknown_fields_are_warned_of_with_a_hint() {
    let mut cx = ParseContext::new(&NoChildren, 0);
    let mut fields = fields(r#"{"CHOICECOUNT":1,"x\n":2,"known":true}"#);
    fields.bool("known").expect("a bool");
    fields.u32("choiceCount", 0..=9).expect("absent");
    fields.finish(&mut cx);
    let shown: Vec<_> = cx.take_warnings().iter().map(ToString::to_string).collect();
    let expected = [
        "CHOICECOUNT: unknown field; did you mean choiceCount?",
        r"x\n: unknown field; it is ignored",
    ];
    assert_eq!(shown, expected);
    assert!(cx.warnings().is_empty());
}

#[test]
fn policies_do_not_nest_for_ever() {
    /// Every policy has a child.
    struct Endless;
    impl ChildResolver for Endless {
        fn resolve_child(
            &self,
            json: &str,
            cx: &mut ParseContext<'_>,
        ) -> Result<ChildConfig, ConfigError> {
            cx.warn("", "deeper");
            cx.child_policy("child", json)
        }
    }
    let mut cx = ParseContext::new(&Endless, 0);
    let error = cx.child_policy("child", "[]").expect_err("too deep");
    assert!(error.rule().contains("deeper than 16"), "{error}");
    assert_eq!(error.path().split('.').count(), MAX_POLICY_DEPTH);
    let warnings = cx.take_warnings();
    assert_eq!(
        warnings.len(),
        MAX_POLICY_DEPTH - 1,
        "each level's, seen from the outside"
    );
    assert!(
        warnings
            .iter()
            .any(|warning| warning.path() == "child.child")
    );
}

#[test]
fn a_policy_without_configuration_accepts_and_warns() {
    struct Plain;
    impl Builder for Plain {
        fn name(&self) -> &str {
            "plain"
        }
        fn build(&self, _: std::sync::Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("only parsed here")
        }
    }
    for (json, warnings) in [("{}", 0), (" null ", 0), ("", 0), (r#"{"a":1}"#, 1)] {
        let mut cx = ParseContext::new(&NoChildren, 0);
        let config = Plain.parse_config(json, &mut cx).expect("anything goes");
        assert_eq!((config.json(), cx.warnings().len()), (json, warnings));
    }
}

#[test]
fn a_config_is_the_same_when_it_is_one_value() {
    let config = LbConfig::new("{}", 1u8);
    assert!(config.is_same(&config.clone()));
    assert!(!config.is_same(&LbConfig::new("{}", 1u8)));
    assert_eq!(config.downcast_ref::<u8>(), Some(&1));
    assert_eq!(config.downcast_ref::<u16>(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn durations_come_back(seconds in 0u64..=315_576_000_000, nanos in 0u32..1_000_000_000) {
        let text = format!("{seconds}.{nanos:09}s");
        prop_assert_eq!(parse_duration(&text), Some(Duration::new(seconds, nanos)));
        let short = format!("{}s", text.trim_end_matches('s').trim_end_matches('0').trim_end_matches('.'));
        prop_assert_eq!(parse_duration(&short), Some(Duration::new(seconds, nanos)));
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,40}") {
        let _ = parse_duration(&text);
        let _ = ConfigFields::parse(&text);
    }
}

#[test]
fn durations_have_protobufs_limits() {
    assert!(parse_duration("315576000000s").is_some());
    for bad in [
        "",
        "s",
        ".s",
        ".5s",
        "1.s",
        "+1s",
        "-1s",
        "1e3s",
        "1.+5s",
        "1.5e3s",
        "1.0000000001s",
        "315576000001s",
        "99999999999999999999s",
        "-0s",
        "٣s",
        "1.5",
        " 1s",
        "1s ",
        "0x1s",
    ] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}
