//! HTTP/2 frames, written and read by hand: nine octets of header, then whatever the test wants.
//!
//! Nothing here checks that a frame is legal. A [`Frame`] with a nonsense kind, length or stream
//! is as easy to make as a good one, because most tests want the nonsense.

mod build;
pub mod code;
mod read;

pub use read::GoAway;

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// What every HTTP/2 client sends before its first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets in a frame's header.
pub const HEADER_LEN: usize = 9;

/// Frame types (RFC 9113, section 6).
pub mod kind {
    /// Body bytes.
    pub const DATA: u8 = 0x0;
    /// Opens a stream, or ends it with trailers.
    pub const HEADERS: u8 = 0x1;
    /// Deprecated, ignored by everybody.
    pub const PRIORITY: u8 = 0x2;
    /// Ends one stream at once.
    pub const RST_STREAM: u8 = 0x3;
    /// Connection parameters and their acknowledgement.
    pub const SETTINGS: u8 = 0x4;
    /// A promise that a gRPC client never asked for.
    pub const PUSH_PROMISE: u8 = 0x5;
    /// Liveness.
    pub const PING: u8 = 0x6;
    /// No new streams.
    pub const GOAWAY: u8 = 0x7;
    /// Opens a flow-control window.
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// The rest of a header block.
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags. One bit can mean different things in different frames.
pub mod flag {
    /// The sender's last frame on the stream (DATA, HEADERS).
    pub const END_STREAM: u8 = 0x1;
    /// An acknowledgement (SETTINGS, PING).
    pub const ACK: u8 = 0x1;
    /// The header block is complete (HEADERS, PUSH_PROMISE, CONTINUATION).
    pub const END_HEADERS: u8 = 0x4;
    /// A padding length precedes the payload (DATA, HEADERS, PUSH_PROMISE).
    pub const PADDED: u8 = 0x8;
    /// Five octets of priority precede the header block (HEADERS).
    pub const PRIORITY: u8 = 0x20;
}

/// SETTINGS parameters (RFC 9113, section 6.5.2).
pub mod setting {
    /// Size of the HPACK table the sender's decoder keeps.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// Whether the other side may push: 0 or 1.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// Streams the other side may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// Initial window of each stream; at most 2³¹−1.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// Longest frame payload; from 2¹⁴ to 2²⁴−1.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// Longest header list, as advice.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// One frame: what its header says and what follows.
///
/// ```
/// use balancer_testpeer::frame::{Frame, kind};
///
/// let ping = Frame::new(kind::PING, 0, 0, *b"whoareyo");
/// assert_eq!(ping.encode()[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type octet; see [`kind`].
    pub kind: u8,
    /// The flags octet; see [`flag`].
    pub flags: u8,
    /// The stream identifier, without the reserved bit. 0 is the connection.
    pub stream: u32,
    /// Everything after the header.
    pub payload: Bytes,
}

// === impl Frame ===

impl Frame {
    /// A frame of any type, with any payload.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        let payload = Bytes::copy_from_slice(payload.as_ref());
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    /// Takes one whole frame off the front of `bytes`, or leaves them alone if more must come.
    pub fn decode(bytes: &mut BytesMut) -> Option<Self> {
        let mut whole = bytes.split_to(Self::whole_len(bytes)?);
        let payload = whole.split_off(HEADER_LEN).freeze();
        let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]) & 0x7fff_ffff;
        Some(Self {
            kind: whole[3],
            flags: whole[4],
            stream,
            payload,
        })
    }

    /// How long the frame at the front is with its header, if all of it is there.
    pub(crate) fn whole_len(octets: &[u8]) -> Option<usize> {
        let head = octets.get(..HEADER_LEN)?;
        let len = HEADER_LEN + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        (octets.len() >= len).then_some(len)
    }

    /// Appends the frame to `out`, with the length its payload has.
    ///
    /// # Panics
    /// If the payload is 2²⁴ octets or longer: its length cannot be written.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        assert!(
            len < 1 << 24,
            "a frame payload must be shorter than 2^24 octets, this is {len}"
        );
        out.reserve(HEADER_LEN + self.payload.len());
        out.put_uint(u64::from(len), 3);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u32(self.stream);
        out.put_slice(&self.payload);
    }

    /// The frame's octets. Edit them to lie about the length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        self.encode_into(&mut out);
        out.to_vec()
    }

    /// Whether every bit of `flag` is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }

    /// The type's name, for messages.
    pub fn name(&self) -> &'static str {
        match self.kind {
            kind::DATA => "DATA",
            kind::HEADERS => "HEADERS",
            kind::PRIORITY => "PRIORITY",
            kind::RST_STREAM => "RST_STREAM",
            kind::SETTINGS => "SETTINGS",
            kind::PUSH_PROMISE => "PUSH_PROMISE",
            kind::PING => "PING",
            kind::GOAWAY => "GOAWAY",
            kind::WINDOW_UPDATE => "WINDOW_UPDATE",
            kind::CONTINUATION => "CONTINUATION",
            _ => "UNKNOWN",
        }
    }
}

impl fmt::Debug for Frame {
    /// One line, with at most 32 octets of payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, len) = (self.name(), self.payload.len());
        write!(
            f,
            "{name}(stream {}, flags {:#04x}, {len} octets",
            self.stream, self.flags
        )?;
        if len > 0 {
            let shown = &self.payload[..len.min(32)];
            let dots = if len > 32 { "…" } else { "" };
            write!(f, ": {}{dots}", shown.escape_ascii())?;
        }
        write!(f, ")")
    }
}
