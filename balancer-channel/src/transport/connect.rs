//! From an address to a connection that is ready for RPCs.

use std::{sync::Arc, time::Duration};

use balancer_api::{AuthInfo, Dialer, SecurityLevel, Status, TransportCredentials};
use balancer_channel_core::Connected;
use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{
    connection::{H2Connection, H2Options, Setup, Spawn, WeakConnection},
    dial::dial,
    io::{RawIo, TransportIo},
    line::Line,
    replay::ReplayBudget,
    shared::Lowercase,
    tls::TlsClient,
};
use crate::ledger::Count;

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    /// How byte streams are secured.
    pub(crate) security: Security,
    /// `None`: TCP and unix sockets.
    pub(crate) dialer: Option<Arc<dyn Dialer>>,
    /// How long TCP waits for an acknowledgement, where there is no dialer.
    pub(crate) user_timeout: Option<Duration>,
    /// The `:authority` of calls. Its host is what the server must prove by default.
    pub(crate) authority: Authority,
    /// The `user-agent` of requests that have none of their own.
    pub(crate) user_agent: HeaderValue,
    pub(crate) options: H2Options,
    /// What the channel's RPCs may remember of their bodies together.
    pub(crate) replay: Arc<ReplayBudget>,
    pub(crate) spawn: Spawn,
    /// The byte streams that are open.
    pub(crate) sockets: Count,
}

/// How byte streams are secured.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    Plaintext,
    Tls(TlsClient),
    /// The application's own.
    Custom(Arc<dyn TransportCredentials>),
}

// === impl Connector ===

impl Connector {
    /// As [`connect_in`](Self::connect_in), in a line of its own.
    #[cfg(test)]
    pub(crate) async fn connect(
        &self,
        address: &str,
        server_name: Option<&str>,
    ) -> Result<Connected<H2Connection>, Status> {
        let this = Arc::new(self.clone());
        this.connect_in(Arc::default(), address, server_name).await
    }

    /// Dials `address`, secures the stream, and makes it ready for RPCs, which wait in `line` where the
    /// peer allows no more. `server_name` is what the server must prove in place of the authority's host.
    ///
    /// # Errors
    /// UNAVAILABLE, with the address and what went wrong.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket; no task was started.
    pub(crate) async fn connect_in(
        self: Arc<Self>,
        line: Arc<Line<WeakConnection>>,
        address: &str,
        server_name: Option<&str>,
    ) -> Result<Connected<H2Connection>, Status> {
        let failed = |error: &dyn std::fmt::Display| {
            Status::unavailable(format!("{address}: {}", Lowercase(error)))
        };
        let raw = dial(address, self.dialer.as_deref(), self.user_timeout)
            .await
            .map_err(|error| failed(&error))?
            .counted(&self.sockets);
        let host = server_name.unwrap_or_else(|| self.authority.host());
        let (io, auth) = self
            .secure(raw, host)
            .await
            .map_err(|error| failed(&error))?;
        let setup = Setup {
            peer: address.into(),
            scheme: self.security.scheme(),
            auth,
            line,
            connector: self,
        };
        H2Connection::handshake(io, setup).await
    }

    async fn secure(
        &self,
        raw: RawIo,
        host: &str,
    ) -> Result<(TransportIo, AuthInfo), Box<dyn std::error::Error + Send + Sync>> {
        match &self.security {
            Security::Plaintext => Ok((
                TransportIo::Plain(raw),
                AuthInfo::new("plaintext", SecurityLevel::None),
            )),
            Security::Tls(tls) => {
                let (stream, auth) = tls.handshake(host, raw).await?;
                Ok((TransportIo::Tls(Box::new(stream)), auth))
            }
            Security::Custom(credentials) => {
                let io = Box::new(raw.compat());
                let (io, auth) = credentials.client_handshake(host, io).await?;
                Ok((TransportIo::Plain(RawIo::boxed(io)), auth))
            }
        }
    }
}

// === impl Security ===

impl Security {
    /// For servers that are no backends.
    pub(crate) fn for_others(&self) -> Self {
        match self {
            Self::Tls(client) => Self::Tls(client.for_others()),
            other => other.clone(),
        }
    }

    /// The `:scheme` of requests.
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Plaintext => Scheme::HTTP,
            Self::Tls(_) | Self::Custom(_) => Scheme::HTTPS,
        }
    }
}
