//! What the client did, one level above frames.

use super::{Conn, Request};
use crate::{
    Headers, PeerError,
    frame::{Frame, GoAway, flag, kind},
};
use bytes::{Bytes, BytesMut};

/// Something the client did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It opened a stream.
    Request(Request),
    /// It sent body bytes; `end` when it has half-closed the stream.
    Data {
        /// Which stream.
        stream: u32,
        /// The bytes, without padding.
        bytes: Bytes,
        /// Whether the client is done sending.
        end: bool,
    },
    /// It ended its half of a stream with trailers.
    Trailers {
        /// Which stream.
        stream: u32,
        /// The trailers.
        headers: Headers,
    },
    /// It reset a stream.
    Reset {
        /// Which stream.
        stream: u32,
        /// Why.
        code: u32,
    },
    /// It sent SETTINGS. Answered already, if the manners say so.
    Settings(Vec<(u16, u32)>),
    /// It acknowledged ours.
    SettingsAck,
    /// It wants to know whether we live. Answered already, if the manners say so.
    Ping([u8; 8]),
    /// It answered our PING.
    Pong([u8; 8]),
    /// It opened a window; stream 0 is the connection's.
    WindowUpdate {
        /// Which stream.
        stream: u32,
        /// By how much.
        increment: u32,
    },
    /// It is going away.
    GoAway(GoAway),
    /// Any other frame, or one that is malformed.
    Other(Frame),
    /// It closed its half of the connection. There is nothing after this.
    Closed,
}

/// A header block that has begun and not ended.
#[derive(Debug)]
pub(super) struct PartialBlock {
    stream: u32,
    end: bool,
    block: BytesMut,
}

impl Conn {
    /// The next thing the client does, answered as the manners say.
    ///
    /// # Errors
    /// The socket failed, the client closed within a frame, or its header block is malformed.
    pub async fn next_event(&mut self) -> Result<Event, PeerError> {
        let event = self.pull_event().await?;
        self.events.push_front(event);
        // The event is back in the queue while the answers leave, so that it survives a cancel.
        self.flush().await?;
        Ok(self.events.pop_front().unwrap_or(Event::Closed))
    }

    /// As [`Conn::next_event`], but leaves answers queued while more input is at hand.
    pub(crate) async fn pull_event(&mut self) -> Result<Event, PeerError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if !self.has_frame() || self.output.len() > 64 * 1024 {
                self.flush().await?;
            }
            match self.read_frame().await? {
                Some(frame) => {
                    let event = self.take(frame)?;
                    self.events.extend(event);
                }
                None => return Ok(Event::Closed),
            }
        }
    }

    /// What a frame means, once its manners have been minded. `None` if more must come.
    fn take(&mut self, frame: Frame) -> Result<Option<Event>, PeerError> {
        let stream = frame.stream;
        let end = frame.has(flag::END_STREAM);
        let event = match frame.kind {
            kind::DATA => frame
                .as_data()
                .map(|bytes| Event::Data { stream, bytes, end }),
            kind::HEADERS | kind::CONTINUATION => {
                if let Some(piece) = frame.as_header_block() {
                    return self.take_block(&frame, &piece);
                }
                None
            }
            kind::RST_STREAM => frame
                .as_rst_stream()
                .map(|code| Event::Reset { stream, code }),
            kind::SETTINGS if frame.is_settings_ack() => Some(Event::SettingsAck),
            kind::SETTINGS => frame.as_settings().map(Event::Settings),
            kind::PING => frame
                .as_ping()
                .map(Event::Ping)
                .or_else(|| frame.as_pong().map(Event::Pong)),
            kind::GOAWAY => frame.as_goaway().map(Event::GoAway),
            kind::WINDOW_UPDATE => frame
                .as_window_update()
                .map(|increment| Event::WindowUpdate { stream, increment }),
            _ => None,
        };
        let event = event.unwrap_or_else(|| Event::Other(frame.clone()));
        self.mind_manners(&event, frame.payload.len());
        Ok(Some(event))
    }

    fn mind_manners(&mut self, event: &Event, payload: usize) {
        match event {
            Event::Settings(_) if self.manners.ack_settings => self.queue(&Frame::settings_ack()),
            Event::Ping(opaque) if self.manners.answer_pings => self.queue(&Frame::pong(opaque)),
            Event::Data { stream, end, .. } if self.manners.open_windows && payload > 0 => {
                // Padding counts, and the payload of a frame is at most 2²⁴ octets.
                let spent = u32::try_from(payload).unwrap_or(u32::MAX);
                self.queue(&Frame::window_update(0, spent));
                if !end {
                    self.queue(&Frame::window_update(*stream, spent));
                }
            }
            _ => {}
        }
    }

    fn take_block(&mut self, frame: &Frame, piece: &[u8]) -> Result<Option<Event>, PeerError> {
        let partial = self.partial.get_or_insert_with(|| PartialBlock {
            stream: frame.stream,
            end: frame.kind == kind::HEADERS && frame.has(flag::END_STREAM),
            block: BytesMut::new(),
        });
        partial.block.extend_from_slice(piece);
        if !frame.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(PartialBlock { stream, end, block }) = self.partial.take() else {
            return Ok(None);
        };
        let headers = self.decoder.decode(&block)?;
        // A request has a method; trailers must not.
        Ok(Some(if headers.get(":method").is_some() {
            Event::Request(Request {
                stream,
                headers,
                end_stream: end,
                body: Bytes::new(),
            })
        } else {
            Event::Trailers { stream, headers }
        }))
    }
}
