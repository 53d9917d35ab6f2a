//! Call credentials: fetched for every attempt, sent over encrypted connections only.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use balancer_api::{
    AuthInfo, Code as PolicyCode, HandshakeError, Io, SecurityLevel, TransportCredentials,
};
use balancer_channel::{
    BuildError, CallCredentials, CallInfo, Channel, ChannelBuilder, PerCallCredentials,
};
use balancer_testpeer::{Answer, Backend, Behaviour, Server, frame::kind};
use tonic::{Code, Request, Status, metadata::MetadataMap};
use tower::Service;

use crate::{
    secured::{Authority, Secured},
    stage::{Stage, built},
    support::{Text, echo, pipes::piped, text},
};

const SECRET: &str = "S3CR3T-5f2d";

/// Longer than anything here takes: a hang must fail.
const PATIENCE: Duration = Duration::from_secs(5);

/// A token with the number of times that it was fetched.
#[derive(Default)]
struct Token {
    fetched: AtomicUsize,
    asked: Mutex<Vec<CallInfo>>,
}

#[async_trait::async_trait]
impl CallCredentials for Token {
    async fn metadata(&self, call: &CallInfo) -> Result<MetadataMap, Status> {
        let nth = self.fetched.fetch_add(1, SeqCst) + 1;
        self.asked
            .lock()
            .expect("never poisoned")
            .push(call.clone());
        // It takes a round through the scheduler, as the real ones do.
        tokio::task::yield_now().await;
        let value = format!("Bearer {SECRET}-{nth}");
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().expect("ASCII"));
        metadata.insert("grpc-timeout", "1n".parse().expect("ASCII"));
        Ok(metadata)
    }
}

/// Credentials that cannot be had.
struct Failing(Code);

#[async_trait::async_trait]
impl CallCredentials for Failing {
    async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
        Err(Status::new(self.0, "no token today"))
    }
}

/// Credentials that never come.
struct Endless;

#[async_trait::async_trait]
impl CallCredentials for Endless {
    async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
        std::future::pending().await
    }
}

/// A server over TLS that writes down what it was sent, and a description of a channel to it.
async fn secured(answers: Vec<Answer>) -> (Secured, Arc<Mutex<Vec<String>>>, ChannelBuilder) {
    let authority = Authority::new();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let writing = seen.clone();
    let backend = Backend::new("a").answers(move |request| {
        let mut seen = writing.lock().expect("never poisoned");
        let all = |name: &str| request.header(name).unwrap_or("none").to_owned();
        seen.push(format!("{} {}", all("authorization"), all("x-extra")));
        answers[(seen.len() - 1).min(answers.len() - 1)].clone()
    });
    let server = Secured::start(&authority, "backend.test", backend).await;
    let builder = Channel::builder(format!("ipv4:{}", server.addr()))
        .authority("backend.test")
        .tls(authority.trusted());
    (server, seen, builder)
}

fn with(credentials: impl CallCredentials + 'static) -> Request<Text> {
    let mut request = Request::new(text("hello"));
    let credentials = PerCallCredentials::new(Arc::new(credentials));
    request.extensions_mut().insert(credentials);
    request
}

#[tokio::test(crate = "crate::support::harness")]
async fn credentials_of_the_channel_and_of_the_call_are_sent() {
    struct Extra;

    #[async_trait::async_trait]
    impl CallCredentials for Extra {
        async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-extra", "of the call".parse().expect("ASCII"));
            Ok(metadata)
        }
    }

    let (_server, seen, builder) = secured(vec![Answer::Echo]).await;
    let token = Arc::new(Token::default());
    let channel = built(builder.call_credentials(token.clone()));
    echo(&channel, text("hello")).await.expect("served");
    echo(&channel, with(Extra)).await.expect("served");
    assert_eq!(
        *seen.lock().expect("never poisoned"),
        [
            format!("Bearer {SECRET}-1 none"),
            format!("Bearer {SECRET}-2 of the call")
        ]
    );
    let asked = token.asked.lock().expect("never poisoned").clone();
    assert_eq!(asked[0].path, "/test.Echo/Unary");
    assert_eq!(asked[0].authority, "backend.test");
    assert_eq!(asked[0].service_url(), "https://backend.test/test.Echo");
    channel.close().await;
}

/// What the protocol itself says is not for credentials to say.
#[tokio::test(crate = "crate::support::harness")]
async fn reserved_names_are_left_out() {
    struct Greedy;

    const RESERVED: [&str; 6] = [
        "grpc-timeout",
        "grpc-encoding",
        "grpc-previous-rpc-attempts",
        "te",
        "content-type",
        "user-agent",
    ];

    #[async_trait::async_trait]
    impl CallCredentials for Greedy {
        async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
            let mut metadata = http::HeaderMap::new();
            for name in RESERVED {
                metadata.insert(name, http::HeaderValue::from_static("forged"));
            }
            metadata.insert("x-extra", http::HeaderValue::from_static("first"));
            metadata.append("x-extra", http::HeaderValue::from_static("second"));
            Ok(MetadataMap::from_headers(metadata))
        }
    }

    let authority = Authority::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writing = seen.clone();
    let backend = Backend::new("a").answers(move |request| {
        let headers = request.headers.iter().map(|(name, value)| {
            let [name, value] = [name, value].map(String::from_utf8_lossy);
            format!("{name}: {value}")
        });
        writing.lock().expect("never poisoned").extend(headers);
        Answer::Echo
    });
    let server = Secured::start(&authority, "backend.test", backend).await;
    let channel = built(
        Channel::builder(format!("ipv4:{}", server.addr()))
            .authority("backend.test")
            .tls(authority.trusted()),
    );
    echo(&channel, with(Greedy)).await.expect("served");
    channel.close().await;
    let seen = seen.lock().expect("never poisoned").clone();
    assert!(seen.iter().all(|line| !line.contains("forged")), "{seen:?}");
    for value in ["first", "second"] {
        assert!(seen.contains(&format!("x-extra: {value}")), "{seen:?}");
    }
}

/// On the wire, too: neither end keeps the secret in its header table.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn what_is_fetched_is_never_indexed() {
    /// Encryption is not what is tried here.
    #[derive(Debug)]
    struct Claimed;

    #[async_trait::async_trait]
    impl TransportCredentials for Claimed {
        async fn client_handshake(
            &self,
            _: &str,
            io: Box<dyn Io>,
        ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError> {
            let level = SecurityLevel::PrivacyAndIntegrity;
            Ok((io, AuthInfo::new("claimed", level)))
        }
    }

    /// RFC 7541, 6.2.3: never indexed, with the name `authorization`, the 23rd of the static table.
    const NEVER_INDEXED: [u8; 2] = [0x1f, 23 - 15];

    let blocks = Arc::new(Mutex::new(Vec::new()));
    let writing = blocks.clone();
    let peer = Behaviour::new(move |mut conn| {
        let blocks = writing.clone();
        async move {
            conn.handshake().await?;
            while let Some(frame) = conn.read_frame().await? {
                if frame.kind == kind::HEADERS {
                    let block = frame.payload.to_vec();
                    blocks.lock().expect("never poisoned").push(block);
                    conn.reply_ok(frame.stream, b"").await?;
                }
            }
            Ok(())
        }
    });
    let server = Arc::new(Server::in_memory(peer));
    let builder = piped(std::slice::from_ref(&server)).credentials(Arc::new(Claimed));
    let channel = built(builder.call_credentials(Arc::new(Token::default())));
    for _ in 0..2 {
        echo(&channel, text("hello")).await.expect("served");
    }
    channel.close().await;
    let blocks = blocks.lock().expect("never poisoned").clone();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let marked = block.windows(2).any(|two| two == NEVER_INDEXED);
        assert!(marked, "{}", block.escape_ascii());
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn each_attempt_fetches_anew_and_sends_its_own() {
    let unavailable = Answer::trailers_only(14, "not now");
    let (_server, seen, builder) = secured(vec![unavailable, Answer::Echo]).await;
    let config = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,
        "initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,
        "retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
    let builder = builder.default_service_config(config);
    let channel = built(builder.call_credentials(Arc::new(Token::default())));
    echo(&channel, text("hello")).await.expect("served");
    assert_eq!(
        *seen.lock().expect("never poisoned"),
        [
            format!("Bearer {SECRET}-1 none"),
            format!("Bearer {SECRET}-2 none")
        ]
    );
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn plaintext_connections_get_none() {
    let stage = Stage::new([vec![Answer::Echo]]);
    let channel = built(stage.builder(r#""waitForReady":true"#));
    let token = Arc::new(Token::default());
    let mut request = Request::new(text("hello"));
    let credentials: Arc<dyn CallCredentials> = token.clone();
    request
        .extensions_mut()
        .insert(PerCallCredentials::new(credentials));
    let status = echo(&channel, request).await.expect_err("plaintext");
    assert_eq!(status.code(), Code::Unauthenticated);
    let message = status.message();
    assert!(
        message.contains("encrypted connections only"),
        "{message:?}"
    );
    assert!(
        message.contains("10.0.0.0:1"),
        "{message:?} must say which one"
    );
    assert_eq!(token.fetched.load(SeqCst), 0, "nothing may be fetched");
    assert_eq!(stage.seen().len(), 0, "nothing may be sent");
    let heard = stage.end(channel).await;
    assert_eq!(heard.dones, [PolicyCode::Unauthenticated]);

    let refused = Channel::builder("ipv4:127.0.0.1:1")
        .plaintext()
        .call_credentials(token)
        .build()
        .expect_err("a channel that could never authenticate");
    assert!(
        matches!(refused, BuildError::CallCredentialsOnPlaintext),
        "{refused:?}"
    );
}

#[tokio::test(crate = "crate::support::harness")]
async fn what_credentials_fail_with_the_rpc_fails_with() {
    let (_server, seen, builder) = secured(vec![Answer::Echo]).await;
    let channel = built(builder);
    for (given, code) in [
        (Code::Unauthenticated, Code::Unauthenticated),
        (Code::Unavailable, Code::Unavailable),
        // Only servers may say so.
        (Code::NotFound, Code::Internal),
    ] {
        let status = echo(&channel, with(Failing(given)))
            .await
            .expect_err("no token");
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains("no token today"), "{status:?}");
    }
    assert_eq!(seen.lock().expect("never poisoned").len(), 0);
    channel.close().await;
}

#[tokio::test(crate = "crate::support::harness")]
async fn the_deadline_does_not_wait_for_credentials() {
    let (_server, seen, builder) = secured(vec![Answer::Echo]).await;
    let channel = built(builder);
    channel.connect().await.expect("connected");
    let mut request = with(Endless);
    request.set_timeout(Duration::from_millis(50));
    let ended = tokio::time::timeout(PATIENCE, echo(&channel, request)).await;
    let status = ended.expect("must end").expect_err("they never come");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "the deadline passed while waiting for call credentials"
    );
    assert_eq!(seen.lock().expect("never poisoned").len(), 0);
    channel.close().await;
}

/// Nor by an RPC that has fetched them, and waits for a stream to send them on.
#[tokio::test(crate = "crate::support::harness")]
async fn secrets_are_not_shown() {
    let credentials = PerCallCredentials::new(Arc::new(Token::default()));
    assert_eq!(format!("{credentials:?}"), "PerCallCredentials");
    let authority = Authority::new();
    let narrow = Backend::new("narrow").max_concurrent_streams(0);
    let server = Secured::start(&authority, "backend.test", narrow).await;
    let token = Arc::new(Token::default());
    let channel = built(
        Channel::builder(format!("ipv4:{}", server.addr()))
            .authority("backend.test")
            .tls(authority.trusted())
            .call_credentials(token.clone()),
    );
    let request = http::Request::post("/test.Echo/Unary").body(tonic::body::Body::empty());
    let mut rpc = channel.clone().call(request.expect("a request"));
    let waits = async {
        while channel
            .snapshot()
            .sub_conns
            .iter()
            .all(|it| it.waiting == 0)
        {
            assert!(futures_util::poll!(&mut rpc).is_pending(), "no stream");
            tokio::task::yield_now().await;
        }
    };
    let waits = tokio::time::timeout(PATIENCE, waits).await;
    waits.expect("it waits for a stream");
    assert_eq!(token.fetched.load(SeqCst), 1, "it has the secret");
    let shown = format!("{rpc:?} {channel:?} {:?}", channel.snapshot());
    assert!(!shown.contains(SECRET), "{shown}");
    drop(rpc);
    channel.close().await;
}
