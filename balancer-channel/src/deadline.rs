//! A timer of the channel's runtime, polled wherever an RPC is.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Sleep;

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
