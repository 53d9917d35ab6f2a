//! What logs and error messages show: enough to find the culprit, and no secrets.

mod support;

use std::sync::Arc;

use balancer_api::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use support::Recorder;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Weight(u32);

fn secret() -> HeaderMap {
    let name = HeaderName::from_static("authorization");
    HeaderMap::from_iter([(name, HeaderValue::from_static("Bearer hunter2"))])
}

#[test]
fn addresses_and_endpoints_are_shown_as_people_write_them() {
    let plain = Address::new("10.0.0.1:443");
    assert_eq!(plain.to_string(), "10.0.0.1:443");
    assert_eq!(format!("{plain:?}"), "10.0.0.1:443");
    let named = plain.clone().with_server_name("a.example");
    assert_eq!(named.to_string(), "10.0.0.1:443 (a.example)");
    let weighted = named.with_attributes(Attributes::new().with(Weight(3)));
    assert_eq!(weighted.to_string(), "10.0.0.1:443 (a.example)");
    assert_eq!(
        format!("{weighted:?}"),
        "10.0.0.1:443 (a.example) {Weight(3)}"
    );

    let dual = Endpoint::new([Address::new("[::1]:80"), Address::new("127.0.0.1:80")]);
    assert_eq!(dual.to_string(), "[::1]:80,127.0.0.1:80");
    assert_eq!(format!("{dual:?}"), "[[::1]:80, 127.0.0.1:80]");
    let weighted = dual.with_balancer_attributes(Attributes::new().with(Weight(3)));
    assert_eq!(weighted.to_string(), "[::1]:80,127.0.0.1:80");
    assert_eq!(
        format!("{weighted:?}"),
        "[[::1]:80, 127.0.0.1:80, {Weight(3)}]"
    );
    assert_eq!(format!("{:?}", Attributes::new()), "{}");
}

#[test]
fn states_and_codes_have_grpcs_names_and_line_up() {
    use ConnectivityState as S;
    let states = [
        S::Idle,
        S::Connecting,
        S::Ready,
        S::TransientFailure,
        S::Shutdown,
    ];
    assert_eq!(
        states.map(|state| state.to_string()),
        [
            "IDLE",
            "CONNECTING",
            "READY",
            "TRANSIENT_FAILURE",
            "SHUTDOWN"
        ]
    );
    assert_eq!(format!("{:>6}|{:<6}|", S::Idle, S::Idle), "  IDLE|IDLE  |");
    assert_eq!(
        format!("{:<12}|", Code::Unavailable),
        "UNAVAILABLE |",
        "in columns, too"
    );
    assert_eq!(
        Code::from_name("unavailable"),
        Some(Code::Unavailable),
        "in any case"
    );
    assert_eq!(Code::from_name("GONE"), None);
}

#[test]
fn a_status_is_its_code_and_message() {
    let refused = Status::unavailable("connection refused");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "connection refused")
    );
    assert_eq!(refused.to_string(), "UNAVAILABLE: connection refused");
    assert_eq!(Status::new(Code::Internal, "").to_string(), "INTERNAL");

    let allowed = refused.restricted_to_control_plane();
    assert_eq!(allowed, refused, "a code that anybody may use stays");
    let shown = Status::new(Code::NotFound, "no such zone").restricted_to_control_plane();
    assert_eq!(
        shown.to_string(),
        "INTERNAL: control plane used code NOT_FOUND, which is for servers: no such zone"
    );
}

#[test]
fn an_error_of_a_pick_says_why() {
    let refused = Status::unavailable("over quota");
    for (error, shown) in [
        (ERR_NO_SUB_CONN_AVAILABLE, "no SubConn is available"),
        (
            ERR_TRANSIENT_FAILURE,
            "all SubConns are in TransientFailure",
        ),
        (PickError::transient_failure("refused"), "refused"),
        (PickError::failed("a bug"), "a bug"),
        (
            PickError::drop(refused),
            "dropped by the policy: UNAVAILABLE: over quota",
        ),
    ] {
        assert_eq!(error.to_string(), shown);
    }
}

#[test]
fn other_errors_say_what_went_wrong() {
    for (error, shown) in [
        (
            NewSubConnError::NoAddresses,
            "a SubConn needs at least one address",
        ),
        (
            NewSubConnError::Closed,
            "the channel or the policy is closed",
        ),
        (
            NewSubConnError::Refused("too many".into()),
            "refused: too many",
        ),
    ] {
        assert_eq!(error.to_string(), shown);
    }
    let unresolved = ResolveError::new("no such host");
    assert_eq!(unresolved.message(), "no such host");
    assert_eq!(unresolved.to_string(), "no such host");
    let rejected = Rejected::new("zero addresses");
    assert_eq!(rejected.reason(), "zero addresses");
    assert_eq!(
        rejected.to_string(),
        "resolver result rejected: zero addresses"
    );

    let error = ConfigError::new("choiceCount", "1", "must be at least 2");
    let parts = (error.path(), error.value(), error.rule());
    assert_eq!(parts, ("choiceCount", "1", "must be at least 2"));
    assert_eq!(error.to_string(), "choiceCount: 1: must be at least 2");
    let nowhere = ConfigError::new("", "1", "must be an object");
    assert_eq!(nowhere.to_string(), "1: must be an object");
}

#[test]
fn a_warning_says_where_and_what() {
    let warning = ConfigWarning::new("choiceCont", "unknown field");
    assert_eq!(
        (warning.path(), warning.message()),
        ("choiceCont", "unknown field")
    );
    assert_eq!(warning.to_string(), "choiceCont: unknown field");
    let outer = warning.within("least_request");
    assert_eq!(outer.path(), "least_request.choiceCont");
    assert_eq!(ConfigWarning::new("", "odd").to_string(), "odd");
}

#[test]
fn a_config_is_shown_by_its_value() {
    let config = LbConfig::new(r#"{"weight":3}"#, Weight(3));
    assert_eq!(format!("{config:?}"), "Weight(3)");
    let mut cx = ParseContext::new(&NoChildren, 2);
    cx.warn("a", "odd");
    assert_eq!(cx.depth(), 2);
    let shown = format!("{cx:?}");
    assert!(
        shown.contains("depth: 2") && shown.contains("odd"),
        "{shown}"
    );
}

#[test]
fn a_child_is_shown_by_its_name_and_config() {
    struct Named;
    impl Builder for Named {
        fn name(&self) -> &str {
            "named"
        }
        fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            unreachable!("only named here")
        }
    }
    let child = ChildConfig::new(Arc::new(Named), Some(LbConfig::new("{}", Weight(3))));
    let shown = format!("{child:?}");
    assert!(
        shown.contains(r#""named""#) && shown.contains("Weight(3)"),
        "{shown}"
    );
}

#[test]
fn an_rpc_is_shown_without_the_values_of_its_headers() {
    let headers = secret();
    let cc = Recorder::new();
    let tried = [cc
        .new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new())
        .expect("a SubConn")];
    let options = PickOptions::new("/s/m")
        .with_headers(&headers)
        .with_attempt(1, &tried);
    let shown = format!("{options:?}");
    for part in ["/s/m", "authorization", "attempt: 1", "sc0"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_end_of_an_rpc_is_shown_without_the_values_of_its_trailers() {
    let (trailers, load) = (secret(), Bytes::from_static(b"hunter2"));
    let err = Status::unavailable("reset");
    let info = DoneInfo::new()
        .with_err(&err)
        .with_trailers(&trailers)
        .with_server_load(&load);
    let shown = format!("{info:?}");
    for part in ["reset", "authorization", "server_load: Some(7)"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(format!("{:?}", Done::none()), "Done(0 observers)");
}

#[test]
fn a_call_is_shown_without_what_is_said_on_it() {
    let request = CallRequest::new("/s/m")
        .with_headers(secret())
        .with_first_message(&b"hunter2"[..]);
    let shown = format!("{request:?}");
    for part in ["/s/m", "authorization", "first_message: Some(7)"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let end = CallEvent::End {
        status: Status::unavailable("reset"),
        trailers: secret(),
    };
    let events = [
        CallEvent::Headers(secret()),
        CallEvent::Message(Bytes::from_static(b"hunter2")),
        end,
    ];
    let shown_events = events.map(|event| format!("{event:?}"));
    let expected = [
        r#"Headers(["authorization"])"#,
        "Message(7 bytes)",
        "End(UNAVAILABLE: reset)",
    ];
    assert_eq!(shown_events, expected);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_channels_options_are_shown_without_secrets() {
    let options = BuildOptions::new("dns:///greeter").with_authority("greeter.prod");
    let shown = format!("{options:?}");
    for part in ["dns:///greeter", "greeter.prod"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let picker: &dyn Picker = &QueuePicker;
    assert_eq!(format!("{picker:?}"), "Picker");
}
