//! One request body for several attempts of an RPC, one after the other or side by side.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::replay::{Charge, ReplayBudget, charge, poll_body};

/// A request body that each attempt reads from its start.
///
/// What was pulled is remembered up to a limit. The attempt that pulls more than that *commits* the
/// body: from then on it is the only reader.
#[derive(Clone)]
pub(crate) struct SharedBody(Arc<Mutex<Fan>>);

/// One attempt's way through a [`SharedBody`].
pub(crate) struct Reader {
    body: SharedBody,
    id: u32,
    /// The next of the chunks that were pulled.
    next: usize,
}

struct Fan {
    body: tonic::body::Body,
    /// What was pulled: from the start, or from where the only reader is.
    pulled: Vec<Bytes>,
    pulled_bytes: usize,
    limit: usize,
    ended: bool,
    charge: Option<Charge>,
    /// The only reader from now on.
    committed: Option<u32>,
    readers: u32,
}

// === impl SharedBody ===

impl SharedBody {
    /// Remembers up to `limit` bytes of `body`.
    pub(crate) fn new(body: tonic::body::Body, limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Fan {
            body,
            pulled: Vec::new(),
            pulled_bytes: 0,
            limit,
            ended: false,
            charge: None,
            committed: None,
            readers: 0,
        })))
    }

    /// A reader at the start. `id` is the attempt's number.
    pub(crate) fn reader(&self, id: u32) -> Reader {
        self.fan().readers += 1;
        Reader {
            body: self.clone(),
            id,
            next: 0,
        }
    }

    /// The only attempt that can still read it to its end.
    pub(crate) fn committed(&self) -> Option<u32> {
        self.fan().committed
    }

    fn fan(&self) -> MutexGuard<'_, Fan> {
        // Held while the application's body is polled: only the RPC's own task does that, or the
        // pump that it has become. A panic of that body leaves the fan as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reader ===

impl Reader {
    /// Whether it cannot read from the start again.
    pub(super) fn is_committed(&self) -> bool {
        self.body.committed().is_some()
    }

    /// Nobody else reads from here on, and nothing is remembered.
    pub(super) fn commit(&mut self) {
        let mut fan = self.body.fan();
        fan.commit(self.id);
        let read = self.next.min(fan.pulled.len());
        fan.pulled.drain(..read);
        self.next = 0;
    }

    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// The only chunk that was pulled in this attempt did not leave.
    pub(super) fn put_back(&mut self, chunk: Option<Bytes>) {
        let mut fan = self.body.fan();
        if fan.committed == Some(self.id) && self.next == 0 {
            fan.pulled.splice(..0, chunk);
        }
        self.next = 0;
    }

    pub(super) fn poll_chunk(
        &mut self,
        budget: &Arc<ReplayBudget>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, tonic::Status>>> {
        let mut fan = self.body.fan();
        if fan.committed.is_some_and(|only| only != self.id) {
            // About to be cancelled.
            return Poll::Pending;
        }
        if self.next < fan.pulled.len() {
            let chunk = if fan.committed.is_some() {
                fan.pulled.remove(self.next)
            } else {
                self.next += 1;
                fan.pulled[self.next - 1].clone()
            };
            return Poll::Ready(Some(Ok(chunk)));
        }
        if fan.ended {
            return Poll::Ready(None);
        }
        let pulled = ready!(poll_body(&mut fan.body, cx));
        if let Some(Ok(chunk)) = &pulled {
            if fan.remember(chunk, budget) {
                self.next += 1;
            } else if fan.committed.is_none() {
                fan.commit(self.id);
                fan.pulled = Vec::new();
                self.next = 0;
            }
        } else {
            fan.ended = true;
        }
        if fan.readers > 1 {
            // The others may have found nothing when they looked.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(pulled)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.body.fan().readers -= 1;
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("id", &self.id)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

// === impl Fan ===

impl Fan {
    fn commit(&mut self, id: u32) {
        self.committed.get_or_insert(id);
        self.charge = None;
    }

    /// Whether there was room for it.
    fn remember(&mut self, chunk: &Bytes, budget: &Arc<ReplayBudget>) -> bool {
        if self.committed.is_some() {
            return false;
        }
        self.pulled_bytes += chunk.len();
        let fits =
            self.pulled_bytes <= self.limit && charge(&mut self.charge, budget, self.pulled_bytes);
        if fits {
            self.pulled.push(chunk.clone());
        }
        fits
    }
}

impl fmt::Debug for SharedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages may be secrets.
        f.debug_struct("SharedBody")
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use http_body::Frame;

    use super::*;

    /// Has a chunk whenever it is looked at for the second time.
    struct Hesitant(bool);

    impl http_body::Body for Hesitant {
        type Data = Bytes;
        type Error = tonic::Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
            self.0 = !self.0;
            if self.0 {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"chunk")))))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_reader_that_found_nothing_hears_of_what_another_found() {
        let body = SharedBody::new(tonic::body::Body::new(Hesitant(false)), 100);
        let (mut first, mut second) = (body.reader(0), body.reader(1));
        let budget = ReplayBudget::new(100);
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(first.poll_chunk(&budget, &mut cx).is_pending());
        assert!(second.poll_chunk(&budget, &mut cx).is_ready());
        assert_eq!(woken.0.load(SeqCst), 1, "the first must look again");
        assert!(first.poll_chunk(&budget, &mut cx).is_ready());
    }
}
