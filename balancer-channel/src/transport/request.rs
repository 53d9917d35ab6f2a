//! A request that can be sent again.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version, header,
    uri::{self, PathAndQuery},
};

use super::{connection::Setup, replay::ReplayBody};

/// An RPC to send: head and body.
///
/// It stays where it is while it is sent, and is whole again when an attempt hands it back: moving
/// it is not free.
#[derive(Debug)]
pub(crate) struct RpcRequest {
    /// Of its URI the path is sent; scheme and authority are the channel's.
    pub(crate) head: http::Request<()>,
    /// The messages, already framed.
    pub(crate) body: ReplayBody,
}

/// A request's headers, kept while the transport has the originals.
///
/// Names and values share their bytes with them; a `HeaderMap` would be two allocations. What every
/// request says in the same words is not kept at all, so that most RPCs keep nothing.
#[derive(Debug)]
pub(super) struct KeptHeaders {
    te: bool,
    content_type: bool,
    /// Whether the request has one of its own, which is among the others.
    user_agent: bool,
    others: Vec<(HeaderName, HeaderValue)>,
}

const TE: HeaderValue = HeaderValue::from_static("trailers");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

// === impl RpcRequest ===

impl RpcRequest {
    /// A request whose body is remembered up to [`ReplayBody::DEFAULT_LIMIT`].
    #[inline]
    pub(crate) fn new(head: http::Request<()>, body: tonic::body::Body) -> Self {
        Self {
            head,
            body: ReplayBody::new(body, ReplayBody::DEFAULT_LIMIT),
        }
    }

    /// What the transport sends, and what is kept of it. Extensions are not for the transport; scheme
    /// and authority are its own, and so is, unless the request names one, the user agent.
    #[inline]
    pub(super) fn lend_head(&mut self, setup: &Setup) -> (http::Request<()>, KeptHeaders) {
        let mut headers = std::mem::take(self.head.headers_mut());
        let kept = KeptHeaders::of(&headers);
        if !kept.user_agent {
            headers.append(header::USER_AGENT, setup.user_agent().clone());
        }
        let mut lent = http::Request::new(());
        *lent.method_mut() = self.head.method().clone();
        let path = self.head.uri().path_and_query().cloned();
        let mut uri = uri::Parts::default();
        uri.scheme = Some(setup.scheme.clone());
        uri.authority = Some(setup.authority().clone());
        uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // Parts that are all there make a URI.
        if let Ok(uri) = Uri::from_parts(uri) {
            *lent.uri_mut() = uri;
        }
        *lent.version_mut() = Version::HTTP_2;
        *lent.headers_mut() = headers;
        (lent, kept)
    }

    /// The head is whole again.
    pub(super) fn take_back(&mut self, kept: KeptHeaders) {
        let mut headers = HeaderMap::with_capacity(kept.others.len() + 2);
        if kept.te {
            headers.append(header::TE, TE);
        }
        if kept.content_type {
            headers.append(header::CONTENT_TYPE, CONTENT_TYPE);
        }
        for (name, value) in kept.others {
            headers.append(name, value);
        }
        *self.head.headers_mut() = headers;
    }
}

// === impl KeptHeaders ===

impl KeptHeaders {
    #[inline]
    fn of(headers: &HeaderMap) -> Self {
        let mut kept = Self {
            te: false,
            content_type: false,
            user_agent: false,
            others: Vec::new(),
        };
        for (name, value) in headers {
            if *name == header::TE && value.as_bytes() == b"trailers" && !kept.te {
                kept.te = true;
            } else if *name == header::CONTENT_TYPE
                && value.as_bytes() == b"application/grpc"
                && !kept.content_type
            {
                kept.content_type = true;
            } else {
                kept.user_agent |= *name == header::USER_AGENT;
                if kept.others.capacity() == 0 {
                    kept.others.reserve(headers.len());
                }
                kept.others.push((name.clone(), value.clone()));
            }
        }
        kept
    }
}
