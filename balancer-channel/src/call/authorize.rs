//! Call credentials, on their way into an RPC.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use balancer_api::SecurityLevel;
use balancer_channel_core::BoxFuture;
use http::{HeaderMap, HeaderName, header};

use crate::{
    credentials::{CallCredentials, CallInfo, PerCallCredentials},
    transport::{H2Connection, from_tonic, to_tonic},
};

/// Fetches the credentials of an RPC that goes to a connection.
pub(super) struct Authorize {
    connection: H2Connection,
    metadata: BoxFuture<Result<HeaderMap, tonic::Status>>,
}

// === impl Authorize ===

impl Authorize {
    /// `None`: neither the channel, whose credentials are `channel`, nor the RPC has any.
    ///
    /// # Errors
    /// UNAUTHENTICATED: the connection is not encrypted. Nothing is fetched then.
    #[inline]
    pub(super) fn start(
        channel: &Option<Arc<dyn CallCredentials>>,
        head: &http::Request<()>,
        connection: &H2Connection,
    ) -> Option<Result<Self, tonic::Status>> {
        let call = head.extensions().get::<PerCallCredentials>();
        if channel.is_none() && call.is_none() {
            return None;
        }
        let call = call.map(|call| call.0.clone());
        let credentials = channel.iter().cloned().chain(call).collect();
        Some(Self::fetch(credentials, head, connection))
    }

    #[cold]
    fn fetch(
        credentials: Vec<Arc<dyn CallCredentials>>,
        head: &http::Request<()>,
        connection: &H2Connection,
    ) -> Result<Self, tonic::Status> {
        if connection.auth().security_level < SecurityLevel::PrivacyAndIntegrity {
            return Err(tonic::Status::unauthenticated(format!(
                "call credentials are sent over encrypted connections only, and the one to {} is \
                 not ({})",
                connection.peer(),
                connection.auth().protocol
            )));
        }
        let info = CallInfo {
            path: head.uri().path().to_owned(),
            authority: connection.setup().authority().to_string(),
        };
        let metadata = Box::pin(async move {
            let mut all = HeaderMap::new();
            for credentials in credentials {
                let fetched = credentials.metadata(&info).await.map_err(|status| {
                    to_tonic(&from_tonic(&status).restricted_to_control_plane())
                })?;
                let mut last = None;
                for (name, mut value) in fetched.into_headers() {
                    last = name.or(last);
                    let Some(name) = last.clone().filter(|name| !is_reserved(name)) else {
                        continue;
                    };
                    value.set_sensitive(true);
                    all.append(name, value);
                }
            }
            Ok(all)
        });
        Ok(Self {
            connection: connection.clone(),
            metadata,
        })
    }

    /// Ready with the metadata, and with where it goes.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(HeaderMap, H2Connection), tonic::Status>> {
        self.metadata
            .as_mut()
            .poll(cx)
            .map(|fetched| Ok((fetched?, self.connection.clone())))
    }
}

/// Whether only the protocol sets it.
fn is_reserved(name: &HeaderName) -> bool {
    [header::TE, header::CONTENT_TYPE, header::USER_AGENT].contains(name)
        || name.as_str().starts_with("grpc-")
}
