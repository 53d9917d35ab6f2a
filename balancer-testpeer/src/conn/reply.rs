//! Answering calls as a right gRPC server does, windows minded.

use super::Conn;
use crate::{PeerError, frame::Frame, grpc};
use bytes::Bytes;

impl Conn {
    /// Answers with one message and OK.
    ///
    /// # Errors
    /// The socket failed, or the stream ended before the window let all of it through.
    pub async fn reply_ok(
        &mut self,
        stream: u32,
        message: impl AsRef<[u8]>,
    ) -> Result<(), PeerError> {
        self.reply_headers(stream).await?;
        self.reply_message(stream, message).await?;
        self.reply_trailers(stream, grpc::OK, "").await
    }

    /// Answers with headers and a status in trailers, without a message.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn reply_status(
        &mut self,
        stream: u32,
        code: u32,
        message: &str,
    ) -> Result<(), PeerError> {
        self.reply_headers(stream).await?;
        self.reply_trailers(stream, code, message).await
    }

    /// Answers with a status in the only header block: gRPC's trailers-only.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn reply_trailers_only(
        &mut self,
        stream: u32,
        code: u32,
        message: &str,
    ) -> Result<(), PeerError> {
        let mut fields = response_headers();
        fields.extend(trailers(code, message));
        self.send_headers(stream, fields, true).await
    }

    /// Sends the response headers.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn reply_headers(&mut self, stream: u32) -> Result<(), PeerError> {
        self.send_headers(stream, response_headers(), false).await
    }

    /// Sends one message, as fast as the client opens its windows.
    ///
    /// # Errors
    /// The socket failed, or the stream ended before the window let all of it through.
    pub async fn reply_message(
        &mut self,
        stream: u32,
        message: impl AsRef<[u8]>,
    ) -> Result<(), PeerError> {
        let mut rest = grpc::message(message.as_ref());
        while !rest.is_empty() {
            match self.fitting(stream, &mut rest) {
                Some(part) if part.is_empty() => {
                    self.stash_next("room in the flow-control window").await?;
                }
                Some(part) => self.send(Frame::data(stream, part, false)).await?,
                None => {
                    return Err(PeerError::Unexpected {
                        wanted: format!("room for a message on stream {stream}"),
                        got: "the end of the stream".into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Sends the trailers.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn reply_trailers(
        &mut self,
        stream: u32,
        code: u32,
        message: &str,
    ) -> Result<(), PeerError> {
        self.send_headers(stream, trailers(code, message), true)
            .await
    }

    /// Splits off what of `rest` may be sent now. `None` if the stream is over.
    pub(crate) fn fitting(&self, stream: u32, rest: &mut Bytes) -> Option<Bytes> {
        let room = self.windows.room(stream)?;
        Some(rest.split_to(room.min(rest.len())))
    }
}

pub(crate) fn response_headers() -> Vec<(String, String)> {
    vec![
        (":status".into(), "200".into()),
        ("content-type".into(), "application/grpc".into()),
    ]
}

pub(crate) fn trailers(code: u32, message: &str) -> Vec<(String, String)> {
    let mut fields = vec![("grpc-status".into(), code.to_string())];
    if !message.is_empty() {
        fields.push(("grpc-message".into(), grpc::percent_encode(message)));
    }
    fields
}
