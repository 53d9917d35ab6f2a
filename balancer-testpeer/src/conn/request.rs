//! Calls: whole requests, put together from events.

use super::{Conn, Event};
use crate::{Headers, PeerError, grpc};
use bytes::{Bytes, BytesMut};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The stream to answer on.
    pub stream: u32,
    /// Its headers, pseudo-headers first.
    pub headers: Headers,
    /// Whether there is no body at all.
    pub end_stream: bool,
    /// The whole body if [`Conn::next_call`] waited for it, gRPC prefixes and all.
    pub body: Bytes,
}

/// The part of a stream that came while the test was looking elsewhere.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    body: BytesMut,
    ended: bool,
    reset: Option<u32>,
}

// === impl Request ===

impl Request {
    /// The method, as `/package.Service/Method`.
    pub fn path(&self) -> &str {
        self.headers.get(":path").unwrap_or_default()
    }

    /// One header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The first gRPC message of the body.
    pub fn message(&self) -> Option<Bytes> {
        grpc::take_message(&mut BytesMut::from(&self.body[..]))
    }
}

// === impl Conn ===

impl Conn {
    /// Sends our SETTINGS, reads the client's preface and SETTINGS, and acknowledges them.
    ///
    /// Returns the client's SETTINGS. The client's acknowledgement is not waited for.
    ///
    /// # Errors
    /// The client sent something else, closed, or the socket failed.
    pub async fn handshake(&mut self) -> Result<Vec<(u16, u32)>, PeerError> {
        self.handshake_with(&[]).await
    }

    /// As [`handshake`](Self::handshake), with SETTINGS of the test's choice, legal or not.
    ///
    /// # Errors
    /// As for [`handshake`](Self::handshake).
    pub async fn handshake_with(
        &mut self,
        settings: &[(u16, u32)],
    ) -> Result<Vec<(u16, u32)>, PeerError> {
        self.send(crate::frame::Frame::settings(settings)).await?;
        self.expect_settings().await
    }

    /// The next request, as soon as its headers are here.
    ///
    /// # Errors
    /// The client closed, or anything [`next_event`](Self::next_event) reports.
    pub async fn next_request(&mut self) -> Result<Request, PeerError> {
        if let Some(request) = self.requests.pop_front() {
            return Ok(request);
        }
        self.expect("a request", |event| match event {
            Event::Request(request) => Ok(request),
            other => Err(other),
        })
        .await
    }

    /// The next request, when all of its body is here: what a unary handler waits for.
    ///
    /// # Errors
    /// As for [`next_request`](Self::next_request) and [`body`](Self::body).
    pub async fn next_call(&mut self) -> Result<Request, PeerError> {
        let mut request = self.next_request().await?;
        if !request.end_stream {
            request.body = self.body(request.stream).await?;
        }
        Ok(request)
    }

    /// The whole body of `stream`, when the client has half-closed it.
    ///
    /// # Errors
    /// The client reset the stream or closed first.
    pub async fn body(&mut self, stream: u32) -> Result<Bytes, PeerError> {
        loop {
            let inbound = self.inbound.entry(stream).or_default();
            inbound.check(stream)?;
            if inbound.ended {
                let body = self.inbound.remove(&stream).unwrap_or_default().body;
                return Ok(body.freeze());
            }
            self.stash_next("the rest of a request body").await?;
        }
    }

    /// The next gRPC message on `stream`; `None` when the client has half-closed it.
    ///
    /// # Errors
    /// The client reset the stream or closed first.
    pub async fn message(&mut self, stream: u32) -> Result<Option<Bytes>, PeerError> {
        loop {
            let inbound = self.inbound.entry(stream).or_default();
            inbound.check(stream)?;
            if let Some(message) = grpc::take_message(&mut inbound.body) {
                return Ok(Some(message));
            }
            if inbound.ended {
                self.inbound.remove(&stream);
                return Ok(None);
            }
            self.stash_next("a gRPC message").await?;
        }
    }

    /// Waits for anything and keeps it for whoever asks for it by name.
    pub(super) async fn stash_next(&mut self, wanted: &str) -> Result<(), PeerError> {
        let event = self
            .search(wanted, |event| match event {
                Event::Closed => Err(event),
                event => Ok(event),
            })
            .await?;
        self.stash(event);
        Ok(())
    }

    /// Keeps what belongs to a request; forgets what does not.
    pub(super) fn stash(&mut self, event: Event) {
        match event {
            Event::Request(request) => {
                self.inbound.entry(request.stream).or_default().ended = request.end_stream;
                self.requests.push_back(request);
            }
            Event::Data { stream, bytes, end } => {
                let inbound = self.inbound.entry(stream).or_default();
                inbound.body.extend_from_slice(&bytes);
                inbound.ended |= end;
            }
            Event::Trailers { stream, .. } => self.inbound.entry(stream).or_default().ended = true,
            Event::Reset { stream, code } => {
                self.inbound.entry(stream).or_default().reset = Some(code);
                self.pass_by(Event::Reset { stream, code });
            }
            // Too many, and of no interest to a test that waits for something.
            Event::WindowUpdate { .. } | Event::Closed => {}
            other => self.pass_by(other),
        }
    }

    fn pass_by(&mut self, event: Event) {
        if self.passed.len() == super::KEPT {
            self.passed.pop_front();
        }
        self.passed.push_back(event);
    }
}

// === impl Inbound ===

impl Inbound {
    fn check(&self, stream: u32) -> Result<(), PeerError> {
        self.reset.map_or(Ok(()), |code| {
            Err(PeerError::Unexpected {
                wanted: format!("the body of stream {stream}"),
                got: format!("RST_STREAM with code {code}"),
            })
        })
    }
}
