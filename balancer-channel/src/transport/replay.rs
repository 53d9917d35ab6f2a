//! A request body that can be sent from its start again, within limits.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body as _;
use smallvec::SmallVec;

use super::fan::Reader;

/// A request body that remembers what was pulled from it, so that it can be sent once more.
///
/// It remembers up to a limit; beyond that the request is *committed*: it cannot be sent again.
pub(crate) struct ReplayBody {
    source: Source,
    /// What was pulled, from the start; chunks share their bytes with the transport.
    pulled: SmallVec<[Bytes; 1]>,
    pulled_bytes: usize,
    /// The next of `pulled` to give out again.
    next: usize,
    limit: usize,
    ended: bool,
    committed: bool,
    charge: Option<Charge>,
}

/// How many bytes all RPCs of a channel may remember together.
///
/// A body that is small is not counted: the transport holds its bytes as long.
#[derive(Debug)]
pub(crate) struct ReplayBudget {
    used: AtomicUsize,
    max: usize,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<ReplayBudget>,
    bytes: usize,
}

enum Source {
    /// Of one attempt.
    Own(tonic::body::Body),
    /// One of several attempts; it remembers itself.
    Shared(Reader),
}

/// Bodies up to this size are remembered for nothing.
const SMALL: usize = 16 * 1024;

// === impl ReplayBody ===

impl ReplayBody {
    /// As in gRPC-Go.
    pub(crate) const DEFAULT_LIMIT: usize = 256 * 1024;

    /// Remembers up to `limit` bytes of `body`.
    #[inline]
    pub(crate) fn new(body: tonic::body::Body, limit: usize) -> Self {
        Self::of(Source::Own(body), limit)
    }

    /// The body of one of several attempts.
    pub(crate) fn shared(reader: Reader) -> Self {
        Self::of(Source::Shared(reader), 0)
    }

    #[inline]
    fn of(source: Source, limit: usize) -> Self {
        Self {
            source,
            pulled: SmallVec::new(),
            pulled_bytes: 0,
            next: 0,
            limit,
            ended: false,
            committed: false,
            charge: None,
        }
    }

    /// Remembers up to `limit` bytes instead.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether it is too late to send the body from its start again.
    pub(crate) fn is_committed(&self) -> bool {
        match &self.source {
            Source::Own(_) => self.committed,
            Source::Shared(reader) => reader.is_committed(),
        }
    }

    /// The body, for something else to send it. Nothing may have been pulled yet.
    pub(crate) fn take(&mut self) -> (tonic::body::Body, usize) {
        debug_assert!(self.pulled_bytes == 0, "what was pulled would be lost");
        let body = match &mut self.source {
            Source::Own(body) => std::mem::take(body),
            Source::Shared(_) => tonic::body::Body::empty(),
        };
        (body, self.limit)
    }

    /// Lets `wrap` look at what is pulled from here on.
    pub(crate) fn map(&mut self, wrap: impl FnOnce(tonic::body::Body) -> tonic::body::Body) {
        if let Source::Own(body) = &mut self.source {
            *body = wrap(std::mem::take(body));
        }
    }

    /// Remembers nothing from here on.
    pub(super) fn commit(&mut self) {
        if let Source::Shared(reader) = &mut self.source {
            reader.commit();
        }
        self.committed = true;
        self.pulled.drain(..self.next);
        self.next = 0;
        self.charge = None;
    }

    /// The body will be pulled from its start again.
    pub(super) fn rewind(&mut self) {
        debug_assert!(!self.is_committed(), "it cannot be sent again");
        self.next = 0;
        if let Source::Shared(reader) = &mut self.source {
            self.ended = false;
            reader.rewind();
        }
    }

    /// The only chunk that was pulled in this attempt did not leave: the body is as before, however
    /// large the chunk is.
    pub(super) fn put_back(&mut self, chunk: Option<Bytes>) {
        match &mut self.source {
            Source::Shared(reader) => {
                self.ended = false;
                reader.put_back(chunk);
            }
            Source::Own(_) if self.committed => {
                self.pulled.clear();
                self.pulled.extend(chunk);
                self.next = 0;
            }
            Source::Own(_) => self.next = 0,
        }
    }

    /// The next chunk; never an empty one.
    #[inline]
    pub(super) fn poll_chunk(
        &mut self,
        budget: &Arc<ReplayBudget>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, tonic::Status>>> {
        if let Some(chunk) = self.pulled.get_mut(self.next) {
            self.next += 1;
            let chunk = if self.committed {
                std::mem::take(chunk)
            } else {
                chunk.clone()
            };
            return Poll::Ready(Some(Ok(chunk)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let pulled = match &mut self.source {
            Source::Own(body) => ready!(poll_body(body, cx)),
            Source::Shared(reader) => {
                let pulled = ready!(reader.poll_chunk(budget, cx));
                self.ended = !matches!(pulled, Some(Ok(_)));
                return Poll::Ready(pulled);
            }
        };
        match &pulled {
            Some(Ok(chunk)) => self.remember(chunk, budget),
            Some(Err(_)) | None => self.ended = true,
        }
        Poll::Ready(pulled)
    }

    #[inline]
    fn remember(&mut self, chunk: &Bytes, budget: &Arc<ReplayBudget>) {
        if self.committed {
            return;
        }
        self.pulled_bytes += chunk.len();
        if self.pulled_bytes > self.limit || !charge(&mut self.charge, budget, self.pulled_bytes) {
            self.committed = true;
            self.pulled = SmallVec::new();
            self.next = 0;
            self.charge = None;
        } else {
            self.pulled.push(chunk.clone());
            self.next += 1;
        }
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages may be secrets.
        f.debug_struct("ReplayBody")
            .field("pulled_bytes", &self.pulled_bytes)
            .field("ended", &self.ended)
            .field("committed", &self.committed)
            .finish_non_exhaustive()
    }
}

/// The next chunk of `body`; never an empty one.
#[inline]
pub(super) fn poll_body(
    body: &mut tonic::body::Body,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, tonic::Status>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            // Requests of gRPC have no trailers.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) if !chunk.is_empty() => return Poll::Ready(Some(Ok(chunk))),
                _ => {}
            },
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            None => return Poll::Ready(None),
        }
    }
}

// === impl ReplayBudget ===

impl ReplayBudget {
    /// As in gRPC-Java.
    pub(crate) const DEFAULT_MAX: usize = 16 * 1024 * 1024;

    /// For `max` bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            max,
        })
    }

    /// How much is remembered now, small bodies aside.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let grown = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if grown > self.max {
            self.used.fetch_sub(bytes, Relaxed);
        }
        grown <= self.max
    }
}

/// Makes `charge` one for `bytes` in all. Whether the budget had so much.
pub(super) fn charge(
    charge: &mut Option<Charge>,
    budget: &Arc<ReplayBudget>,
    bytes: usize,
) -> bool {
    if bytes <= SMALL {
        return true;
    }
    let charge = charge.get_or_insert_with(|| Charge {
        budget: budget.clone(),
        bytes: 0,
    });
    let more = bytes.saturating_sub(charge.bytes);
    let granted = charge.budget.take(more);
    if granted {
        charge.bytes = bytes;
    }
    granted
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(body: &mut ReplayBody, budget: &Arc<ReplayBudget>) -> Option<Bytes> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match body.poll_chunk(budget, &mut cx) {
            Poll::Ready(Some(Ok(chunk))) => Some(chunk),
            Poll::Ready(None) => None,
            other => panic!("a body that is all there: {other:?}"),
        }
    }

    fn body(bytes: usize, limit: usize) -> ReplayBody {
        let full = http_body_util::Full::new(Bytes::from(vec![7; bytes]));
        ReplayBody::new(tonic::body::Body::new(full), limit)
    }

    #[test]
    fn a_large_chunk_that_did_not_leave_is_sent_elsewhere() {
        let budget = ReplayBudget::new(usize::MAX);
        let mut body = body(9, 8);
        let chunk = pull(&mut body, &budget).expect("a chunk");
        assert!(body.is_committed(), "too large to remember");
        body.put_back(Some(chunk));
        assert_eq!(pull(&mut body, &budget).map(|chunk| chunk.len()), Some(9));
        assert_eq!(pull(&mut body, &budget), None);
    }

    #[test]
    fn what_is_remembered_is_counted_and_given_back() {
        let budget = ReplayBudget::new(50_000);
        let mut small = body(SMALL, 1 << 20);
        pull(&mut small, &budget).expect("a chunk");
        assert_eq!(budget.used(), 0, "small ones are not");
        let mut first = body(30_000, 1 << 20);
        pull(&mut first, &budget).expect("a chunk");
        assert_eq!(budget.used(), 30_000);
        let mut second = body(30_000, 1 << 20);
        pull(&mut second, &budget).expect("a chunk");
        assert!(second.is_committed() && !first.is_committed());
        assert_eq!(budget.used(), 30_000);
        first.commit();
        assert_eq!(budget.used(), 0);
    }
}
