//! A request that can be sent again.

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::replay::ReplayBody;

/// An RPC to send: head and body.
///
/// It stays where it is while it is sent, and is whole again when an attempt hands it back: moving
/// it is not free.
#[derive(Debug)]
pub(crate) struct RpcRequest {
    /// The URI is absolute: scheme and authority are the channel's.
    pub(crate) head: http::Request<()>,
    /// The messages, already framed.
    pub(crate) body: ReplayBody,
}

/// A request's headers, kept while the transport has the originals.
///
/// Names and values share their bytes with them; a `HeaderMap` would be two allocations.
#[derive(Debug)]
pub(super) struct KeptHeaders(SmallVec<[(HeaderName, HeaderValue); 4]>);

// === impl RpcRequest ===

impl RpcRequest {
    /// A request whose body is remembered up to [`ReplayBody::DEFAULT_LIMIT`].
    pub(crate) fn new(head: http::Request<()>, body: tonic::body::Body) -> Self {
        Self {
            head,
            body: ReplayBody::new(body, ReplayBody::DEFAULT_LIMIT),
        }
    }

    /// What the transport sends, and what is kept of it. Extensions are not for the transport.
    pub(super) fn lend_head(&mut self) -> (http::Request<()>, KeptHeaders) {
        let headers = std::mem::take(self.head.headers_mut());
        let kept = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut lent = http::Request::new(());
        *lent.method_mut() = self.head.method().clone();
        *lent.uri_mut() = self.head.uri().clone();
        *lent.version_mut() = self.head.version();
        *lent.headers_mut() = headers;
        (lent, KeptHeaders(kept))
    }

    /// The head is whole again.
    pub(super) fn take_back(&mut self, kept: KeptHeaders) {
        let mut headers = HeaderMap::with_capacity(kept.0.len());
        for (name, value) in kept.0 {
            headers.append(name, value);
        }
        *self.head.headers_mut() = headers;
    }
}
