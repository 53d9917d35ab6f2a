//! Sending frames by name. Nothing is checked and windows are not minded.

use super::Conn;
use crate::{PeerError, frame::Frame};
use bytes::Bytes;

/// The highest stream there can be: the "last stream" of a graceful GOAWAY.
pub const MAX_STREAM: u32 = 0x7fff_ffff;

impl Conn {
    /// Sends one frame as it is.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send(&mut self, frame: Frame) -> Result<(), PeerError> {
        self.queue(&frame);
        self.flush().await
    }

    /// Sends frames in one go: without another's write between them.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_all(
        &mut self,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<(), PeerError> {
        for frame in frames {
            self.queue(&frame);
        }
        self.flush().await
    }

    /// Sends SETTINGS with these values.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_settings(&mut self, values: &[(u16, u32)]) -> Result<(), PeerError> {
        self.send(Frame::settings(values)).await
    }

    /// Sends PING.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_ping(&mut self, opaque: [u8; 8]) -> Result<(), PeerError> {
        self.send(Frame::ping(opaque)).await
    }

    /// Sends GOAWAY. `last` is [`MAX_STREAM`] for "soon" and [`Conn::last_stream`] for "now".
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_goaway(
        &mut self,
        last: u32,
        code: u32,
        debug: impl AsRef<[u8]>,
    ) -> Result<(), PeerError> {
        self.send(Frame::goaway(last, code, debug)).await
    }

    /// Sends RST_STREAM.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_reset(&mut self, stream: u32, code: u32) -> Result<(), PeerError> {
        self.send(Frame::rst_stream(stream, code)).await
    }

    /// Sends a header block of these fields; `end` makes it trailers.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        stream: u32,
        fields: impl IntoIterator<Item = (N, V)>,
        end: bool,
    ) -> Result<(), PeerError> {
        self.send(Frame::headers(stream, crate::hpack::encode(fields), end))
            .await
    }

    /// Sends DATA, whatever the window says.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_data(
        &mut self,
        stream: u32,
        bytes: impl Into<Bytes>,
        end: bool,
    ) -> Result<(), PeerError> {
        self.send(Frame::data(stream, bytes, end)).await
    }
}
