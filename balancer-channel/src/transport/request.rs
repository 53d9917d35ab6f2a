//! A request that can be sent again.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use http_body::Body as _;
use smallvec::SmallVec;

/// An RPC to send: head and body.
#[derive(Debug)]
pub(crate) struct RpcRequest {
    /// The URI is absolute: scheme and authority are the channel's.
    pub(crate) head: http::Request<()>,
    /// The messages, already framed.
    pub(crate) body: ReplayBody,
}

/// A request body that remembers what was pulled from it, so that it can be sent once more.
///
/// It remembers up to a limit; beyond that the request is *committed*: it cannot be sent again.
pub(crate) struct ReplayBody {
    body: tonic::body::Body,
    /// What was pulled, from the start; chunks share their bytes with the transport.
    pulled: SmallVec<[Bytes; 2]>,
    pulled_bytes: usize,
    /// The next of `pulled` to give out again.
    next: usize,
    limit: usize,
    ended: bool,
    committed: bool,
}

/// A request's head, kept while the transport has the original.
///
/// Names and values share their bytes with the original; a `HeaderMap` would be two allocations.
#[derive(Debug)]
pub(super) struct KeptHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: SmallVec<[(HeaderName, HeaderValue); 6]>,
    extensions: Extensions,
}

// === impl RpcRequest ===

impl RpcRequest {
    /// A request whose body is remembered up to [`ReplayBody::DEFAULT_LIMIT`].
    pub(crate) fn new(head: http::Request<()>, body: tonic::body::Body) -> Self {
        Self {
            head,
            body: ReplayBody::new(body, ReplayBody::DEFAULT_LIMIT),
        }
    }
}

// === impl ReplayBody ===

impl ReplayBody {
    /// As in gRPC-Go.
    pub(crate) const DEFAULT_LIMIT: usize = 256 * 1024;

    /// Remembers up to `limit` bytes of `body`.
    pub(crate) fn new(body: tonic::body::Body, limit: usize) -> Self {
        Self {
            body,
            pulled: SmallVec::new(),
            pulled_bytes: 0,
            next: 0,
            limit,
            ended: false,
            committed: false,
        }
    }

    /// Remembers up to `limit` bytes instead.
    #[must_use]
    pub(crate) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether it is too late to send the body from its start again.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Remembers nothing from here on.
    pub(super) fn commit(&mut self) {
        self.committed = true;
        self.pulled.drain(..self.next);
        self.next = 0;
    }

    /// The body will be pulled from its start again.
    pub(super) fn rewind(&mut self) {
        debug_assert!(!self.committed, "a committed body cannot be sent again");
        self.next = 0;
    }

    /// The next chunk; never an empty one.
    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, tonic::Status>>> {
        if let Some(chunk) = self.pulled.get_mut(self.next) {
            self.next += 1;
            let chunk = if self.committed {
                std::mem::take(chunk)
            } else {
                chunk.clone()
            };
            return Poll::Ready(Some(Ok(chunk)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                // Requests of gRPC have no trailers.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) if !chunk.is_empty() => {
                        self.remember(&chunk);
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    _ => {}
                },
                Some(Err(status)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
                None => self.ended = true,
            }
        }
    }

    fn remember(&mut self, chunk: &Bytes) {
        if self.committed {
            return;
        }
        self.pulled_bytes += chunk.len();
        if self.pulled_bytes > self.limit {
            self.committed = true;
            self.pulled = SmallVec::new();
            self.next = 0;
        } else {
            self.pulled.push(chunk.clone());
            self.next += 1;
        }
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages may be secrets.
        f.debug_struct("ReplayBody")
            .field("pulled_bytes", &self.pulled_bytes)
            .field("ended", &self.ended)
            .field("committed", &self.committed)
            .finish_non_exhaustive()
    }
}

// === impl KeptHead ===

impl KeptHead {
    /// Keeps what is needed of `head`, and takes its extensions, which are not for the transport.
    pub(super) fn of(head: &mut http::Request<()>) -> Self {
        Self {
            method: head.method().clone(),
            uri: head.uri().clone(),
            version: head.version(),
            headers: head
                .headers()
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            extensions: std::mem::take(head.extensions_mut()),
        }
    }

    pub(super) fn restore(self) -> http::Request<()> {
        let mut head = http::Request::new(());
        *head.method_mut() = self.method;
        *head.uri_mut() = self.uri;
        *head.version_mut() = self.version;
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        *head.headers_mut() = headers;
        *head.extensions_mut() = self.extensions;
        head
    }
}
