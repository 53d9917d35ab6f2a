//! Octets in and out, and the frames in them.

use super::Conn;
use crate::{
    PeerError,
    frame::{Frame, PREFACE, setting},
};
use bytes::Buf;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// How much is read ahead while a write is blocked.
const READ_AHEAD: usize = 1 << 20;

impl Conn {
    /// Writes octets as they are.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn send_bytes(&mut self, octets: impl AsRef<[u8]>) -> Result<(), PeerError> {
        self.output.extend_from_slice(octets.as_ref());
        self.flush().await
    }

    /// Reads up to as many octets as are there, raw; empty at the end of the stream.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn read_bytes(&mut self) -> Result<Vec<u8>, PeerError> {
        if self.input.is_empty() && !self.at_end {
            self.fill().await?;
        }
        Ok(self.input.split().to_vec())
    }

    /// Reads the client's connection preface. [`read_frame`](Self::read_frame) does it when need be.
    ///
    /// # Errors
    /// The client sent something else, closed, or the socket failed.
    pub async fn read_preface(&mut self) -> Result<(), PeerError> {
        while !self.preface_read {
            if self.input.len() >= PREFACE.len() {
                let got = self.input.split_to(PREFACE.len());
                if got[..] != PREFACE[..] {
                    return Err(PeerError::Unexpected {
                        wanted: "the HTTP/2 preface".into(),
                        got: format!("\"{}\"", got.escape_ascii()),
                    });
                }
                self.preface_read = true;
            } else if self.at_end {
                return Err(PeerError::Closed {
                    wanted: "the HTTP/2 preface".into(),
                });
            } else {
                self.fill().await?;
            }
        }
        Ok(())
    }

    /// The next frame as it came, answered by nothing. `None` when the client has closed.
    ///
    /// # Errors
    /// The socket failed, or the client closed within a frame.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>, PeerError> {
        if !self.preface_read {
            if self.input.is_empty() && !self.at_end {
                self.fill().await?;
            }
            if self.input.is_empty() && self.at_end {
                return Ok(None);
            }
            self.read_preface().await?;
        }
        loop {
            if let Some(frame) = Frame::decode(&mut self.input) {
                self.note(&frame);
                return Ok(Some(frame));
            }
            if self.at_end {
                let whole = self.input.is_empty();
                let wanted = "the rest of a frame".into();
                return if whole {
                    Ok(None)
                } else {
                    Err(PeerError::Closed { wanted })
                };
            }
            self.fill().await?;
        }
    }

    /// Half-closes: sends FIN, and can still read.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn shutdown(&mut self) -> Result<(), PeerError> {
        self.flush().await?;
        self.io
            .shutdown()
            .await
            .map_err(PeerError::io("half-closing"))
    }

    /// Ends the connection with FIN: half-closes, then reads until the client has closed too.
    ///
    /// Dropping a connection that holds unread octets makes the system send RST instead; this
    /// does not. It waits for the client for as long as the client takes.
    pub async fn close(mut self) {
        if self.shutdown().await.is_ok() {
            self.drain().await;
        }
    }

    /// Reads until the client closes or the socket fails; the journal notes the frames.
    pub async fn drain(&mut self) {
        while let Ok(Some(_)) = self.read_frame().await {}
        // What is not HTTP/2 ends the frames, and is still to be read.
        self.input.clear();
        while !self.at_end && self.fill().await.is_ok() {
            self.input.clear();
        }
    }

    /// Does nothing at all, for ever: reads nothing, writes nothing, keeps the socket open.
    pub async fn stall(&mut self) {
        std::future::pending().await
    }

    /// Drops the frames that were read ahead, after the journal has noted them.
    pub(crate) fn forget_input(&mut self) {
        while self.preface_read
            && let Some(frame) = Frame::decode(&mut self.input)
        {
            self.note(&frame);
        }
    }

    /// Whether a whole frame has been read and not been used.
    pub(super) fn has_frame(&self) -> bool {
        self.preface_read && Frame::whole_len(&self.input).is_some()
    }

    pub(crate) fn queue(&mut self, frame: &Frame) {
        self.windows.sent(frame);
        for (id, value) in frame.as_settings().unwrap_or_default() {
            if id == setting::HEADER_TABLE_SIZE {
                self.decoder.allow_table_size(value as usize);
            }
        }
        frame.encode_into(&mut self.output);
    }

    /// Writes what is queued, reading ahead where [`Manners`](super::Manners) allow.
    pub(crate) async fn flush(&mut self) -> Result<(), PeerError> {
        poll_fn(|cx| self.poll_flush(cx))
            .await
            .map_err(PeerError::io("writing"))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.output.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let may_read = self.manners.read_while_writing
                        && !self.at_end
                        && self.input.len() < READ_AHEAD;
                    if !may_read {
                        return Poll::Pending;
                    }
                    ready!(self.poll_fill(cx))?;
                }
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads at least one octet, or notes the end.
    async fn fill(&mut self) -> Result<(), PeerError> {
        poll_fn(|cx| self.poll_fill(cx))
            .await
            .map_err(PeerError::io("reading"))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 16 * 1024];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        self.at_end = read.is_empty();
        self.recorder.octets(read.len());
        self.input.extend_from_slice(read);
        Poll::Ready(Ok(()))
    }

    /// Books that every level needs, whoever reads the frame.
    fn note(&mut self, frame: &Frame) {
        self.windows.received(frame);
        self.recorder.frame(frame, self.windows.open());
        if frame.kind == crate::frame::kind::HEADERS {
            self.last_stream = self.last_stream.max(frame.stream);
        }
    }
}
