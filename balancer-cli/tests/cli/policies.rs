//! `balancer policies`.

use super::support::run;
use serde_json::json;

#[tokio::test]
async fn policies_are_listed_with_one_line_each() {
    let ran = run(["policies"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "a head and two policies: {ran:?}");
    assert!(lines[1].trim_start().starts_with("pick_first  "));
    assert!(lines[2].trim_start().starts_with("round_robin  "));

    let ran = run(["policies", "--json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let json = ran.json();
    let policies = json["policies"].as_array().expect("a list");
    let names: Vec<_> = policies.iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, [&json!("pick_first"), &json!("round_robin")]);
    for policy in policies {
        let line = policy["description"].as_str().expect("a text");
        assert!(!line.is_empty() && !line.contains('\n'), "one line: {line}");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_error() {
    let mut child = super::support::balancer(["policies"])
        .spawn()
        .expect("the binary must run");
    drop(child.stdout.take());
    let ran = super::support::Ran::new(child.wait_with_output().await.expect("must end"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
