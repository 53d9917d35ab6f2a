//! Servers behind TLS on loopback.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{net::SocketAddr, sync::Arc};

use balancer_channel::TlsConfig;
use balancer_testpeer::{Backend, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Who issues the certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate, those that lead to a root, and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// A backend that proves its name.
pub(crate) struct Secured {
    pub(crate) server: Arc<Server>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("ours")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A configuration that trusts it.
    pub(crate) fn trusted(&self) -> TlsConfig {
        TlsConfig::new().ca_certificates_pem(self.0.pem())
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for somebody else's key.
    pub(crate) fn certify(
        &self,
        params: &CertificateParams,
        key: &impl rcgen::PublicKeyData,
    ) -> CertificateDer<'static> {
        let certificate = params.signed_by(key, &self.0).expect("a certificate");
        certificate.der().clone()
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key,
        }
    }
}

// === impl Identity ===

impl Identity {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

// === impl Secured ===

impl Secured {
    /// Starts `backend` behind a certificate for `name`.
    pub(crate) async fn start(authority: &Authority, name: &str, backend: Backend) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let identity = authority.issue(&params);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key())
            .expect("an identity");
        Self::start_with(config, &[b"h2"], backend).await
    }

    /// Starts `backend` behind TLS as configured, and speaks these protocols.
    pub(crate) async fn start_with(
        mut config: ServerConfig,
        alpn: &[&[u8]],
        backend: Backend,
    ) -> Self {
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let server = Arc::new(Server::in_memory(backend));
        let serving = server.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(socket).await {
                    serving.adopt(stream);
                }
            }
        });
        Self {
            server,
            addr,
            accepting,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
