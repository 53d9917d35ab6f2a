//! What a received frame says. Each reader is `None` for another type or a malformed payload.

use super::{Frame, flag, kind};
use bytes::Bytes;

/// What a GOAWAY says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The last stream that was or may be processed.
    pub last: u32,
    /// The error code; see [`code`](super::code).
    pub code: u32,
    /// Bytes for humans.
    pub debug: Bytes,
}

impl Frame {
    /// The parameters of a SETTINGS frame that is not an acknowledgement.
    pub fn as_settings(&self) -> Option<Vec<(u16, u32)>> {
        let good = self.kind == kind::SETTINGS
            && !self.has(flag::ACK)
            && self.payload.len().is_multiple_of(6);
        good.then(|| {
            let pair = |c: &[u8]| {
                (
                    u16::from_be_bytes([c[0], c[1]]),
                    u32::from_be_bytes([c[2], c[3], c[4], c[5]]),
                )
            };
            self.payload.chunks_exact(6).map(pair).collect()
        })
    }

    /// Whether this acknowledges our SETTINGS.
    pub fn is_settings_ack(&self) -> bool {
        self.kind == kind::SETTINGS && self.has(flag::ACK)
    }

    /// The opaque octets of a PING that asks for an answer.
    pub fn as_ping(&self) -> Option<[u8; 8]> {
        let asks = self.kind == kind::PING && !self.has(flag::ACK);
        asks.then(|| self.payload[..].try_into().ok()).flatten()
    }

    /// The opaque octets of an answered PING.
    pub fn as_pong(&self) -> Option<[u8; 8]> {
        let answers = self.kind == kind::PING && self.has(flag::ACK);
        answers.then(|| self.payload[..].try_into().ok()).flatten()
    }

    /// The contents of a GOAWAY.
    pub fn as_goaway(&self) -> Option<GoAway> {
        if self.kind != kind::GOAWAY {
            return None;
        }
        let last = self.be32(0)? & 0x7fff_ffff;
        Some(GoAway {
            last,
            code: self.be32(4)?,
            debug: self.payload.slice(8..),
        })
    }

    /// The code of a RST_STREAM.
    pub fn as_rst_stream(&self) -> Option<u32> {
        (self.kind == kind::RST_STREAM)
            .then(|| self.be32(0))
            .flatten()
    }

    /// The increment of a WINDOW_UPDATE.
    pub fn as_window_update(&self) -> Option<u32> {
        (self.kind == kind::WINDOW_UPDATE)
            .then(|| self.be32(0).map(|n| n & 0x7fff_ffff))
            .flatten()
    }

    /// The bytes of a DATA frame, without padding.
    pub fn as_data(&self) -> Option<Bytes> {
        (self.kind == kind::DATA)
            .then(|| self.without_padding())
            .flatten()
    }

    /// The piece of header block in a HEADERS or CONTINUATION frame.
    pub fn as_header_block(&self) -> Option<Bytes> {
        match self.kind {
            kind::CONTINUATION => Some(self.payload.clone()),
            kind::HEADERS => {
                let rest = self.without_padding()?;
                let skip = if self.has(flag::PRIORITY) { 5 } else { 0 };
                (rest.len() >= skip).then(|| rest.slice(skip..))
            }
            _ => None,
        }
    }

    fn without_padding(&self) -> Option<Bytes> {
        if !self.has(flag::PADDED) {
            return Some(self.payload.clone());
        }
        let padding = usize::from(*self.payload.first()?);
        let end = self.payload.len().checked_sub(padding)?;
        (end >= 1).then(|| self.payload.slice(1..end))
    }

    fn be32(&self, at: usize) -> Option<u32> {
        let octets = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(octets.try_into().ok()?))
    }
}
