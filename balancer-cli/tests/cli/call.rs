//! `balancer call` against servers that are well.

use std::time::Duration;

use super::support::{ROUND_ROBIN, keys, run};
use balancer_cli::Backend as Tonic;
use balancer_testpeer::{Answer, Backend, Behaviour, Refused, Server};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Servers of tonic's, and a target that lists them.
async fn tonics(count: usize) -> (Vec<Tonic>, String) {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Tonic::start().await.expect("a server"));
    }
    let addresses: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
    (servers, format!("ipv4:{}", addresses.join(",")))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rpc_by_default() {
    let (servers, target) = tonics(1).await;
    let ran = run(["call", &target, "--plaintext", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let fields = [
        "backends",
        "codes",
        "elapsed_ms",
        "errors",
        "latency_us",
        "ok",
        "policy",
        "rpcs",
        "states",
        "target",
    ];
    assert_eq!(keys(&json), fields);
    assert_eq!(json["target"], json!(target));
    assert_eq!(json["policy"], "pick_first");
    assert_eq!((&json["rpcs"], &json["ok"]), (&json!(1), &json!(1)));
    assert_eq!(json["codes"], json!({"OK": 1}));
    assert_eq!(json["backends"], json!({servers[0].addr().to_string(): 1}));
    assert_eq!(json["errors"], json!([]));
    assert!(json["elapsed_ms"].is_u64());
    let states = json["states"].as_array().expect("a list");
    let names: Vec<_> = states.iter().map(|state| &state["state"]).collect();
    assert_eq!(names, ["IDLE", "CONNECTING", "READY"]);
    assert_eq!(states[0]["at_ms"], 0, "the first state is there at once");
    assert_eq!(servers[0].begun(), 1, "the server must have seen it");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_spreads_attempts_evenly() {
    let (servers, target) = tonics(3).await;
    let ran = run([
        "call",
        &target,
        "--plaintext",
        "--json",
        "--count",
        "300",
        "--concurrency",
        "4",
        "--warm-up",
        "1m",
        "--service-config",
        ROUND_ROBIN,
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["policy"], "round_robin");
    assert_eq!(json["codes"], json!({"OK": 300}));
    let backends = json["backends"].as_object().expect("an object");
    let total: u64 = backends.values().filter_map(Value::as_u64).sum();
    assert_eq!(total, 300, "as many attempts as RPCs: {json}");
    for server in &servers {
        let counted = backends[&server.addr().to_string()].as_u64();
        assert_eq!(counted, Some(server.begun()), "must count what was sent");
    }
    let shares: Vec<u64> = servers.iter().map(Tonic::begun).collect();
    assert_eq!(
        shares,
        [100, 100, 100],
        "all were tried before the first RPC"
    );
    let latency = &json["latency_us"];
    assert_eq!(keys(latency), ["max", "p50", "p90", "p99", "p999"]);
    let times = ["p50", "p90", "p99", "p999", "max"].map(|p| latency[p].as_u64().expect("µs"));
    assert!(times[0] > 0 && times.is_sorted(), "must rise: {latency}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_gets_nothing() {
    let (servers, target) = tonics(2).await;
    let dead = Refused::new().expect("a port");
    let target = format!("{target},{}", dead.addr());
    let ran = run([
        "call",
        &target,
        "--plaintext",
        "--json",
        "--count",
        "100",
        "--service-config",
        ROUND_ROBIN,
    ])
    .await;
    assert_eq!(ran.code, 0, "none may fail: {ran:?}");
    let json = ran.json();
    let mut expected: Vec<String> = servers.iter().map(|s| s.addr().to_string()).collect();
    expected.sort();
    assert_eq!(
        keys(&json["backends"]),
        expected,
        "only those that were asked"
    );
    assert!(
        ran.stderr.contains(&dead.addr().to_string())
            && ran.stderr.contains("TRANSIENT_FAILURE")
            && ran.stderr.contains("refused"),
        "stderr must show the connections: {}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_code_and_message() {
    let backend = Backend::new("a").answers(|request| {
        assert_eq!(request.path(), "/greeter.Greeter/SayHello");
        assert_eq!(request.header("te"), Some("trailers"));
        Answer::status(5, "no such greeting")
    });
    let server = Server::start(backend).await.expect("a server");
    let address = server.addr().to_string();
    let ran = run([
        "call",
        &address,
        "--plaintext",
        "--json",
        "--count",
        "3",
        "--method",
        "/greeter.Greeter/SayHello",
    ])
    .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let json = ran.json();
    assert_eq!((&json["rpcs"], &json["ok"]), (&json!(3), &json!(0)));
    assert_eq!(json["codes"], json!({"NOT_FOUND": 3}));
    let error = json!({"code": "NOT_FOUND", "message": "no such greeting", "count": 3});
    assert_eq!(json["errors"], json!([error]));
    assert_eq!(
        json["backends"],
        json!({address: 3}),
        "they were sent there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_is_sent_as_it_was_given() {
    let (sent, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(Behaviour::new(move |mut conn| {
        let sent = sent.clone();
        async move {
            conn.handshake().await?;
            let call = conn.next_call().await?;
            let timeout = call.header("grpc-timeout").map(str::to_owned);
            let _ = sent.send((call.message(), timeout));
            conn.reply_ok(call.stream, b"").await?;
            // Until the client has read it and goes away.
            conn.next_call().await.map(drop)
        }
    }))
    .await
    .expect("a server");
    let address = server.addr().to_string();
    let ran = run([
        "call",
        &address,
        "--plaintext",
        "--method",
        "/a.B/C",
        "--data-hex",
        "0a026869",
        "--timeout",
        "1m",
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let (message, timeout) = seen.recv().await.expect("a call");
    assert_eq!(message.as_deref(), Some(&b"\x0a\x02hi"[..]));
    let timeout = timeout.expect("a deadline must be sent along");
    assert!(
        timeout.len() <= 9,
        "at most eight digits and a unit: {timeout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_of_many_messages_is_read_to_its_end() {
    let response = balancer_testpeer::Response::grpc()
        .message(b"one")
        .message(b"two")
        .status(9, "and then no more");
    let server = Server::start(Backend::new("a").answer(response.into()))
        .await
        .expect("a server");
    let address = server.addr().to_string();
    let json = run(["call", &address, "--plaintext", "--json"])
        .await
        .json();
    assert_eq!(json["codes"], json!({"FAILED_PRECONDITION": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duration_and_a_rate_bound_the_load() {
    let (servers, target) = tonics(1).await;
    let ran = run([
        "call",
        &target,
        "--plaintext",
        "--json",
        "--duration",
        "400ms",
        "--rps",
        "50",
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let rpcs = json["rpcs"].as_u64().expect("a count");
    // Twenty turns, and at most the five that may be caught up with.
    assert!((1..=25).contains(&rpcs), "50 per second for 0.4 s: {json}");
    assert_eq!(servers[0].begun(), rpcs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_waits_for_a_server_to_come_up() {
    let mut server = Tonic::start().await.expect("a server");
    server.kill().await;
    let address = server.addr().to_string();
    let call = tokio::spawn(run([
        "call".to_owned(),
        address,
        "--plaintext".to_owned(),
        "--wait-for-ready".to_owned(),
        "--timeout".to_owned(),
        "1m".to_owned(),
    ]));
    // Before or after the first attempt to connect: the RPC must not care.
    server.restart().await.expect("its port is kept");
    let ran = call.await.expect("no panic");
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_that_waits_in_vain_says_for_what() {
    let dead = Refused::new().expect("a port");
    let ran = run([
        "call",
        &dead.addr().to_string(),
        "--plaintext",
        "--json",
        "--wait-for-ready",
        "--timeout",
        "300ms",
    ])
    .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["codes"], json!({"DEADLINE_EXCEEDED": 1}));
    let message = json["errors"][0]["message"].as_str().expect("a text");
    assert!(
        message.contains("refused"),
        "must say why it waited: {message}"
    );
    let took = Duration::from_millis(json["elapsed_ms"].as_u64().expect("ms"));
    assert!(took >= Duration::from_millis(300), "must wait: {json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_config_may_come_from_a_file() {
    let (_servers, target) = tonics(2).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), ROUND_ROBIN).expect("room for it");
    let config = format!("@{}", file.path().display());
    let ran = run([
        "call",
        &target,
        "--plaintext",
        "--json",
        "--service-config",
        &config,
    ])
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["policy"], "round_robin");
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_needs_no_resolver() {
    let (servers, _) = tonics(1).await;
    let target = format!("localhost:{}", servers[0].addr().port());
    let ran = run(["call", &target, "--plaintext", "--json", "--warm-up", "0s"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let address = servers[0].addr().to_string();
    assert_eq!(ran.json()["backends"], json!({address: 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_a_summary() {
    let (servers, target) = tonics(1).await;
    let ran = run(["call", &target, "--plaintext", "--count", "1500"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for part in [
        "1,500",
        "pick_first",
        "100.0 %",
        "p99.9",
        "IDLE → CONNECTING",
        "READY",
        &servers[0].addr().to_string(),
    ] {
        assert!(ran.stdout.contains(part), "must say {part}: {}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_connection_to_a_backend_is_shown() {
    let backend = Backend::new("narrow")
        .max_concurrent_streams(1)
        .answer(Answer::Echo.after(Duration::from_millis(100)));
    let server = Server::start(backend).await.expect("a port");
    let config = r#"{"connectionScaling":{"maxConnectionsPerSubchannel":3}}"#;
    let target = format!("ipv4:{}", server.addr());
    let call = ["call", &target, "--plaintext", "--count", "12"];
    let ran = run(call
        .iter()
        .chain(&["--concurrency", "6", "--service-config", config]))
    .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["CONNECTIONS", "3 of 1 streams"] {
        assert!(ran.stdout.contains(part), "must say {part}: {}", ran.stdout);
    }
    let ran = run(call).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("CONNECTIONS"), "one: {}", ran.stdout);
}
