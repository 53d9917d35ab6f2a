//! TLS: who is trusted, and who is not.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        HandshakeKind, RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

use super::support::{Ends, call, connector, echo, listen, read};
use crate::transport::{Connector, Security, TlsConfig};

struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { certificate, key }
    }
}

/// A server that proves `identity`, speaks `alpn`, and demands clients of `clients`.
async fn serve(identity: &Identity, alpn: &[&[u8]], clients: Option<&Authority>) -> String {
    let acceptor = acceptor(identity, alpn, clients);
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(acceptor.clone(), socket));
        }
    });
    address
}

fn acceptor(identity: &Identity, alpn: &[&[u8]], clients: Option<&Authority>) -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::new(default_provider()),
            );
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
    let mut config = builder
        .with_single_cert(vec![identity.certificate.der().clone()], key)
        .expect("an identity");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(acceptor: TlsAcceptor, socket: TcpStream) {
    if let Ok(stream) = acceptor.accept(socket).await {
        answer_on(stream).await;
    }
}

async fn answer_on(stream: TlsStream<TcpStream>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(echo(request, respond));
    }
}

fn secured(config: &TlsConfig) -> Connector {
    let client = config.client().expect("a good configuration");
    Connector {
        security: Security::Tls(client),
        ..connector()
    }
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().ca_certificates_pem(authority.pem())
}

#[tokio::test]
async fn a_proven_server_is_served() {
    let authority = Authority::new();
    let address = serve(&authority.issue("greeter.test", |_| {}), &[b"h2"], None).await;
    let connected = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect("ready");
    assert_eq!(&*connected.connection.auth().protocol, "tls");
    let response = connected
        .connection
        .send(call(b"secret"))
        .await
        .expect("begun");
    read(response, &Ends::default()).await.expect("whole");
}

/// A server that would resume sessions has to prove itself anew each time.
#[tokio::test]
async fn sessions_are_not_resumed() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.issue("greeter.test", |_| {}), &[b"h2"], None);
    let (listener, address) = listen().await;
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = kinds.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let stream = acceptor.accept(socket).await.expect("a handshake");
            let kind = stream.get_ref().1.handshake_kind();
            seen.lock().expect("never poisoned").push(kind);
            tokio::spawn(answer_on(stream));
        }
    });
    let connector = secured(&trusting(&authority));
    for _ in 0..3 {
        let connected = connector.connect(&address, None).await.expect("ready");
        // Tickets come with the first answer at the latest.
        let request = connected.connection.send(call(b"secret"));
        let response = request.await.expect("begun");
        read(response, &Ends::default()).await.expect("whole");
    }
    let kinds = kinds.lock().expect("never poisoned").clone();
    assert_eq!(kinds, [Some(HandshakeKind::Full); 3]);
}

#[tokio::test]
async fn a_large_message_crosses_tls() {
    let authority = Authority::new();
    let address = serve(&authority.issue("greeter.test", |_| {}), &[b"h2"], None).await;
    let connected = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect("ready");
    let message = vec![7; 3 << 20];
    let response = connected
        .connection
        .send(call(&message))
        .await
        .expect("begun");
    let (body, _) = read(response, &Ends::default()).await.expect("whole");
    assert_eq!(body.len(), message.len() + 5);
}

#[tokio::test]
async fn the_name_must_fit() {
    let authority = Authority::new();
    let address = serve(&authority.issue("other.test", |_| {}), &[b"h2"], None).await;
    let status = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect_err("wrong");
    assert!(status.message().contains("not valid for name"), "{status}");

    let named = trusting(&authority).server_name("other.test");
    secured(&named)
        .connect(&address, None)
        .await
        .expect("the application says so");
    let connector = secured(&trusting(&authority));
    connector
        .connect(&address, Some("other.test"))
        .await
        .expect("the resolver says so");
}

#[tokio::test]
async fn an_ip_address_must_be_in_the_certificate() {
    let authority = Authority::new();
    let by_ip = serve(&authority.issue("127.0.0.1", |_| {}), &[b"h2"], None).await;
    let connector = secured(&trusting(&authority));
    connector
        .connect(&by_ip, Some("127.0.0.1"))
        .await
        .expect("named by its address");
    let by_name = serve(&authority.issue("greeter.test", |_| {}), &[b"h2"], None).await;
    connector
        .connect(&by_name, Some("127.0.0.1"))
        .await
        .expect_err("named otherwise");
}

#[tokio::test]
async fn strangers_are_refused() {
    let (authority, stranger) = (Authority::new(), Authority::named("theirs"));
    let address = serve(&stranger.issue("greeter.test", |_| {}), &[b"h2"], None).await;
    let status = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect_err("who?");
    assert!(status.message().contains("UnknownIssuer"), "{status}");
    assert!(!status.message().contains("BEGIN"), "{status}");
}

#[tokio::test]
async fn expired_certificates_are_refused() {
    let authority = Authority::new();
    let expired = authority.issue("greeter.test", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let address = serve(&expired, &[b"h2"], None).await;
    let status = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect_err("old");
    assert!(
        status.message().to_lowercase().contains("expired"),
        "{status}"
    );
}

#[tokio::test]
async fn http2_must_be_agreed_upon() {
    let authority = Authority::new();
    let identity = authority.issue("greeter.test", |_| {});
    let connector = secured(&trusting(&authority));
    let silent = serve(&identity, &[], None).await;
    let status = connector.connect(&silent, None).await.expect_err("no ALPN");
    assert!(status.message().contains("ALPN h2"), "{status}");
    let old = serve(&identity, &[b"http/1.1"], None).await;
    let status = connector
        .connect(&old, None)
        .await
        .expect_err("another protocol");
    assert!(
        status.message().contains("TLS handshake failed"),
        "{status}"
    );
}

#[tokio::test]
async fn a_plaintext_server_is_recognised() {
    let authority = Authority::new();
    let server = balancer_testpeer::Server::start(balancer_testpeer::faults::http1())
        .await
        .expect("a port");
    let address = server.addr().to_string();
    let status = secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect_err("plain");
    assert!(status.message().contains("does not speak TLS"), "{status}");
}

#[tokio::test]
async fn a_plaintext_client_is_no_match_for_a_tls_server() {
    let authority = Authority::new();
    let address = serve(&authority.issue("greeter.test", |_| {}), &[b"h2"], None).await;
    connector()
        .connect(&address, None)
        .await
        .expect_err("the server wants TLS");
}

#[tokio::test]
async fn clients_can_prove_themselves() {
    let authority = Authority::new();
    let address = serve(
        &authority.issue("greeter.test", |_| {}),
        &[b"h2"],
        Some(&authority),
    )
    .await;
    secured(&trusting(&authority))
        .connect(&address, None)
        .await
        .expect_err("who are you?");
    let me = authority.issue("client.test", |_| {});
    let proven = trusting(&authority).identity_pem(me.certificate.pem(), me.key.serialize_pem());
    secured(&proven)
        .connect(&address, None)
        .await
        .expect("known");
}

#[test]
fn a_configuration_must_make_sense() {
    let why = |config: TlsConfig| config.client().expect_err("must be refused").to_string();
    assert!(why(TlsConfig::new()).contains("no root certificates"));
    assert!(why(TlsConfig::new().ca_certificates_pem("")).contains("no root certificates"));
    let authority = Authority::new();
    assert!(why(trusting(&authority).server_name("not a name")).contains("server name"));
    assert!(why(trusting(&authority).identity_pem("", "")).contains("client certificate"));
    let me = authority.issue("client.test", |_| {});
    let half = trusting(&authority).identity_pem(me.certificate.pem(), "S3CR3T");
    assert!(!format!("{half:?}").contains("S3CR3T"));
    let message = why(half);
    assert!(
        message.contains("client key") && !message.contains("S3CR3T"),
        "{message}"
    );
}
