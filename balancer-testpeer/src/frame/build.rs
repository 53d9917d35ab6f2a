//! Ready-made frames. All are legal when their arguments are.

use super::{Frame, flag, kind};
use bytes::Bytes;

impl Frame {
    /// Body bytes; `end` half-closes the stream.
    pub fn data(stream: u32, bytes: impl Into<Bytes>, end: bool) -> Self {
        let flags = if end { flag::END_STREAM } else { 0 };
        Self {
            kind: kind::DATA,
            flags,
            stream,
            payload: bytes.into(),
        }
    }

    /// A complete header block; see [`hpack::encode`](crate::hpack::encode) for making one.
    pub fn headers(stream: u32, block: impl Into<Bytes>, end: bool) -> Self {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        Self {
            kind: kind::HEADERS,
            flags,
            stream,
            payload: block.into(),
        }
    }

    /// The first part of a header block; [`Frame::continuation`] must follow.
    pub fn headers_begin(stream: u32, block: impl Into<Bytes>, end: bool) -> Self {
        let flags = if end { flag::END_STREAM } else { 0 };
        Self {
            kind: kind::HEADERS,
            flags,
            stream,
            payload: block.into(),
        }
    }

    /// More of a header block.
    pub fn continuation(stream: u32, block: impl Into<Bytes>, end_headers: bool) -> Self {
        let flags = if end_headers { flag::END_HEADERS } else { 0 };
        Self {
            kind: kind::CONTINUATION,
            flags,
            stream,
            payload: block.into(),
        }
    }

    /// SETTINGS with these (parameter, value) pairs, legal or not.
    pub fn settings(values: &[(u16, u32)]) -> Self {
        let mut payload = Vec::with_capacity(values.len() * 6);
        for (id, value) in values {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// The acknowledgement of the other side's SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// A PING that asks for an answer.
    pub fn ping(opaque: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, opaque)
    }

    /// The answer to a PING.
    pub fn pong(opaque: impl AsRef<[u8]>) -> Self {
        Self::new(kind::PING, flag::ACK, 0, opaque)
    }

    /// GOAWAY: streams above `last` were not and will not be processed.
    pub fn goaway(last: u32, code: u32, debug: impl AsRef<[u8]>) -> Self {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(debug.as_ref());
        Self::new(kind::GOAWAY, 0, 0, payload)
    }

    /// RST_STREAM with any code.
    pub fn rst_stream(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// Opens a window; stream 0 is the connection's. An increment of 0 is illegal.
    pub fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
    }

    /// A PUSH_PROMISE, which no gRPC client allows.
    pub fn push_promise(stream: u32, promised: u32, block: impl AsRef<[u8]>) -> Self {
        let mut payload = promised.to_be_bytes().to_vec();
        payload.extend_from_slice(block.as_ref());
        Self::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, payload)
    }
}
