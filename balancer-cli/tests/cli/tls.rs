//! `balancer call --tls`.

use std::sync::Arc;

use super::support::run;
use balancer_testpeer::{Backend, Behaviour, Server};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
    },
};

/// An authority that nobody else trusts.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn written(pem: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), pem).expect("room for it");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("a path in UTF-8")
}

/// A good backend behind TLS.
async fn server(config: ServerConfig) -> Server {
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let behaviour = Behaviour::new(move |conn| {
        let acceptor = acceptor.clone();
        async move {
            let conn = conn.wrap(async |io| acceptor.accept(io).await).await?;
            Backend::new("a").serve(conn).await
        }
    });
    Server::start(behaviour).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_given_root_vouches_for_is_trusted() {
    let ca = Ca::new();
    let server = server(ca.server_config("127.0.0.1")).await;
    let address = server.addr().to_string();
    let ran = run(["call", &address, "--tls", "--ca", ca.file(), "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["backends"], json!({address: 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_prove_its_name() {
    let ca = Ca::new();
    let server = server(ca.server_config("greeter.test")).await;
    let address = server.addr().to_string();
    let call = ["call", &address, "--tls", "--ca", ca.file(), "--json"];
    let ran = run(call).await;
    assert_eq!(ran.code, 1, "must not be trusted as 127.0.0.1: {ran:?}");
    assert_eq!(ran.json()["codes"], json!({"UNAVAILABLE": 1}));

    let named = [&call[..], &["--server-name", "greeter.test"]].concat();
    let ran = run(named).await;
    assert_eq!(ran.code, 0, "must be trusted by its name: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_not_trusted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = server(ca.server_config("127.0.0.1")).await;
    let address = server.addr().to_string();
    let ran = run(["call", &address, "--tls", "--ca", other.file(), "--json"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let message = ran.json()["errors"][0]["message"].to_string();
    assert!(message.contains("TLS"), "must say what failed: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_prove_its_identity() {
    let ca = Ca::new();
    let server = server(ca.mutual_server_config("127.0.0.1")).await;
    let address = server.addr().to_string();
    let call = ["call", &address, "--tls", "--ca", ca.file(), "--json"];
    let ran = run(call).await;
    assert_eq!(
        ran.code, 1,
        "must be refused without a certificate: {ran:?}"
    );

    let client = ca.identity("client.test");
    let (cert, key) = (
        written(&client.certificate.pem()),
        written(&client.key.serialize_pem()),
    );
    let proven = [&call[..], &["--cert", path(&cert), "--key", path(&key)]].concat();
    let ran = run(proven).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn files_that_are_no_certificates_are_bad_usage() {
    let (empty, text) = (written(""), written("not a certificate"));
    let broken = written("-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----\n");
    for file in [&empty, &text, &broken] {
        let ran = run(["call", "127.0.0.1:1", "--tls", "--ca", path(file)]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("root certificates"), "{ran:?}");
    }
    let ca = Ca::new();
    let mut call = vec!["call", "127.0.0.1:1", "--tls", "--ca", ca.file()];
    call.extend(["--cert", ca.file(), "--key", path(&text)]);
    let ran = run(call).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains("client key"), "{ran:?}");
}

// === impl Ca ===

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = written(&issuer.pem());
        Self { issuer, file }
    }

    /// Its certificate's file.
    pub(crate) fn file(&self) -> &str {
        path(&self.file)
    }

    fn identity(&self, name: &str) -> Identity {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a signature");
        Identity { certificate, key }
    }

    fn server_config(&self, name: &str) -> ServerConfig {
        let identity = self.identity(name);
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.private_key())
            .expect("an identity")
    }

    fn mutual_server_config(&self, name: &str) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let identity = self.identity(name);
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(identity.chain(), identity.private_key())
            .expect("an identity")
    }
}

// === impl Identity ===

impl Identity {
    fn chain(&self) -> Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key in PKCS #8")
    }
}
