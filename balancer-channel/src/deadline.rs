//! A response body that ends at the RPC's deadline.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;

/// Ends with DEADLINE_EXCEEDED, and resets the stream, when the deadline passes first.
pub(crate) struct DeadlineBody {
    /// `None` once the deadline has passed: dropping it resets the stream.
    body: Option<Body>,
    sleep: Pin<Box<Sleep>>,
}

impl DeadlineBody {
    pub(crate) fn wrap(body: Body, sleep: Pin<Box<Sleep>>) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        Body::new(Self {
            body: Some(body),
            sleep,
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
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        // An end that has arrived counts before the clock does; more messages do not, or a server
        // that is faster than its reader would never be stopped.
        let late = match &frame {
            Poll::Pending => match poll_timer(self.sleep.as_mut(), cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(gone)) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(gone)));
                }
            },
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                self.sleep.deadline() <= Instant::now()
            }
            Poll::Ready(_) => false,
        };
        if late {
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

/// Whether the deadline has passed.
///
/// # Errors
/// The channel's runtime was shut down: tokio panics when one of its timers is polled then, and an
/// RPC that lives on another runtime cannot see that coming.
pub(crate) fn poll_timer(
    sleep: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), tonic::Status>> {
    match catch_unwind(AssertUnwindSafe(|| sleep.poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Err(_) => {
            let status = tonic::Status::internal("the channel's runtime was shut down");
            Poll::Ready(Err(status))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    /// A server that always has one more message.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = tonic::Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_pauses_is_stopped_too() {
        let sleep = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        let mut body = DeadlineBody::wrap(Body::new(Endless), sleep);
        let early = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        assert!(matches!(early, Some(Ok(_))), "must pass on: {early:?}");
        tokio::time::advance(Duration::from_secs(2)).await;
        let late = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        let status = late.expect("an end").expect_err("must end");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        let after = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        assert!(after.is_none(), "must stay at its end: {after:?}");
    }
}
