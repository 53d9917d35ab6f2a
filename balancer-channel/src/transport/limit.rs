//! How large the messages of a stream may be.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;

/// Watches the prefixes of messages go by.
///
/// What counts is a message's length on the wire, which is that of the compressed one where messages
/// are compressed.
#[derive(Debug)]
pub(crate) struct MessageLimit {
    max: u32,
    /// How much of the message is still to come.
    left: u32,
    prefix: [u8; PREFIX],
    /// How much of the prefix is there.
    have: u8,
    /// Of what, for the status.
    of: Of,
}

/// Whose messages are watched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    Request,
    Response,
}

/// The length of a message's prefix: a flag and a length.
const PREFIX: usize = 5;

/// A request body that ends with RESOURCE_EXHAUSTED at the first message that is too large; that one
/// is not sent.
struct LimitedBody {
    body: Option<Body>,
    limit: MessageLimit,
}

// === impl MessageLimit ===

impl MessageLimit {
    /// No message of more than `max` bytes.
    #[inline]
    pub(crate) fn new(max: u32, of: Of) -> Self {
        Self {
            max,
            left: 0,
            prefix: [0; PREFIX],
            have: 0,
            of,
        }
    }

    /// No message of more than `max` bytes from the next one on.
    #[inline]
    pub(crate) fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED: a message begins in them that is too large.
    #[inline]
    pub(crate) fn check(&mut self, data: &[u8]) -> Result<(), tonic::Status> {
        // The message of most RPCs comes in one piece, and leaves nothing to remember.
        if let (0, 0, Some([_, length @ ..])) = (self.left, self.have, data.first_chunk::<PREFIX>())
        {
            let length = u32::from_be_bytes(*length);
            if length <= self.max && data.len() - PREFIX == length as usize {
                return Ok(());
            }
        }
        self.check_piece(data)
    }

    fn check_piece(&mut self, mut data: &[u8]) -> Result<(), tonic::Status> {
        loop {
            let skipped = data.len().min(self.left as usize);
            // No more than is left, which is a u32.
            self.left -= skipped as u32;
            data = &data[skipped..];
            if data.is_empty() {
                return Ok(());
            }
            let have = usize::from(self.have);
            let taken = (PREFIX - have).min(data.len());
            self.prefix[have..][..taken].copy_from_slice(&data[..taken]);
            self.have += taken as u8;
            data = &data[taken..];
            if usize::from(self.have) < PREFIX {
                return Ok(());
            }
            self.have = 0;
            let [_, length @ ..] = self.prefix;
            let length = u32::from_be_bytes(length);
            if length > self.max {
                let Self { max, of, .. } = self;
                return Err(tonic::Status::resource_exhausted(format!(
                    "a {of} message of {length} bytes; the limit is {max}"
                )));
            }
            self.left = length;
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
        })
    }
}

/// `body`, without messages of more than `max` bytes.
pub(crate) fn limited(body: Body, max: u32) -> Body {
    Body::new(LimitedBody {
        body: Some(body),
        limit: MessageLimit::new(max, Of::Request),
    })
}

// === impl LimitedBody ===

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.limit.check(data)
        {
            this.body = None;
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(|body| body.size_hint())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(lengths: &[u8]) -> Vec<u8> {
        let message = |length: &u8| {
            let prefix = [0, 0, 0, 0, *length];
            prefix.into_iter().chain(vec![0xff; usize::from(*length)])
        };
        lengths.iter().flat_map(message).collect()
    }

    proptest! {
        /// However a stream is cut into pieces, the first message that is too large is found.
        #[test]
        fn what_is_too_large_is_found_in_any_pieces(
            lengths in proptest::collection::vec(0_u8..40, 0..12),
            cuts in proptest::collection::vec(1_usize..30, 1..40),
            max in 0_u32..40,
        ) {
            let stream = framed(&lengths);
            let mut limit = MessageLimit::new(max, Of::Response);
            let mut rest = &stream[..];
            let mut found = None;
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || found.is_some() {
                    break;
                }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                rest = tail;
                found = limit.check(piece).err();
            }
            let too_large = lengths.iter().find(|length| u32::from(**length) > max);
            let expected = too_large.map(|length| {
                format!("a response message of {length} bytes; the limit is {max}")
            });
            prop_assert_eq!(found.map(|status| status.message().to_owned()), expected);
        }
    }
}
