//! How connections are dialled and secured, as far as policies and applications see it.

use std::{error::Error, fmt, io, sync::Arc};

use async_trait::async_trait;

/// A byte stream, on the stable traits of `futures-io`. Implemented by everything that fits.
pub trait Io: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static {}

impl<T: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens byte streams to addresses, in place of the channel's own TCP.
///
/// # Cancel safety
/// A dial that takes too long is dropped; nothing may leak then.
///
/// ```
/// use balancer_api::{Dialer, Io};
/// use std::io;
///
/// struct Nowhere;
///
/// #[async_trait::async_trait]
/// impl Dialer for Nowhere {
///     async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
///         Err(io::Error::new(io::ErrorKind::NotFound, format!("no way to {addr}")))
///     }
/// }
/// ```
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Opens a stream to `addr`, the text of an [`Address`](crate::Address).
    ///
    /// # Errors
    /// The attempt fails with this error and the channel goes on with the next address.
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>>;
}

/// Secures a byte stream, in place of the channel's own TLS.
///
/// `Debug` must not show secrets: it is printed in logs.
///
/// # Cancel safety
/// A handshake that takes too long is dropped.
///
/// ```
/// use balancer_api::{AuthInfo, HandshakeError, Io, SecurityLevel, TransportCredentials};
///
/// /// For a network that is secure already.
/// #[derive(Debug)]
/// struct Trusted;
///
/// #[async_trait::async_trait]
/// impl TransportCredentials for Trusted {
///     async fn client_handshake(
///         &self,
///         _authority: &str,
///         io: Box<dyn Io>,
///     ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError> {
///         Ok((io, AuthInfo::new("trusted", SecurityLevel::PrivacyAndIntegrity)))
///     }
/// }
/// ```
#[async_trait]
pub trait TransportCredentials: Send + Sync + fmt::Debug {
    /// Runs the handshake on a fresh stream. `authority` is the name that the peer must prove.
    ///
    /// # Errors
    /// The attempt fails with this error and the channel goes on with the next address.
    async fn client_handshake(
        &self,
        authority: &str,
        io: Box<dyn Io>,
    ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError>;
}

/// What a handshake established.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthInfo {
    /// The mechanism, such as `tls`.
    pub protocol: Arc<str>,
    /// How well the stream is protected. Call credentials need privacy and integrity.
    pub security_level: SecurityLevel,
}

/// How well a connection is protected, weakest first.
///
/// ```
/// use balancer_api::SecurityLevel;
/// assert!(SecurityLevel::None < SecurityLevel::PrivacyAndIntegrity);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityLevel {
    /// Plaintext.
    None,
    /// Authenticated but readable.
    IntegrityOnly,
    /// Authenticated and encrypted.
    PrivacyAndIntegrity,
}

/// Why a handshake failed.
///
/// ```
/// use balancer_api::HandshakeError;
/// assert_eq!(HandshakeError::new("certificate expired").to_string(), "certificate expired");
/// ```
#[derive(Debug)]
pub struct HandshakeError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

// === impl AuthInfo ===

impl AuthInfo {
    /// A handshake of `protocol` that protects as `security_level` says.
    pub fn new(protocol: impl Into<Arc<str>>, security_level: SecurityLevel) -> Self {
        Self {
            protocol: protocol.into(),
            security_level,
        }
    }
}

// === impl HandshakeError ===

impl HandshakeError {
    /// An error with a message for people, without secrets.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
