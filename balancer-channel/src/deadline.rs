//! A response body that ends at the RPC's deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::body::Body;

/// Ends with DEADLINE_EXCEEDED, and resets the stream, when the deadline passes first.
pub(crate) struct DeadlineBody {
    /// `None` once the deadline has passed: dropping it resets the stream.
    body: Option<Body>,
    sleep: Pin<Box<Sleep>>,
}

impl DeadlineBody {
    pub(crate) fn wrap(body: Body, sleep: Sleep) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        Body::new(Self {
            body: Some(body),
            sleep: Box::pin(sleep),
        })
    }
}

impl http_body::Body for DeadlineBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        // What has arrived counts before the clock does.
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if frame.is_pending() && self.sleep.as_mut().poll(cx).is_ready() {
            self.body = None;
            let status =
                tonic::Status::deadline_exceeded("the deadline passed during the response");
            return Poll::Ready(Some(Err(status)));
        }
        frame
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
