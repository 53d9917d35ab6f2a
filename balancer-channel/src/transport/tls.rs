//! TLS: whom a channel trusts, and how it proves itself.

use std::{error::Error, fmt, io, sync::Arc};

use async_trait::async_trait;
use balancer_api::{AuthInfo, HandshakeError, Io, SecurityLevel, TransportCredentials};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
        client::{Resumption, WantsClientCert},
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::io::RawIo;

/// How a channel secures its connections with TLS.
///
/// TLS 1.2 or later, HTTP/2 by ALPN or no connection at all, no session resumption, no key log. The
/// server must prove the name that the channel's target gives, by a subject alternative name.
///
/// Roots must be chosen: a channel that trusts nobody cannot be built.
///
/// ```
/// use balancer_channel::TlsConfig;
/// # fn read(_: &str) -> Vec<u8> { Vec::new() }
/// let tls = TlsConfig::new()
///     .ca_certificates_pem(read("ca.pem"))
///     .identity_pem(read("client.pem"), read("client.key"))
///     .server_name("greeter.prod");
/// assert!(!format!("{tls:?}").contains("BEGIN"), "secrets are not printed");
/// ```
#[derive(Clone, Default)]
pub struct TlsConfig {
    platform_roots: bool,
    /// PEM texts.
    roots: Vec<Vec<u8>>,
    /// Certificate chain and key, as PEM texts.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

/// Why a [`TlsConfig`] cannot be used.
///
/// The message names the part that is wrong and never shows what is in it.
#[derive(Debug)]
pub struct TlsConfigError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// A [`TlsConfig`] that was found to be good.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    /// In place of the target's name.
    server_name: Option<ServerName<'static>>,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// No roots yet, no identity, and the target's name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts what the platform trusts.
    #[cfg(feature = "tls-platform-roots")]
    #[must_use]
    pub fn platform_roots(mut self) -> Self {
        self.platform_roots = true;
        self
    }

    /// Trusts the certificates in `pem`, besides those that were given before.
    #[must_use]
    pub fn ca_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Proves the client's identity: its certificate first, then those that lead to a root.
    #[must_use]
    pub fn identity_pem(
        mut self,
        certificates: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((certificates.into(), key.into()));
        self
    }

    /// The name (or IP address) that backends must prove, in place of the target's. What a policy connects
    /// to beside them ([`new_lookaside`](balancer_api::ClientConn::new_lookaside)) proves its own name.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Checks the parts and puts them together.
    pub(crate) fn client(&self) -> Result<TlsClient, TlsConfigError> {
        let provider = provider()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsConfigError::caused("the TLS provider cannot be used", error))?;
        let builder = self.with_roots(builder, provider)?;
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain = certificates_in(certificates, "the client certificate")?;
                if chain.is_empty() {
                    return Err(TlsConfigError::new(
                        "the client certificate: no certificate in it",
                    ));
                }
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| TlsConfigError::caused("the client key", error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsConfigError::caused("the client identity", error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        let server_name = match &self.server_name {
            None => None,
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|error| TlsConfigError::caused("the server name", error))?,
            ),
        };
        Ok(TlsClient {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    fn with_roots(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsVerifier>,
        provider: Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsConfigError> {
        let mut given = Vec::new();
        for pem in &self.roots {
            given.extend(certificates_in(pem, "the root certificates")?);
        }
        if self.platform_roots {
            return with_platform_roots(builder, given, provider);
        }
        if given.is_empty() {
            return Err(TlsConfigError::new(
                "no root certificates: nobody could be trusted",
            ));
        }
        let mut store = RootCertStore::empty();
        for certificate in given {
            store
                .add(certificate)
                .map_err(|error| TlsConfigError::caused("the root certificates", error))?;
        }
        Ok(builder.with_root_certificates(store))
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("platform_roots", &self.platform_roots)
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

// === impl TlsConfigError ===

impl TlsConfigError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    fn caused(what: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            message: format!("{what}: {source}"),
            source: Some(Box::new(source)),
        }
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TlsConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

// === impl TlsClient ===

impl TlsClient {
    /// For servers that are no backends: each must prove its own name.
    pub(crate) fn for_others(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            server_name: None,
        }
    }

    /// Runs the handshake with a server that must prove `host`, unless the configuration names
    /// another.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        io: RawIo,
    ) -> io::Result<(TlsStream<RawIo>, AuthInfo)> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            // The brackets of an IPv6 address belong to the URI.
            None => ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                .map_err(|error| invalid(format!("no name for TLS to check, {host:?}: {error}")))?,
        };
        let stream = self.connector.connect(name, io).await.map_err(with_hint)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(invalid(
                "the server did not agree to HTTP/2 (ALPN h2)".to_owned(),
            ));
        }
        Ok((
            stream,
            AuthInfo::new("tls", SecurityLevel::PrivacyAndIntegrity),
        ))
    }
}

/// As policies get it, for connections of their own.
#[async_trait]
impl TransportCredentials for TlsClient {
    async fn client_handshake(
        &self,
        authority: &str,
        io: Box<dyn Io>,
    ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError> {
        let secured = self.handshake(authority, RawIo::boxed(io)).await;
        let (stream, auth) =
            secured.map_err(|error| HandshakeError::new(error.to_string()).with_source(error))?;
        Ok((Box::new(stream.compat()), auth))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// What a server that does not speak TLS looks like from here.
fn with_hint(error: io::Error) -> io::Error {
    use tokio_rustls::rustls::{Error, InvalidMessage};
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )) => invalid(format!("{error} (the server does not speak TLS)")),
        Some(_) => invalid(format!("TLS handshake failed: {error}")),
        None => io::Error::new(error.kind(), format!("TLS handshake failed: {error}")),
    }
}

fn certificates_in(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsConfigError::caused(what, error))
}

#[cfg(feature = "tls-platform-roots")]
fn with_platform_roots(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsConfigError> {
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(given, provider)
        .map_err(|error| TlsConfigError::caused("the platform's roots", error))?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

#[cfg(not(feature = "tls-platform-roots"))]
fn with_platform_roots(
    _: ConfigBuilder<ClientConfig, WantsVerifier>,
    _: Vec<CertificateDer<'static>>,
    _: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsConfigError> {
    Err(TlsConfigError::new(
        "the feature `tls-platform-roots` is off",
    ))
}

#[cfg(feature = "tls-aws-lc")]
fn provider() -> Result<Arc<CryptoProvider>, TlsConfigError> {
    Ok(Arc::new(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
    ))
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
fn provider() -> Result<Arc<CryptoProvider>, TlsConfigError> {
    Ok(Arc::new(
        tokio_rustls::rustls::crypto::ring::default_provider(),
    ))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
fn provider() -> Result<Arc<CryptoProvider>, TlsConfigError> {
    Err(TlsConfigError::new(
        "no TLS provider: turn on the feature `tls-ring` or `tls-aws-lc`",
    ))
}
