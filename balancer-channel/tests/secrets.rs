//! What must stay secret, whoever writes down whatever can be written down: every event and span at
//! TRACE, of every crate below us, and every `Debug` and message that an application can get at.
//!
//! A program of its own: what is written down is the process's.

mod support;

#[path = "rpc/secured.rs"]
mod secured;

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balancer_channel::{CallCredentials, CallInfo, Channel};
use balancer_testpeer::{Answer, Backend, frame::code};
use rcgen::CertificateParams;
use secured::{Authority, Secured};
use support::{echo, text};
use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// What nobody may read.
const TOKEN: &str = "S3CR3T-token-5f2d91";
const METADATA: &str = "S3CR3T-metadata-77ab";
const MESSAGE: &str = "S3CR3T-message-c0ffee";

/// Writes everything down.
#[derive(Default)]
struct Scribe {
    spans: AtomicU64,
}

/// What was written down. Guards nothing else; nothing is called under it.
static WRITTEN: Mutex<String> = Mutex::new(String::new());

fn written() -> MutexGuard<'static, String> {
    WRITTEN.lock().expect("never poisoned")
}

struct Pen<'a>(&'a mut String);

impl Visit for Pen<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Scribe {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut line = format!(
            "\n{} span {}",
            span.metadata().target(),
            span.metadata().name()
        );
        span.record(&mut Pen(&mut line));
        written().push_str(&line);
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = String::from("\n");
        values.record(&mut Pen(&mut line));
        written().push_str(&line);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("\n{}", event.metadata().target());
        event.record(&mut Pen(&mut line));
        written().push_str(&line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Token;

#[async_trait::async_trait]
impl CallCredentials for Token {
    async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        let value = format!("Bearer {TOKEN}");
        metadata.insert("authorization", value.parse().expect("ASCII"));
        let binary = MetadataValue::from_bytes(TOKEN.as_bytes());
        metadata.insert_bin("x-token-bin", binary);
        Ok(metadata)
    }
}

/// An RPC with a secret in its message and one in its metadata.
async fn call(channel: &Channel, timeout: Duration) -> String {
    let mut request = Request::new(text(MESSAGE));
    let value = METADATA.parse().expect("ASCII");
    request.metadata_mut().insert("x-api-key", value);
    let value = format!("Bearer {METADATA}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    request.set_timeout(timeout);
    match echo(channel, request).await {
        // Its metadata is the server's.
        Ok(_) => "OK".to_owned(),
        Err(status) => format!("{status} {status:?}"),
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn nobody_writes_secrets_down() {
    tracing::subscriber::set_global_default(Scribe::default()).expect("the first one");
    let authority = Authority::new();
    let me = CertificateParams::new(vec!["me.test".to_owned()]).expect("a name");
    let me = authority.issue(&me);
    let key = me.key.serialize_pem();
    let backend = Backend::new("a").answers(|request| match request.stream % 16 {
        1 | 3 => Answer::trailers_only(14, "not now"),
        5 => Answer::Reset(code::REFUSED_STREAM),
        7 => Answer::Never,
        9 => Answer::http_status(502),
        11 => Answer::missing_status(b"?"),
        _ => Answer::Echo,
    });
    let server = Secured::start(&authority, "backend.test", backend).await;
    let tls = authority
        .trusted()
        .identity_pem(me.pem.clone(), key.clone());
    let mut shown = format!("{tls:?}");
    let builder = Channel::builder(format!("ipv4:{}", server.addr()))
        .authority("backend.test")
        .tls(tls)
        .call_credentials(Arc::new(Token))
        .default_service_config(
            r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,
            "initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,
            "retryableStatusCodes":["UNAVAILABLE"]}}]}"#,
        );
    shown += &format!("{builder:?}");
    let channel = builder.build().expect("a channel");
    for _ in 0..24 {
        shown += &call(&channel, Duration::from_millis(200)).await;
        shown += &format!("{channel:?} {:?}", channel.snapshot());
    }
    server.server.drain().await;
    shown += &call(&channel, Duration::from_millis(200)).await;
    channel.close().await;
    shown += &call(&channel, Duration::from_millis(200)).await;

    // A server that must not be told: its name is another one.
    let stranger = Secured::start(&authority, "other.test", Backend::new("b")).await;
    let channel = Channel::builder(format!("ipv4:{}", stranger.addr()))
        .authority("backend.test")
        .tls(
            authority
                .trusted()
                .identity_pem(me.pem.clone(), key.clone()),
        )
        .call_credentials(Arc::new(Token))
        .build()
        .expect("a channel");
    shown += &call(&channel, Duration::from_secs(5)).await;
    channel.close().await;
    // And a key that is none.
    let half = key.replace("PRIVATE", "PUBLIC");
    let bad =
        Channel::builder("ipv4:127.0.0.1:1").tls(authority.trusted().identity_pem(me.pem, half));
    shown += &format!("{bad:?}");
    let error = bad.build().expect_err("no private key");
    shown += &format!("{error} {error:?}");

    let log = written().clone();
    println!("{} bytes of log, {} bytes shown", log.len(), shown.len());
    assert!(log.contains("h2::"), "h2 must have been listened to");
    assert!(log.contains("balancer"), "we too");
    let encoded = MetadataValue::from_bytes(TOKEN.as_bytes());
    let encoded = String::from_utf8_lossy(encoded.as_encoded_bytes()).into_owned();
    let lines = key.lines().filter(|line| !line.starts_with("---"));
    let secrets = [TOKEN, METADATA, MESSAGE, &encoded];
    for secret in secrets.into_iter().chain(lines) {
        for (what, text) in [("the log", &log), ("what can be shown", &shown)] {
            if let Some(at) = text.find(secret) {
                let from = text[..at].rfind('\n').unwrap_or(0);
                let line: String = text[from..].chars().take(400).collect();
                panic!("{secret:?} is in {what}: {line}");
            }
        }
    }
}
