//! More of something than anybody should take.

use crate::{
    Behaviour, Conn, PeerError,
    frame::{Frame, flag, kind, setting},
    hpack,
};
use bytes::{Bytes, BytesMut};

/// Frames that go out in one write.
const BATCH: usize = 256;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flood {
    /// SETTINGS, each of which asks for an acknowledgement.
    Settings,
    /// SETTINGS acknowledgements that nobody asked for.
    SettingsAck,
    /// PINGs, each of which asks for an answer.
    Ping,
    /// WINDOW_UPDATE on the connection, one octet at a time.
    WindowUpdate,
    /// Empty DATA on the first request's stream, after response headers.
    EmptyData,
    /// CONTINUATION frames of a header block on the first request's stream that never ends.
    Continuation,
    /// Empty CONTINUATION frames: no octet to count, no end.
    EmptyContinuation,
    /// RST_STREAM for the first request's stream, again and again.
    Reset,
    /// Frames of a type nobody knows.
    Unknown,
    /// PUSH_PROMISE on the first request's stream.
    PushPromise,
    /// Informational responses on the first request's stream.
    Informational,
}

impl Flood {
    /// Every kind there is: the rows of a test.
    pub const ALL: [Self; 11] = [
        Self::Settings,
        Self::SettingsAck,
        Self::Ping,
        Self::WindowUpdate,
        Self::EmptyData,
        Self::Continuation,
        Self::EmptyContinuation,
        Self::Reset,
        Self::Unknown,
        Self::PushPromise,
        Self::Informational,
    ];

    fn needs_request(self) -> bool {
        !matches!(
            self,
            Self::Settings | Self::SettingsAck | Self::Ping | Self::WindowUpdate | Self::Unknown
        )
    }

    /// What comes once, before the flood.
    fn opening(self, stream: u32) -> Option<Frame> {
        let headers = hpack::encode([(":status", "200"), ("content-type", "application/grpc")]);
        match self {
            Self::EmptyData => Some(Frame::headers(stream, headers, false)),
            Self::Continuation | Self::EmptyContinuation => {
                Some(Frame::headers_begin(stream, headers, false))
            }
            _ => None,
        }
    }

    fn frame(self, stream: u32, nth: u32) -> Frame {
        match self {
            Self::Settings => Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)]),
            Self::SettingsAck => Frame::settings_ack(),
            Self::Ping => Frame::ping(u64::from(nth).to_be_bytes()),
            Self::WindowUpdate => Frame::window_update(0, 1),
            Self::EmptyData => Frame::data(stream, "", false),
            Self::Continuation => {
                let name = format!("x-{nth}");
                Frame::continuation(stream, hpack::encode([(name, [b'v'; 1000])]), false)
            }
            Self::EmptyContinuation => Frame::continuation(stream, "", false),
            Self::Reset => Frame::rst_stream(stream, crate::frame::code::CANCEL),
            Self::Unknown => Frame::new(0xfe, 0, 0, [0; 64]),
            Self::PushPromise => {
                let block = hpack::encode([
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "pushed"),
                    (":path", "/"),
                ]);
                Frame::push_promise(stream, (nth.wrapping_mul(2) & 0x7fff_fffe).max(2), block)
            }
            Self::Informational => {
                Frame::headers(stream, hpack::encode([(":status", "103")]), false)
            }
        }
    }
}

/// Floods the client until it closes, or until `limit` frames are out; then reads until it closes.
///
/// Floods on a stream begin when the client has sent a request.
pub fn flood(what: Flood, limit: usize) -> Behaviour {
    Behaviour::new(move |mut conn| async move {
        conn.handshake().await?;
        let stream = if what.needs_request() {
            conn.next_call().await?.stream
        } else {
            0
        };
        if let Some(opening) = what.opening(stream) {
            conn.send(opening).await?;
        }
        let mut left = limit;
        let mut nth = 0_u32;
        while left > 0 {
            let batch = left.min(BATCH);
            for _ in 0..batch {
                conn.queue(&what.frame(stream, nth));
                nth = nth.wrapping_add(1);
            }
            left -= batch;
            conn.flush().await?;
            conn.forget_input();
        }
        conn.drain().await;
        Ok(())
    })
}

/// A response header block that costs its reader dearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderBomb {
    /// One header with a value of this many octets.
    Long(usize),
    /// This many headers of a few octets each.
    Many(usize),
    /// One value of 4,000 octets put into the table, then this many one-octet references to it.
    Hpack(usize),
    /// A reference to an entry that was never made.
    BadIndex,
    /// A string that is not the Huffman code it claims to be.
    BadHuffman,
}

impl HeaderBomb {
    /// The header block.
    pub fn block(self) -> Bytes {
        let mut block = hpack::encode([(":status", "200"), ("content-type", "application/grpc")]);
        match self {
            Self::Long(len) => hpack::encode_literal(&mut block, b"x-long", &vec![b'v'; len]),
            Self::Many(count) => {
                for nth in 0..count {
                    hpack::encode_literal(&mut block, format!("x-{nth}").as_bytes(), b"v");
                }
            }
            Self::Hpack(count) => {
                // Literal with indexing, new name: the value becomes entry 62.
                block.push(0x40);
                hpack::encode_integer(&mut block, 0, 7, 6);
                block.extend_from_slice(b"x-bomb");
                hpack::encode_integer(&mut block, 0, 7, 4000);
                block.extend_from_slice(&[b'v'; 4000]);
                block.extend(std::iter::repeat_n(0x80 | 62, count));
            }
            Self::BadIndex => hpack::encode_integer(&mut block, 0x80, 7, 1000),
            // A Huffman-coded name of four octets of ones: the end-of-string symbol.
            Self::BadHuffman => block.extend_from_slice(&[0, 0x84, 0xff, 0xff, 0xff, 0xff]),
        }
        block.into()
    }

    /// The block in HEADERS and as many CONTINUATIONs of 16 KiB as it takes; the stream ends.
    pub fn frames(self, stream: u32) -> Vec<Frame> {
        let mut rest = BytesMut::from(&self.block()[..]);
        let mut frames = Vec::new();
        while frames.is_empty() || !rest.is_empty() {
            let part = rest.split_to(rest.len().min(16_384)).freeze();
            let first = frames.is_empty();
            let (kind, flags) = if first {
                (kind::HEADERS, flag::END_STREAM)
            } else {
                (kind::CONTINUATION, 0)
            };
            let last = if rest.is_empty() {
                flag::END_HEADERS
            } else {
                0
            };
            frames.push(Frame {
                kind,
                flags: flags | last,
                stream,
                payload: part,
            });
        }
        frames
    }
}

/// Answers every request with a header bomb.
pub fn header_bomb(bomb: HeaderBomb) -> Behaviour {
    Behaviour::new(move |mut conn: Conn| async move {
        conn.handshake().await?;
        loop {
            let call = match conn.next_call().await {
                Err(PeerError::Closed { .. }) => return Ok(()),
                call => call?,
            };
            conn.send_all(bomb.frames(call.stream)).await?;
        }
    })
}
