//! Futures that are dropped on the way.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// After so many polls.
    pub(crate) polls: usize,
    /// Only when it would be polled once more: what it waits for has happened then.
    pub(crate) woken: bool,
    /// Whether it is polled as often as there is time for, not only when it asks for it.
    pub(crate) eager: bool,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Cutting<T> {
    /// It was dropped.
    Dropped,
    /// It had ended before, with so many polls.
    Ended(T, usize),
}

/// Runs a future that is dropped on the way, if it lasts that long.
pub(crate) struct CutShort<F> {
    future: Option<Pin<Box<F>>>,
    cut: Cut,
    polls: usize,
}

// === impl Cut ===

impl Cut {
    /// Never.
    pub(crate) const NEVER: Self = Self {
        polls: usize::MAX,
        woken: true,
        eager: false,
    };

    pub(crate) fn short<F: Future>(self, future: F) -> CutShort<F> {
        CutShort {
            future: Some(Box::pin(future)),
            cut: self,
            polls: 0,
        }
    }
}

// === impl CutShort ===

impl<F: Future> Future for CutShort<F> {
    type Output = Cutting<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(future) = &mut this.future else {
            return Poll::Ready(Cutting::Dropped);
        };
        if this.polls < this.cut.polls {
            this.polls += 1;
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                this.future = None;
                return Poll::Ready(Cutting::Ended(value, this.polls));
            }
            if this.polls < this.cut.polls || this.cut.woken {
                if this.cut.eager {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        this.future = None;
        Poll::Ready(Cutting::Dropped)
    }
}
