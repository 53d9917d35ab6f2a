//! `balancer call` against servers that are not well: a clear error within the time-out.

use super::support::{Ran, run};
use balancer_testpeer::{Behaviour, Refused, Server, faults};
use serde_json::json;

/// One RPC that must fail.
async fn call(address: &str, flags: &[&str]) -> Ran {
    let mut args = vec!["call", address, "--plaintext", "--json"];
    args.extend(flags);
    run(args).await
}

/// The failure must be of `code`, with a message that has all of `parts`.
#[track_caller]
fn assert_failed(ran: &Ran, code: &str, parts: &[&str]) {
    assert_eq!(ran.code, 1, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["codes"], json!({code: 1}), "{json}");
    assert_eq!(json["ok"], 0);
    assert_eq!(json["backends"], json!({}), "nothing could be sent: {json}");
    let message = json["errors"][0]["message"].as_str().expect("a text");
    for part in parts {
        assert!(message.contains(part), "must say {part:?}: {message}");
    }
}

async fn server(behaviour: Behaviour) -> (Server, String) {
    let server = Server::start(behaviour).await.expect("a server");
    let address = server.addr().to_string();
    (server, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let refused = Refused::new().expect("a port");
    let address = refused.addr().to_string();
    let ran = call(&address, &[]).await;
    assert_failed(&ran, "UNAVAILABLE", &[&address, "refused"]);
    let states = ran.json()["states"].clone();
    let last = states.as_array().and_then(|states| states.last());
    assert_eq!(last.expect("a state")["state"], "TRANSIENT_FAILURE");
}

/// What is wrong is seen of the channel as it was at the end, by people on stdout, by others on stderr.
#[tokio::test(flavor = "multi_thread")]
async fn the_channel_is_shown_when_something_failed() {
    let refused = Refused::new().expect("a port");
    let address = refused.addr().to_string();
    let people = run(["call", &address, "--plaintext"]).await;
    let machines = call(&address, &[]).await;
    for shown in [&people.stdout, &machines.stderr] {
        let parts = [
            format!("channel {address} is TRANSIENT_FAILURE\npolicy pick_first\n"),
            format!("to {address}: 0 streams, 0 calls, last error UNAVAILABLE: {address}: "),
        ];
        for part in parts {
            assert!(shown.contains(&part), "must say {part:?}: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_speaks_http_1() {
    let (_server, address) = server(faults::http1()).await;
    let ran = call(&address, &[]).await;
    assert_failed(&ran, "UNAVAILABLE", &[&address, "HTTP/1.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_talks_garbage() {
    let (_server, address) = server(faults::garbage(7, 4096)).await;
    assert_failed(&call(&address, &[]).await, "UNAVAILABLE", &[&address]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_hangs_up() {
    let (_server, address) = server(faults::close_at_once()).await;
    assert_failed(&call(&address, &[]).await, "UNAVAILABLE", &[&address]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_nothing() {
    let (_server, address) = server(faults::silence()).await;
    let ran = call(&address, &["--timeout", "300ms"]).await;
    assert_failed(&ran, "DEADLINE_EXCEEDED", &["waiting for a connection"]);
    let elapsed = ran.json()["elapsed_ms"].as_u64().expect("ms");
    // Connecting alone may take 20 s.
    assert!(elapsed < 15_000, "must end with the time-out: {elapsed} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_speaks_no_tls() {
    let (_server, address) = server(faults::http1()).await;
    let ca = super::tls::Ca::new();
    let ran = run(["call", &address, "--tls", "--ca", ca.file(), "--json"]).await;
    assert_failed(&ran, "UNAVAILABLE", &[&address, "TLS"]);
}
