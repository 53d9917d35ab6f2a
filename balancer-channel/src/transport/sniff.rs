//! Reads HTTP/2 frame headers as bytes pass, for what `h2` does not tell: when the peer's SETTINGS
//! and GOAWAY frames came, and which requests the socket took.
//!
//! Two small state machines, one per direction. They look at bytes that others own: nothing is
//! copied but the payloads of GOAWAY and SETTINGS frames, nothing is allocated but the debug text
//! of a GOAWAY, and the payload of every other frame is skipped by arithmetic.

use std::fmt;

use super::preface::PREFACE;

/// The largest number of peer bytes that an error shows.
const SHOWN: usize = 64;

/// The largest number of bytes of a GOAWAY's debug text that are kept.
const DEBUG_KEPT: usize = 256;

/// The length of an HTTP/2 frame header.
const HEADER: usize = 9;

/// The largest SETTINGS frame that a peer may send before it knows our limits.
const MAX_FRAME: usize = 16_384;

/// What the reading side tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadEvent {
    /// A SETTINGS frame (no acknowledgement) is complete.
    Settings {
        /// MAX_CONCURRENT_STREAMS, where the frame names it.
        max_concurrent_streams: Option<u32>,
        /// ENABLE_PUSH is not 0: a server must not say so.
        server_push: bool,
    },
    /// A HEADERS frame has begun: the peer answers on this stream. Told until somebody has
    /// [heard enough](ReadSniffer::heard_enough).
    Answer(u32),
    /// A GOAWAY frame is complete.
    GoAway(GoAway),
    /// The peer's first frame is no SETTINGS frame: it does not speak HTTP/2.
    NotHttp2(NotHttp2),
}

/// A GOAWAY frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GoAway {
    /// The last stream that the peer may have acted upon.
    pub(crate) last_stream_id: u32,
    /// Why, as a number.
    pub(crate) code: u32,
    /// The first bytes of the debug text.
    pub(crate) debug: Vec<u8>,
}

/// The first bytes of a peer that does not speak HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotHttp2 {
    first: Vec<u8>,
}

/// What the writing side tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEvent {
    /// The whole header block of this stream was taken.
    Headers(u32),
    /// The acknowledgement of the peer's SETTINGS was taken: `h2` found them valid.
    SettingsAck,
}

/// Watches what the peer sends.
#[derive(Debug)]
pub(crate) struct ReadSniffer {
    frames: Frames,
    /// Whether the first frame's header was checked.
    started: bool,
    payload: Payload,
    /// Whether HEADERS frames are told of.
    answers: bool,
}

/// Watches what the socket takes of ours, from the connection preface on.
#[derive(Debug)]
pub(crate) struct WriteSniffer {
    /// Bytes of the preface still to come.
    preface: usize,
    frames: Frames,
}

/// Cuts a byte stream into frame headers and payloads.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// How much of `header` is filled; `HEADER` while in a payload.
    filled: usize,
    /// Bytes of the payload still to come.
    remaining: usize,
}

/// A payload that is being collected.
#[derive(Debug)]
enum Payload {
    Skipped,
    Settings {
        entry: [u8; 6],
        filled: usize,
        max_concurrent_streams: Option<u32>,
        server_push: bool,
    },
    GoAway {
        fixed: [u8; 8],
        filled: usize,
        debug: Vec<u8>,
    },
}

/// A step of [`Frames`].
enum Step<'a> {
    /// The input is used up.
    Starved,
    /// A header is complete.
    Header(FrameHead),
    /// Part of a payload; `last` when the frame ends with it.
    Payload { part: &'a [u8], last: bool },
}

#[derive(Clone, Copy)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream_id: u32,
}

mod kind {
    pub(super) const HEADERS: u8 = 1;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
}

const SETTINGS_ENABLE_PUSH: u16 = 2;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;

// === impl ReadSniffer ===

impl ReadSniffer {
    pub(crate) const fn new() -> Self {
        Self {
            frames: Frames::new(),
            started: false,
            payload: Payload::Skipped,
            answers: true,
        }
    }

    /// Looks at the bytes just read. After [`ReadEvent::NotHttp2`] it must not be called again.
    pub(crate) fn read(&mut self, bytes: &[u8], mut tell: impl FnMut(ReadEvent)) {
        let mut rest = bytes;
        if !self.started && !self.first_bytes_fit(bytes) {
            let mut first = self.frames.header[..self.frames.filled].to_vec();
            first.extend(bytes.iter().take(SHOWN - first.len()));
            return tell(ReadEvent::NotHttp2(NotHttp2 { first }));
        }
        loop {
            // Most frames lie whole in what was read, and say nothing: they are passed over at once.
            while let Some((head, after)) = self.frames.whole(rest) {
                let says_something = match head.kind {
                    kind::SETTINGS | kind::GOAWAY => true,
                    kind::HEADERS => self.answers,
                    _ => false,
                };
                if says_something {
                    break;
                }
                rest = after;
                if rest.is_empty() {
                    return;
                }
            }
            match self.frames.step(&mut rest) {
                Step::Starved => return,
                Step::Header(head) => {
                    self.started = true;
                    if head.kind == kind::HEADERS && self.answers {
                        tell(ReadEvent::Answer(head.stream_id));
                    }
                    self.payload = match head.kind {
                        kind::SETTINGS if head.flags & flag::ACK == 0 => Payload::Settings {
                            entry: [0; 6],
                            filled: 0,
                            max_concurrent_streams: None,
                            server_push: false,
                        },
                        kind::GOAWAY => Payload::GoAway {
                            fixed: [0; 8],
                            filled: 0,
                            debug: Vec::new(),
                        },
                        _ => Payload::Skipped,
                    };
                    if head.length == 0 {
                        self.payload_part(&[], true, &mut tell);
                    }
                }
                Step::Payload { part, last } => self.payload_part(part, last, &mut tell),
            }
        }
    }

    /// No [`ReadEvent::Answer`] is told from here on.
    pub(crate) fn heard_enough(&mut self) {
        self.answers = false;
    }

    /// Whether a peer that has sent less than one frame header has sent anything at all.
    pub(crate) fn partial_first_frame(&self) -> Option<NotHttp2> {
        (!self.started && self.frames.filled > 0).then(|| NotHttp2 {
            first: self.frames.header[..self.frames.filled].to_vec(),
        })
    }

    /// Whether the first bytes of the stream may be those of a SETTINGS frame, as far as they are
    /// here. A peer that says `HTTP/1.1 400` is found out at its fourth byte.
    fn first_bytes_fit(&self, bytes: &[u8]) -> bool {
        let seen = self.frames.filled;
        bytes
            .iter()
            .take(HEADER - seen)
            .enumerate()
            .all(|(at, byte)| match seen + at {
                0 => *byte == 0,
                1 => usize::from(*byte) << 8 <= MAX_FRAME,
                3 => *byte == kind::SETTINGS,
                4 => byte & flag::ACK == 0,
                5..=8 => *byte == 0,
                _ => true,
            })
    }

    fn payload_part(&mut self, part: &[u8], last: bool, tell: &mut impl FnMut(ReadEvent)) {
        match &mut self.payload {
            Payload::Skipped => return,
            Payload::Settings {
                entry,
                filled,
                max_concurrent_streams,
                server_push,
            } => {
                for byte in part {
                    entry[*filled] = *byte;
                    *filled += 1;
                    if *filled == entry.len() {
                        *filled = 0;
                        let [id @ .., a, b, c, d] = *entry;
                        let value = u32::from_be_bytes([a, b, c, d]);
                        match u16::from_be_bytes(id) {
                            SETTINGS_ENABLE_PUSH => *server_push = value != 0,
                            SETTINGS_MAX_CONCURRENT_STREAMS => {
                                *max_concurrent_streams = Some(value);
                            }
                            _ => {}
                        }
                    }
                }
            }
            Payload::GoAway {
                fixed,
                filled,
                debug,
            } => {
                let (head, text) = part.split_at(part.len().min(fixed.len() - *filled));
                fixed[*filled..*filled + head.len()].copy_from_slice(head);
                *filled += head.len();
                debug.extend(text.iter().take(DEBUG_KEPT - debug.len()));
            }
        }
        if last {
            match std::mem::replace(&mut self.payload, Payload::Skipped) {
                Payload::Skipped => {}
                Payload::Settings {
                    max_concurrent_streams,
                    server_push,
                    ..
                } => {
                    tell(ReadEvent::Settings {
                        max_concurrent_streams,
                        server_push,
                    });
                }
                // Shorter ones are a frame size error, which `h2` reports.
                Payload::GoAway {
                    fixed,
                    filled: 8,
                    debug,
                } => {
                    let [a, b, c, d, code @ ..] = fixed;
                    tell(ReadEvent::GoAway(GoAway {
                        last_stream_id: u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff,
                        code: u32::from_be_bytes(code),
                        debug,
                    }));
                }
                Payload::GoAway { .. } => {}
            }
        }
    }
}

// === impl WriteSniffer ===

impl WriteSniffer {
    pub(crate) const fn new() -> Self {
        Self {
            preface: PREFACE.len(),
            frames: Frames::new(),
        }
    }

    /// Looks at the bytes that the socket has just taken.
    pub(crate) fn wrote(&mut self, bytes: &[u8], mut tell: impl FnMut(WriteEvent)) {
        let (preface, mut rest) = bytes.split_at(bytes.len().min(self.preface));
        self.preface -= preface.len();
        let mut ended = |head: FrameHead| match head.kind {
            kind::HEADERS | kind::CONTINUATION if head.flags & flag::END_HEADERS != 0 => {
                tell(WriteEvent::Headers(head.stream_id));
            }
            kind::SETTINGS if head.flags & flag::ACK != 0 => tell(WriteEvent::SettingsAck),
            _ => {}
        };
        loop {
            while let Some((head, after)) = self.frames.whole(rest) {
                ended(head);
                rest = after;
            }
            let last = match self.frames.step(&mut rest) {
                Step::Starved => return,
                Step::Header(head) => head.length == 0,
                Step::Payload { last, .. } => last,
            };
            if last {
                ended(FrameHead::of(self.frames.header));
            }
        }
    }
}

// === impl FrameHead ===

impl FrameHead {
    #[inline]
    fn of(header: [u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream_id: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }
}

// === impl Frames ===

impl Frames {
    const fn new() -> Self {
        Self {
            header: [0; HEADER],
            filled: 0,
            remaining: 0,
        }
    }

    /// The frame that begins here and ends in `rest`, with what is after it. Nothing is kept of it.
    #[inline]
    fn whole<'a>(&self, rest: &'a [u8]) -> Option<(FrameHead, &'a [u8])> {
        let between = self.remaining == 0 && matches!(self.filled, 0 | HEADER);
        let header = rest.first_chunk().filter(|_| between)?;
        let head = FrameHead::of(*header);
        let after = rest.get(HEADER + head.length..)?;
        Some((head, after))
    }

    fn step<'a>(&mut self, rest: &mut &'a [u8]) -> Step<'a> {
        if rest.is_empty() {
            return Step::Starved;
        }
        if self.remaining > 0 {
            let (part, after) = rest.split_at(rest.len().min(self.remaining));
            *rest = after;
            self.remaining -= part.len();
            return Step::Payload {
                part,
                last: self.remaining == 0,
            };
        }
        if self.filled == HEADER {
            self.filled = 0;
        }
        let (part, after) = rest.split_at(rest.len().min(HEADER - self.filled));
        *rest = after;
        self.header[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        if self.filled < HEADER {
            return Step::Starved;
        }
        let head = FrameHead::of(self.header);
        self.remaining = head.length;
        Step::Header(head)
    }
}

// === impl NotHttp2 ===

impl fmt::Display for NotHttp2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.first.as_slice() {
            [b'H', b'T', b'T', b'P', ..] => " (it speaks HTTP/1)",
            [0x15 | 0x16, 0x03, ..] => " (it speaks TLS; this channel is plaintext)",
            _ => "",
        };
        write!(
            f,
            "not HTTP/2{hint}: the peer sent \"{}\"",
            self.first.escape_ascii()
        )
    }
}
