//! `balancer check-config`.

use super::support::{keys, run, run_with_stdin};
use serde_json::{Value, json};

const CHECK: &[&str] = &["check-config", "-", "--json"];

#[tokio::test]
async fn a_valid_config_is_explained() {
    let table = [
        (
            r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#,
            json!({
                "valid": true, "policy": "round_robin", "config": {},
                "source": "loadBalancingConfig[0]", "skipped": [], "warnings": [],
            }),
        ),
        (
            r#"{"loadBalancingConfig":[{"xds":{}},{"pick_first":{"shuffleAddressList":true}},{"round_robin":{}}]}"#,
            json!({
                "valid": true, "policy": "pick_first", "config": {"shuffleAddressList": true},
                "source": "loadBalancingConfig[1]",
                "skipped": [
                    {"name": "xds", "reason": "not registered"},
                    {"name": "round_robin", "reason": "not parsed: pick_first before it was chosen"},
                ],
                "warnings": [],
            }),
        ),
        (
            r#"{"loadBalancingPolicy":"ROUND_ROBIN"}"#,
            json!({
                "valid": true, "policy": "round_robin", "config": {},
                "source": "loadBalancingPolicy", "skipped": [], "warnings": [],
            }),
        ),
        (
            r#"{}"#,
            json!({
                "valid": true, "policy": "pick_first", "config": {},
                "source": "default", "skipped": [], "warnings": [],
            }),
        ),
    ];
    for (config, expected) in table {
        let ran = run_with_stdin(CHECK, config.as_bytes()).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{config}");
        assert_eq!(ran.json(), expected, "{config}");
    }
}

#[tokio::test]
async fn connections_to_a_backend_are_explained_where_there_may_be_more_than_one() {
    let config = |n| {
        format!(r#"{{"connectionScaling":{{"maxConnectionsPerSubchannel":{n}}}}}"#).into_bytes()
    };
    let ran = run_with_stdin(CHECK, &config("3")).await;
    assert_eq!(ran.json()["max_connections_per_subchannel"], 3);
    let ran = run_with_stdin(&CHECK[..2], &config("3")).await;
    let line = "scaling  up to 3 connections to each backend";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);

    let one = run_with_stdin(CHECK, &config("1")).await.json();
    assert_eq!(one.get("max_connections_per_subchannel"), None);
    let many = run_with_stdin(CHECK, &config("11")).await.json();
    assert_eq!(many["max_connections_per_subchannel"], 10);
    let at = "connectionScaling.maxConnectionsPerSubchannel";
    let warning = format!("{at}: 11 is outside of 1 to 10; 10 is used");
    assert_eq!(many["warnings"], json!([warning]));
    let bad = run_with_stdin(CHECK, &config("1.5")).await;
    assert_ne!(bad.code, 0);
    let wrong = &bad.json()["errors"][0];
    assert_eq!(
        (&wrong["path"], &wrong["value"]),
        (&json!(at), &json!("1.5"))
    );
}

#[tokio::test]
async fn a_near_miss_is_warned_about() {
    let config = br#"{"LoadBalancerConfig":[{"round_robin":{}}]}"#;
    let json = run_with_stdin(CHECK, config).await.json();
    assert_eq!(json["valid"], true, "an unknown field is ignored: {json}");
    assert_eq!(json["policy"], "pick_first", "so nothing chose: {json}");
    let warnings = json["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "{json}");
    let warning = warnings[0].as_str().expect("a text");
    assert!(
        warning.contains("LoadBalancerConfig") && warning.contains("loadBalancingConfig"),
        "must name both: {warning}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let config = br#"{"methodConfig":[{"name":[{}],"timeout":"soon"}],"loadBalancingConfig":7}"#;
    let ran = run_with_stdin(CHECK, config).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    let json = ran.json();
    assert_eq!(keys(&json), ["errors", "omitted", "valid", "warnings"]);
    assert_eq!(json["valid"], false);
    let errors = json["errors"].as_array().expect("a list");
    let found: Vec<_> = errors.iter().map(|e| (&e["path"], &e["value"])).collect();
    assert_eq!(
        found,
        [
            (&json!("loadBalancingConfig"), &json!("7")),
            (&json!("methodConfig[0].timeout"), &json!("\"soon\"")),
        ]
    );
    for error in errors {
        assert_eq!(keys(error), ["message", "path", "rule", "value"]);
        let text = |field: &str| error[field].as_str().expect("a text").to_owned();
        let message = format!("{}: {}: {}", text("path"), text("value"), text("rule"));
        assert_eq!(text("message"), message, "must say it all");
    }
}

#[tokio::test]
async fn people_are_told_the_same() {
    let ran = run_with_stdin(
        &["check-config", "-"],
        br#"{"loadBalancingConfig":[{"xds":{}},{"round_robin":{}}]}"#,
    )
    .await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for part in [
        "valid",
        "round_robin",
        "loadBalancingConfig[1]",
        "xds: not registered",
    ] {
        assert!(ran.stdout.contains(part), "must say {part}: {}", ran.stdout);
    }
    let ran = run_with_stdin(&["check-config", "-"], br#"{"loadBalancingConfig":7}"#).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert!(ran.stdout.contains("INVALID") && ran.stdout.contains("loadBalancingConfig: 7"));
}

#[tokio::test]
async fn hostile_bytes_are_refused_with_small_errors() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<String> = (0..100).map(|n| format!("{{\"timeout\":{n}}}")).collect();
    let many = format!("{{\"methodConfig\":[{}]}}", many.join(","));
    let long = format!(
        "{{\"loadBalancingPolicy\":[\"{}\"]}}",
        "\u{1b}[31m".repeat(5_000)
    );
    let table: [(&str, &[u8]); 8] = [
        ("nothing", b""),
        ("not UTF-8", b"{\"a\":\"\xff\xfe\"}"),
        ("a byte order mark", b"\xef\xbb\xbf{}"),
        ("a list", b"[]"),
        ("no JSON", b"loadBalancingConfig: round_robin"),
        ("too deep", deep.as_bytes()),
        ("many errors", many.as_bytes()),
        ("a long value", long.as_bytes()),
    ];
    for (what, config) in table {
        let ran = run_with_stdin(CHECK, config).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (1, ""), "{what}");
        let json = ran.json();
        assert_eq!(json["valid"], false, "{what}");
        let errors = json["errors"].as_array().expect("a list");
        assert!((1..=16).contains(&errors.len()), "{what}: {json}");
        for error in errors {
            let value = error["value"].as_str().expect("a text");
            assert!(value.chars().count() <= 256, "{what}: {value}");
            assert!(!value.contains(char::is_control), "{what}: {value:?}");
            assert_ne!(error["rule"], json!(""), "{what}: must say the rule");
        }
    }
}

#[tokio::test]
async fn a_huge_file_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b' '; 20 << 20]).expect("room for it");
    let path = file.path().to_str().expect("a path in UTF-8");
    let ran = run(["check-config", path, "--json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    let json: Value = ran.json();
    let rule = json["errors"][0]["rule"].as_str().expect("a text");
    assert!(rule.contains("65536"), "must tell the limit: {rule}");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_invalid() {
    let directory = std::env::temp_dir();
    let directory = directory.to_str().expect("a path in UTF-8");
    for args in [
        vec!["check-config", "there-is-no-such-file.json", "--json"],
        vec!["check-config", directory, "--json"],
        vec!["check-config", "--json"],
        vec!["check-config", "-", "--yaml"],
    ] {
        let ran = run(&args).await;
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(ran.stdout, "", "{args:?}: stdout is for answers");
        assert!(!ran.stderr.is_empty(), "{args:?}: must say why");
    }
    let ran = run(["check-config", "there-is-no-such-file.json"]).await;
    assert!(ran.stderr.contains("there-is-no-such-file.json"), "{ran:?}");
}
