//! Step 4: a config that is wrong is refused by field, value and rule; one that is odd is warned of.

use balancer_api::{NoChildren, ParseContext};
use balancer_guide::config::{Config, parse};

/// What is wrong with a configuration.
fn refusal(json: &str) -> String {
    let mut cx = ParseContext::new(&NoChildren, 0);
    parse(json, &mut cx).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(
        refusal(r#"{"choiceCount":1}"#),
        "choiceCount: 1: must be a whole number of at least 2"
    );
    assert_eq!(
        refusal(r#"{"timeOut":"0s"}"#),
        "timeOut: 0s: must be more than zero"
    );
    assert_eq!(
        refusal(r#"{"timeOut":10}"#),
        r#"timeOut: 10: must be a duration such as "1.5s", not negative"#
    );
}

#[test]
fn what_is_absent_has_a_default_and_what_is_unknown_a_warning() {
    let mut cx = ParseContext::new(&NoChildren, 0);
    let config = parse(r#"{"choicecount":3}"#, &mut cx).unwrap();
    assert_eq!(config.downcast_ref(), Some(&Config::default()));
    assert_eq!(
        cx.warnings()[0].to_string(),
        "choicecount: unknown field; did you mean choiceCount?"
    );
}

#[test]
fn more_than_ten_choices_are_ten() {
    let mut cx = ParseContext::new(&NoChildren, 0);
    let config = parse(r#"{"choiceCount":99}"#, &mut cx).unwrap();
    let config: Option<&Config> = config.downcast_ref();
    assert_eq!(config.map(|config| config.choice_count), Some(10));
}
