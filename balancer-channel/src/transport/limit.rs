//! How large the messages of a stream may be.

use std::{
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
    /// Of what, for the status.
    what: &'static str,
    prefix: [u8; 5],
    /// How much of the prefix is there.
    have: usize,
    /// How much of the message is still to come.
    left: usize,
}

/// A request body that ends with RESOURCE_EXHAUSTED at the first message that is too large; that one
/// is not sent.
struct LimitedBody {
    body: Option<Body>,
    limit: MessageLimit,
}

// === impl MessageLimit ===

impl MessageLimit {
    /// No `what` message of more than `max` bytes.
    pub(crate) fn new(max: u32, what: &'static str) -> Self {
        Self {
            max,
            what,
            prefix: [0; 5],
            have: 0,
            left: 0,
        }
    }

    /// The next bytes of the stream.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED: a message begins in them that is too large.
    pub(crate) fn check(&mut self, mut data: &[u8]) -> Result<(), tonic::Status> {
        loop {
            let skipped = self.left.min(data.len());
            self.left -= skipped;
            data = &data[skipped..];
            if data.is_empty() {
                return Ok(());
            }
            let taken = (self.prefix.len() - self.have).min(data.len());
            self.prefix[self.have..][..taken].copy_from_slice(&data[..taken]);
            self.have += taken;
            data = &data[taken..];
            if self.have < self.prefix.len() {
                return Ok(());
            }
            self.have = 0;
            let [_, length @ ..] = self.prefix;
            let length = u32::from_be_bytes(length);
            if length > self.max {
                let Self { max, what, .. } = self;
                return Err(tonic::Status::resource_exhausted(format!(
                    "a {what} message of {length} bytes; the limit is {max}"
                )));
            }
            self.left = length as usize;
        }
    }
}

/// `body`, without messages of more than `max` bytes.
pub(crate) fn limited(body: Body, max: u32) -> Body {
    Body::new(LimitedBody {
        body: Some(body),
        limit: MessageLimit::new(max, "request"),
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
            let mut limit = MessageLimit::new(max, "test");
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
                format!("a test message of {length} bytes; the limit is {max}")
            });
            prop_assert_eq!(found.map(|status| status.message().to_owned()), expected);
        }
    }
}
