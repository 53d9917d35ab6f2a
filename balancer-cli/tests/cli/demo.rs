//! `balancer demo`: the main job in one run.

use super::support::{ROUND_ROBIN, Ran, balancer, keys, run};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

fn counts(list: &Value) -> Vec<u64> {
    let list = list.as_array().expect("a list");
    list.iter().map(|n| n.as_u64().expect("a count")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_is_lost_that_could_have_been_saved() {
    let ran = run(["demo", "--json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let json = ran.json();
    let number = |field: &str| json[field].as_u64().expect("a number");
    let backends = json["backends"].as_array().expect("a list");
    assert_eq!(backends.len(), 3);
    assert!(backends.contains(&json["killed"]), "{json}");

    assert_eq!(number("lost_avoidably"), 0, "{json}");
    assert_eq!(number("rpcs"), number("ok") + number("lost_unavoidably"));
    let errors = json["errors"].as_array().expect("a list");
    assert_eq!(errors.len() as u64, number("lost_unavoidably"));
    for error in errors {
        assert_eq!(keys(error), ["avoidable", "code", "message", "rpc"]);
    }

    let spread = &json["spread"];
    let (before, down) = (counts(&spread["before"]), counts(&spread["while_down"]));
    assert!(before.iter().all(|n| *n > 0), "all three take part: {json}");
    let dead = backends.iter().position(|b| *b == json["killed"]);
    assert_eq!(down[dead.expect("one of them")], 0, "the dead one has rest");
    assert_eq!(json["even_again"], true);
    assert!(
        number("elapsed_ms") <= 12_000,
        "nobody waits for long: {json}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_is_told_in_lines_where_there_is_no_terminal() {
    let ran = run(["demo", "--backends", "2"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(
        !ran.stdout.contains('\x1b'),
        "no terminal, no control codes"
    );
    let mut rest = ran.stdout.as_str();
    for part in [
        "2 gRPC backends",
        "READY",
        "KILL",
        "TRANSIENT_FAILURE",
        "refused",
        "RESTART",
        "READY",
        "What you saw",
        "even again",
        "What was lost, and why",
        "Try next",
    ] {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("must say {part} in its turn: {}", ran.stdout));
        rest = &rest[at + part.len()..];
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn its_backends_can_be_called() {
    let mut serving = balancer(["demo", "--serve"]).spawn().expect("must run");
    let stdout = serving.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let target = lines.next_line().await.expect("a line").expect("a target");
    let args = [
        "call",
        &target,
        "--plaintext",
        "--json",
        "--count",
        "30",
        "--service-config",
    ];
    let ran = run([&args[..], &[ROUND_ROBIN]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    super::interrupt::interrupt(serving.id()).await;
    let ended = Ran::new(serving.wait_with_output().await.expect("must end"));
    assert_eq!(ended.code, 0, "asked to stop, it stops: {ended:?}");
    assert!(ended.stderr.contains("balancer call"), "it says what to do");
}
