//! grpcio's client on `round_robin` against our backends.

use std::collections::BTreeMap;

use balancer_testpeer::{Answer, Backend, Ending, Server};
use serde::Deserialize;

use crate::{
    python::{Python, Script},
    report::Report,
};

/// What grpcio's client says of an order.
#[derive(Debug, Deserialize)]
struct Told {
    /// RPCs by backend.
    backends: BTreeMap<String, u32>,
    /// RPCs by status code.
    codes: BTreeMap<String, u32>,
    /// Answers that were not the echo.
    wrong: u32,
    /// The message of the last one that failed.
    details: String,
}

pub(crate) async fn run(python: &Python, report: &mut Report) {
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        let backend = Backend::new(name).answers(|request| match request.path() {
            "/interop.Test/Status" => Answer::status(9, "100% žluťoučký"),
            _ => Answer::Echo,
        });
        servers.push(Server::start(backend).await.expect("a free port"));
    }
    let addresses: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
    let mut client = python.client(&format!("ipv4:{}", addresses.join(",")));

    let client = &mut client;
    report
        .case("grpcio: round_robin over three", round_robin(client))
        .await;
    report.case("grpcio: streaming", streaming(client)).await;
    report.case("grpcio: 10 MiB", large(client)).await;
    report
        .case("grpcio: status and message", status(client))
        .await;
    report
        .case("grpcio: one killed, then back", killed(client, &servers[1]))
        .await;
    report
        .case("grpcio: one drains", drains(client, &servers[2]))
        .await;
}

async fn round_robin(client: &mut Script) {
    // The first RPCs go to who connects first.
    until_served_by(client, &["a", "b", "c"]).await;
    let told = order(client, r#"{"path":"/interop.Test/Unary","count":300}"#).await;
    assert_eq!(told.codes["OK"], 300, "{told:?}");
    assert_eq!(told.wrong, 0, "must be echoes: {told:?}");
    let counts: Vec<u32> = told.backends.into_values().collect();
    assert_eq!(counts, [100, 100, 100], "must take turns");
}

async fn streaming(client: &mut Script) {
    for (kind, messages) in [("client_stream", 1), ("server_stream", 1), ("bidi", 100)] {
        let text = format!(
            r#"{{"path":"/interop.Test/Stream","kind":"{kind}","messages":{messages},"count":3}}"#
        );
        let told = order(client, &text).await;
        assert_eq!(told.codes["OK"], 3, "{kind}: {told:?}");
        assert_eq!(told.wrong, 0, "{kind} must be echoes: {told:?}");
    }
}

async fn large(client: &mut Script) {
    let text = r#"{"path":"/interop.Test/Unary","text":"0123456789abcdef","times":655360}"#;
    let told = order(client, text).await;
    assert_eq!(told.codes["OK"], 1, "{told:?}");
    assert_eq!(told.wrong, 0, "must be the echo: {told:?}");
}

async fn status(client: &mut Script) {
    let told = order(client, r#"{"path":"/interop.Test/Status","count":3}"#).await;
    assert_eq!(told.codes["FAILED_PRECONDITION"], 3, "{told:?}");
    assert_eq!(told.details, "100% žluťoučký");
}

async fn killed(client: &mut Script, server: &Server) {
    server.kill(Ending::Close).await;
    until_served_by(client, &["a", "c"]).await;
    let told = order(client, r#"{"path":"/interop.Test/Unary","count":100}"#).await;
    assert_eq!(told.codes["OK"], 100, "the others serve: {told:?}");
    server.restart().await.expect("the port is still ours");
    until_served_by(client, &["a", "b", "c"]).await;
}

async fn drains(client: &mut Script, server: &Server) {
    server.drain().await;
    let told = order(client, r#"{"path":"/interop.Test/Unary","count":100}"#).await;
    assert_eq!(told.codes["OK"], 100, "no RPC may fail: {told:?}");
    assert!(!told.backends.contains_key("c"), "it is gone: {told:?}");
}

/// Makes RPCs until three in a row per backend were served by these and no others.
async fn until_served_by(client: &mut Script, names: &[&str]) {
    let count = names.len() * 3;
    let text = format!(r#"{{"path":"/interop.Test/Unary","count":{count}}}"#);
    loop {
        let told = order(client, &text).await;
        if told.backends.len() == names.len() && told.backends.values().all(|served| *served == 3) {
            assert!(told.backends.keys().eq(names), "served by {told:?}");
            return;
        }
    }
}

async fn order(client: &mut Script, json: &str) -> Told {
    client.say(json).await;
    let line = client.line().await;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
