//! A response whose RPC has a deadline, as tonic reads it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use balancer_api::{Code, Status};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    deadlines::{Expire, Key},
    response::{Download, EndHook, Next},
    shared::Shared,
    status,
};

/// A body that ends with DEADLINE_EXCEEDED, and whose stream is reset, when the deadline passes
/// first: in a poll, or by the connection's driver where nobody polls.
struct WatchedBody<H: EndHook>(Arc<Reading<H>>);

/// A body that was there as a whole when its response began. Its RPC is over.
struct WholeBody {
    data: Option<Bytes>,
    end: Option<End>,
}

/// What the reader and the connection's driver share of a response.
struct Reading<H: EndHook> {
    deadline: Instant,
    shared: Arc<Shared>,
    /// Guards who ends the stream. Hooks are told outside of it.
    state: Mutex<State<H>>,
}

struct State<H> {
    /// Until the stream has ended, however it did.
    open: Option<(Download, H)>,
    /// Received, and not yet read.
    ready: VecDeque<Bytes>,
    /// How the stream ended: for the reader, after what is `ready`.
    end: Option<End>,
    /// The reader, while it waits.
    reader: Option<Waker>,
    /// Of the entry among the connection's deadlines.
    key: Option<Key>,
}

/// Trailers, or what came instead of them.
type End = Result<Option<HeaderMap>, tonic::Status>;

/// The body of `download`, whose RPC has a deadline.
///
/// Most responses of unary RPCs are all there when their headers are: these cost no timer and no entry,
/// and are over before anybody has read them.
pub(super) fn watched<H: EndHook>(
    mut download: Download,
    hook: H,
    deadline: Instant,
    cx: &mut Context<'_>,
) -> Body {
    let mut ready = VecDeque::new();
    let mut first = None;
    for _ in 0..2 {
        match download.poll_next(cx) {
            Poll::Ready(Next::Data(data)) if first.is_none() => first = Some(data),
            Poll::Ready(Next::Data(data)) => ready.push_back(data),
            Poll::Ready(Next::End(end)) => {
                tell(download, hook, &end);
                return Body::new(WholeBody {
                    data: first,
                    end: Some(end),
                });
            }
            Poll::Pending => break,
        }
    }
    if let Some(first) = first {
        ready.push_front(first);
    }
    let shared = download.shared().clone();
    let reading = Arc::new(Reading {
        deadline,
        shared: shared.clone(),
        state: Mutex::new(State {
            open: Some((download, hook)),
            ready,
            end: None,
            reader: None,
            key: None,
        }),
    });
    let entry: Weak<dyn Expire> = Arc::downgrade(&(reading.clone() as Arc<dyn Expire>));
    match shared.deadlines.add(deadline, entry) {
        Some((key, is_first)) => {
            reading.state().key = Some(key);
            if is_first {
                shared.driver.wake();
            }
        }
        None => reading.settle(),
    }
    Body::new(WatchedBody(reading))
}

/// Ends the stream and tells the hook how.
fn tell<H: EndHook>(download: Download, hook: H, end: &End) {
    match end {
        Ok(trailers) => {
            let status = status::of_trailers(trailers.as_ref());
            download.end(hook, status.as_ref().err(), trailers.as_ref());
        }
        Err(error) => download.end(hook, Some(&status::from_tonic(error)), None),
    }
}

/// A body's last frame.
fn last_frame(end: Option<End>) -> Option<Result<Frame<Bytes>, tonic::Status>> {
    match end? {
        Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
        Err(error) => Some(Err(error)),
    }
}

// === impl Reading ===

impl<H: EndHook> Reading<H> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let mut state = self.state();
        if let Some(data) = state.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some((download, _)) = &mut state.open else {
            return Poll::Ready(last_frame(state.end.take()));
        };
        let end = match download.poll_next(cx) {
            // An end that has arrived counts before the clock does; more messages do not, or a server
            // that is faster than its reader would never be stopped.
            Poll::Ready(Next::End(end)) => end,
            _ if self.deadline <= Instant::now() => Err(late()),
            Poll::Ready(Next::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Poll::Pending => {
                match &mut state.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
        };
        if let Some((download, hook)) = self.take(state) {
            tell(download, hook, &end);
        }
        Poll::Ready(last_frame(Some(end)))
    }

    /// Nobody wants the rest.
    fn drop_rest(&self) {
        if let Some((download, hook)) = self.take(self.state()) {
            let status = Status::new(Code::Cancelled, "the response was dropped");
            download.end(hook, Some(&status), None);
        }
    }

    /// The stream, to be ended by whoever comes first.
    fn take(&self, mut state: MutexGuard<'_, State<H>>) -> Option<(Download, H)> {
        let (open, key) = (state.open.take(), state.key.take());
        drop(state);
        if let Some(key) = key {
            self.shared.deadlines.remove(key);
        }
        open
    }

    /// Ends the stream from outside, with what has arrived of it if that is all, else with `instead`.
    fn end_with(&self, instead: impl FnOnce() -> tonic::Status) {
        let mut state = self.state();
        let State { open, ready, .. } = &mut *state;
        let Some((download, _)) = open else { return };
        let mut cx = Context::from_waker(Waker::noop());
        let end = loop {
            match download.poll_next(&mut cx) {
                Poll::Ready(Next::Data(data)) => ready.push_back(data),
                Poll::Ready(Next::End(end)) => break end,
                Poll::Pending => {
                    ready.clear();
                    break Err(instead());
                }
            }
        };
        state.end = Some(end.clone());
        let reader = state.reader.take();
        if let Some((download, hook)) = self.take(state) {
            tell(download, hook, &end);
        }
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        // Every change under the lock is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: EndHook> Expire for Reading<H> {
    fn expire(&self) {
        self.end_with(late);
    }

    fn settle(&self) {
        self.end_with(|| status::to_tonic(&self.shared.broken()));
    }
}

fn late() -> tonic::Status {
    tonic::Status::deadline_exceeded("the deadline passed during the response")
}

// === impl WatchedBody ===

impl<H: EndHook> http_body::Body for WatchedBody<H> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.0.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.state();
        state.open.is_none() && state.ready.is_empty() && state.end.is_none()
    }
}

impl<H: EndHook> Drop for WatchedBody<H> {
    fn drop(&mut self) {
        self.0.drop_rest();
    }
}

// === impl WholeBody ===

impl http_body::Body for WholeBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Poll::Ready(match self.data.take() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => last_frame(self.end.take()),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.end.is_none()
    }
}
