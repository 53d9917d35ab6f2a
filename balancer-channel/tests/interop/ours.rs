//! Our channel against grpcio's server.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use balancer_channel::{Channel, TlsConfig, WaitForReady};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response,
    codegen::tokio_stream,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    calls::{Client, all},
    load::Load,
    python::Python,
    report::Report,
};

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// Text that a status message or a header may not carry as it stands.
const TEXTS: &[&str] = &[
    "",
    "plain",
    "100% of nothing: %41 a+b",
    "žluťoučký kůň 🐎 日本語",
    "line\nfeed\ttab\r",
];

pub(crate) async fn run(python: &Python, report: &mut Report) {
    let (_server, port) = python.server("one", "127.0.0.1:0", &[]).await;
    let channel = plaintext(&format!("dns:///localhost:{port}"));
    let client = Client::new(&channel);

    report.case("unary", unary(&client)).await;
    report.case("user agent", user_agent(&client)).await;
    report
        .case("client streaming", client_streaming(&client))
        .await;
    report
        .case("server streaming", server_streaming(&client))
        .await;
    report
        .case("bidi streaming, full duplex", bidi(&client))
        .await;
    report
        .case("all 17 status codes", status_codes(&client))
        .await;
    report
        .case("status messages", status_messages(&client))
        .await;
    report.case("status details", status_details(&client)).await;
    report.case("unknown method", unknown_method(&client)).await;
    report
        .case("binary metadata both ways", metadata(&client))
        .await;
    report.case("10 MiB both ways", large(&client)).await;
    report.case("1,000 RPCs at once", many(&client)).await;
    report.case("gzip both ways", gzip(&channel)).await;
    report
        .case("deadline seen by the server", deadline_seen(&client))
        .await;
    report
        .case("deadline passes", deadline_passes(&client))
        .await;
    report
        .case("cancelled by the client", cancelled(&client))
        .await;
    report
        .case("grpc.health.v1 Check and Watch", health(&client))
        .await;
    channel.close().await;

    report
        .case(
            "wait-for-ready before the server starts",
            wait_for_ready(python),
        )
        .await;
    report.case("TLS, given root", tls(python)).await;
    report
        .case("round_robin over two", two_servers(python))
        .await;
    report
        .case("one of two drains under load", drain(python))
        .await;
    report
        .case("one of two is killed under load", killed(python))
        .await;
}

fn plaintext(target: &str) -> Channel {
    let builder = Channel::builder(target).plaintext();
    let builder = builder.default_service_config(ROUND_ROBIN);
    builder
        .warm_up(Duration::from_secs(5))
        // For "10 MiB both ways": 4 MiB are received otherwise.
        .max_response_message_bytes(16 << 20)
        .build()
        .expect("a channel")
}

async fn unary(client: &Client) {
    for payload in [Vec::new(), b"hello".to_vec(), vec![0; 100_000]] {
        let response = client.unary("Unary", payload.clone()).await;
        let response = response.expect("the server answers");
        assert_eq!(server(&response), "one");
        assert_eq!(*response.get_ref(), payload, "must be the echo");
    }
}

async fn user_agent(client: &Client) {
    let response = client.unary("Peer", Vec::new()).await.expect("an answer");
    let agent = String::from_utf8(response.into_inner()).expect("text");
    assert!(agent.contains("balancer-channel/"), "not {agent:?}");
}

async fn client_streaming(client: &Client) {
    let messages: Vec<Vec<u8>> = (0..500_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    let sent = messages.concat();
    let response = client
        .client_stream("ClientStream", tokio_stream::iter(messages))
        .await;
    assert_eq!(
        response.expect("an answer").into_inner(),
        sent,
        "all, in order"
    );
    let none = client
        .client_stream("ClientStream", tokio_stream::empty())
        .await;
    assert_eq!(
        none.expect("an answer").into_inner(),
        b"",
        "no message is fine"
    );
}

async fn server_streaming(client: &Client) {
    let order = br#"{"count":500,"size":1000}"#.to_vec();
    let response = client.server_stream("ServerStream", order).await;
    let messages = all(response.expect("headers").into_inner())
        .await
        .expect("OK");
    let expected: Vec<Vec<u8>> = (0..500).map(|n: u32| vec![(n % 256) as u8; 1000]).collect();
    assert!(messages == expected, "all, in order");
}

/// Each message goes only when the answer to the one before is here.
async fn bidi(client: &Client) {
    let (send, messages) = mpsc::channel(1);
    let response = client.bidi("Bidi", ReceiverStream::new(messages)).await;
    let mut answers = response
        .expect("headers before the first message")
        .into_inner();
    for n in 0..100_u8 {
        send.send(vec![n; 10]).await.expect("the stream is open");
        let answer = answers.message().await.expect("a message");
        assert_eq!(answer, Some(vec![n; 10]), "must be the echo");
    }
    drop(send);
    assert_eq!(
        answers.message().await.expect("OK"),
        None,
        "must end with OK"
    );
}

async fn status_codes(client: &Client) {
    for number in 0..=16 {
        let order = format!(r#"{{"code":{number},"message":"as told"}}"#);
        let result = client.unary("Status", order.into_bytes()).await;
        let code = match &result {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        assert_eq!(code, Code::from(number), "must be the server's");
        if let Err(status) = result {
            assert_eq!(status.message(), "as told", "{code:?}");
            assert_trailers(status.metadata());
        }
    }
}

async fn status_messages(client: &Client) {
    for text in TEXTS {
        let message = json_string(text);
        let order = format!(r#"{{"code":9,"message":{message}}}"#);
        let result = client.unary("Status", order.into_bytes()).await;
        let status = result.expect_err("FAILED_PRECONDITION was asked for");
        assert_eq!(status.message(), *text, "must arrive unchanged");
    }
}

async fn status_details(client: &Client) {
    let order = r#"{"code":3,"message":"no","details":"as bytes"}"#;
    let result = client.unary("Status", order.as_bytes().to_vec()).await;
    let status = result.expect_err("INVALID_ARGUMENT was asked for");
    assert_eq!(status.details(), b"as bytes");
}

async fn unknown_method(client: &Client) {
    let result = client.unary("NoSuchMethod", Vec::new()).await;
    let status = result.expect_err("there is no such method");
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
}

async fn metadata(client: &Client) {
    let all_octets: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 4] = [&all_octets, b"", b"a", b"\0\xff"];
    let mut request = Request::new(Vec::new());
    for value in values {
        let value = MetadataValue::from_bytes(value);
        request.metadata_mut().append_bin("x-echo-bin", value);
    }
    let text = MetadataValue::from_static("some text, with a comma");
    request.metadata_mut().insert("x-echo-text", text);
    let response = client.unary("Unary", request).await.expect("an answer");
    let echoed: Vec<Vec<u8>> = response
        .metadata()
        .get_all_bin("x-echo-bin")
        .iter()
        .map(|value| value.to_bytes().expect("base64").to_vec())
        .collect();
    assert_eq!(echoed, values, "all, in order");
    let text = response.metadata().get("x-echo-text");
    assert_eq!(text.expect("the echo"), "some text, with a comma");
}

async fn large(client: &Client) {
    let payload: Vec<u8> = (0..10 << 20).map(|n: u32| (n % 251) as u8).collect();
    let response = client.unary("Unary", payload.clone()).await;
    let answer = response.expect("the server takes any size").into_inner();
    assert!(
        answer == payload,
        "must be the echo, not {} octets",
        answer.len()
    );
    let order = br#"{"count":2,"size":10485760}"#.to_vec();
    let response = client.server_stream("ServerStream", order).await;
    let messages = all(response.expect("headers").into_inner())
        .await
        .expect("OK");
    let lengths: Vec<usize> = messages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [10 << 20, 10 << 20]);
}

async fn many(client: &Client) {
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..1_000_u32 {
        let client = client.clone();
        calls.spawn(async move {
            let payload = n.to_be_bytes().to_vec();
            let response = client.unary("Unary", payload.clone()).await;
            assert_eq!(response.expect("an answer").into_inner(), payload);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("each must get its own answer");
    }
}

async fn gzip(channel: &Channel) {
    let client = Client::compressed(channel);
    for payload in [b"short".to_vec(), vec![b'a'; 1 << 20]] {
        let response = client.unary("Gzip", payload.clone()).await;
        let response = response.expect("the server reads gzip");
        let encoding = response.metadata().get("grpc-encoding");
        assert_eq!(encoding.expect("an encoding"), "gzip");
        assert!(*response.get_ref() == payload, "must be the echo");
    }
}

async fn deadline_seen(client: &Client) {
    let mut request = Request::new(Vec::new());
    request.set_timeout(Duration::from_secs(20));
    let response = client.unary("TimeLeft", request).await.expect("an answer");
    let left = String::from_utf8(response.into_inner()).expect("text");
    let left: u32 = left.parse().expect("milliseconds");
    assert!(
        (10_000..=20_000).contains(&left),
        "must see 20 s, not {left} ms"
    );
    let response = client.unary("TimeLeft", Vec::new()).await;
    assert_eq!(response.expect("an answer").into_inner(), b"none");
}

async fn deadline_passes(client: &Client) {
    let mut request = Request::new(Vec::new());
    request.set_timeout(Duration::from_millis(200));
    let started = Instant::now();
    let result = client.unary("Slow", request).await;
    let took = started.elapsed();
    let status = result.expect_err("the server never answers");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let in_time = Duration::from_millis(200)..Duration::from_millis(700);
    assert!(
        in_time.contains(&took),
        "must end in time, not after {took:?}"
    );
    assert_eq!(gave_up(client, 1).await, 1, "the server must hear of it");
}

async fn cancelled(client: &Client) {
    let before = gave_up(client, 0).await;
    let response = client.server_stream("Slow", b"begin".to_vec()).await;
    // The headers are here, so the server is at work.
    drop(response.expect("headers"));
    let after = gave_up(client, before + 1).await;
    assert_eq!(after, before + 1, "the server must hear of it");
}

/// Messages of `grpc.health.v1` are few octets: a request with no service, a response with a status.
async fn health(client: &Client) {
    const SERVING: i32 = 1;
    let codec = tonic_prost::ProstCodec::<String, i32>::default;
    let mut grpc = client.grpc();
    grpc.ready().await.expect("always ready");
    let check = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = grpc
        .unary(Request::new(String::new()), check, codec())
        .await;
    assert_eq!(answer.expect("an answer").into_inner(), SERVING);
    let watch = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
    let request = Request::new(String::new());
    let answer = grpc.server_streaming(request, watch, codec()).await;
    let mut states = answer.expect("headers").into_inner();
    assert_eq!(states.message().await.expect("a state"), Some(SERVING));
}

async fn wait_for_ready(python: &Python) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // A path, not a port: nobody else can take it before the server does.
    let socket = format!("unix:{}", directory.path().join("late").display());
    let channel = plaintext(&socket);
    let client = Client::new(&channel);
    let impatient = client.unary("Unary", Vec::new()).await;
    let status = impatient.expect_err("there is no server yet");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    let patient = tokio::spawn({
        let client = client.clone();
        let mut request = Request::new(b"patience".to_vec());
        request.extensions_mut().insert(WaitForReady(true));
        async move { client.unary("Unary", request).await }
    });
    let (_server, _) = python.server("late", &socket, &[]).await;
    let response = patient
        .await
        .expect("no panic")
        .expect("the server is here");
    assert_eq!(server(&response), "late");
    channel.close().await;
}

async fn tls(python: &Python) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("valid names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["interop.test".to_owned()]).expect("valid names");
    let leaf = leaf
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .expect("a certificate");
    let files: [PathBuf; 2] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    fs::write(&files[0], leaf.pem()).expect("a file");
    fs::write(&files[1], key.serialize_pem()).expect("a file");

    let (_server, port) = python.server("secure", "127.0.0.1:0", &files).await;
    let to = |authority: &str| {
        let tls = TlsConfig::new().ca_certificates_pem(root.pem());
        let builder = Channel::builder(format!("ipv4:127.0.0.1:{port}")).tls(tls);
        builder.authority(authority).build().expect("a channel")
    };
    let channel = to("interop.test");
    let response = Client::new(&channel)
        .unary("Unary", b"secret".to_vec())
        .await;
    assert_eq!(server(&response.expect("the name is right")), "secure");
    channel.close().await;

    let channel = to("somebody.else");
    let result = Client::new(&channel)
        .unary("Unary", b"secret".to_vec())
        .await;
    let status = result.expect_err("the name is wrong");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    channel.close().await;
}

async fn two_servers(python: &Python) {
    let (_a, port_a) = python.server("a", "127.0.0.1:0", &[]).await;
    let (_b, port_b) = python.server("b", "127.0.0.1:0", &[]).await;
    let channel = plaintext(&format!("ipv4:127.0.0.1:{port_a},127.0.0.1:{port_b}"));
    let client = Client::new(&channel);
    let mut served = BTreeMap::new();
    for _ in 0..100 {
        let response = client
            .unary("Unary", Vec::new())
            .await
            .expect("both are up");
        *served.entry(server(&response)).or_insert(0) += 1;
    }
    let counts: Vec<_> = served.into_values().collect();
    assert_eq!(counts, [50, 50], "must take turns");
    channel.close().await;
}

/// A graceful stop, as in a rolling restart, loses no RPC that the server did not itself refuse.
///
/// grpcio answers CANCELLED to what reaches it between its `stop` and its GOAWAY; its own client is
/// told the same.
async fn drain(python: &Python) {
    let (mut a, port_a) = python.server("a", "127.0.0.1:0", &[]).await;
    let (_b, port_b) = python.server("b", "127.0.0.1:0", &[]).await;
    let channel = plaintext(&format!("ipv4:127.0.0.1:{port_a},127.0.0.1:{port_b}"));
    let load = Load::start(&channel);
    load.until_more(200).await;
    a.say("drain").await;
    assert_eq!(a.line().await, "drained");
    load.until_more(200).await;
    for status in load.finish().await {
        let told = (status.code(), status.message());
        assert_eq!(told, (Code::Cancelled, "CANCELLED"), "{status:?}");
        let headers = status.metadata().get("content-type");
        assert!(headers.is_some(), "must be the server's: {status:?}");
    }
    channel.close().await;
}

/// A kill costs at most what was on its way.
async fn killed(python: &Python) {
    let (a, port_a) = python.server("a", "127.0.0.1:0", &[]).await;
    let (_b, port_b) = python.server("b", "127.0.0.1:0", &[]).await;
    let channel = plaintext(&format!("ipv4:127.0.0.1:{port_a},127.0.0.1:{port_b}"));
    let load = Load::start(&channel);
    load.until_more(200).await;
    a.kill().await;
    load.until_more(400).await;
    let failed = load.finish().await;
    assert!(failed.len() <= Load::WIDTH, "at most one each: {failed:?}");
    for status in &failed {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    channel.close().await;
}

/// Waits until so many RPCs have been given up, as the server counts, and answers how many have.
async fn gave_up(client: &Client, count: u32) -> u32 {
    let count = count.to_string().into_bytes();
    let response = client.unary("GaveUp", count).await.expect("an answer");
    let text = String::from_utf8(response.into_inner()).expect("text");
    text.parse().expect("a number")
}

fn server<T>(response: &Response<T>) -> String {
    let name = response.metadata().get("x-server").expect("its name");
    name.to_str().expect("text").to_owned()
}

fn assert_trailers(trailers: &MetadataMap) {
    let all_octets: Vec<u8> = (0..=255).collect();
    let binary = trailers.get_bin("x-trailer-bin").expect("a trailer");
    assert_eq!(binary.to_bytes().expect("base64"), all_octets);
    assert_eq!(trailers.get("x-trailer").expect("a trailer"), "told");
}

/// A string as JSON writes it.
fn json_string(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
