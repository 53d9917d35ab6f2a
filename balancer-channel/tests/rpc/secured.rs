//! Servers behind TLS on loopback.

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
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Who issues the certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A backend that proves its name.
pub(crate) struct Secured {
    pub(crate) server: Arc<Server>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "ours");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A configuration that trusts it.
    pub(crate) fn trusted(&self) -> TlsConfig {
        TlsConfig::new().ca_certificates_pem(self.0.pem())
    }
}

// === impl Secured ===

impl Secured {
    /// Starts `backend` behind a certificate for `name`.
    pub(crate) async fn start(authority: &Authority, name: &str, backend: Backend) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority.0).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("an identity");
        config.alpn_protocols = vec![b"h2".to_vec()];
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
