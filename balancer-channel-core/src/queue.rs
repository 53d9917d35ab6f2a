//! The one FIFO of everything that happens to a channel.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll, Waker},
    time::Duration,
};

use balancer_api::{
    Address, CallEvent, CallId, CallRequest, ResolveError, Status, SubConn, TimerId,
};
use bytes::Bytes;

use crate::{
    contain::contain,
    env::Lost,
    machine::AttemptId,
    resolver::Resolution,
    sub_conn::SubConnCell,
    sync::{Arc, AtomicU64, Mutex, Ordering, lock, this_thread},
};

/// Something to be handled by the balancer's task. Small, since a policy may ask for 100,000 SubConns in
/// one callback: what is seldom and large is in a box.
pub(crate) enum Item<C> {
    // Asked by a policy (of the instance named in the cell or beside it), or by its SubConns.
    NewSubConn(SubConn, Arc<SubConnCell<C>>),
    RemoveSubConn(u64),
    ConnectSubConn(u64),
    UpdateAddresses(u64, Vec<Address>),
    ResolveNow {
        instance: u64,
    },
    SetTimer {
        instance: u64,
        id: TimerId,
        at: balancer_api::Timestamp,
    },
    CancelTimer {
        instance: u64,
        id: TimerId,
    },
    Wake,
    StartCall {
        instance: u64,
        id: CallId,
        sub_conn: SubConn,
        request: Box<CallRequest>,
    },
    SendCallMessage(CallId, Bytes),
    CloseCallSend(CallId),
    CancelCall(CallId),

    // Happened outside.
    Dialled(u64, AttemptId, Result<Arc<C>, Status>),
    Lost(u64, AttemptId, Lost),
    /// RPCs wait for a stream of this SubConn.
    Crowded(u64),
    CallEvent(CallId, Box<CallEvent>, Option<CallPermit>),
    /// Of the watch with this number over a SubConn's backend.
    Health(u64, u64, Box<CallEvent>, CallPermit),
    /// Of the driver with this number.
    Resolved(
        u64,
        Box<Result<Resolution, ResolveError>>,
        futures_channel::oneshot::Sender<Verdict>,
    ),
    PickerPanicked {
        generation: u64,
        message: Arc<str>,
    },

    // Asked by the application.
    ExitIdle,
    EnterIdle,
    ResetBackoff,
    Close(CloseMode),
}

/// Given back when a call's event was delivered, so that the next may be read.
pub(crate) type CallPermit = futures_channel::oneshot::Sender<()>;

/// What became of a resolver result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Rejected(Arc<str>),
}

/// How a channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// RPCs in flight are cancelled.
    Now,
    /// RPCs in flight finish; those that have not by then are cancelled.
    Graceful(Option<Duration>),
}

/// The FIFO, with what a callback of the policy asks set apart until the callback has returned.
pub(crate) struct Queue<C> {
    inner: Mutex<Inner<C>>,
    /// The thread that runs a callback now; 0 for none.
    callback_thread: AtomicU64,
}

struct Inner<C> {
    items: VecDeque<Item<C>>,
    staged: Vec<Item<C>>,
    /// How many of `items` announce a SubConn.
    births: usize,
    waker: Option<Waker>,
    closed: bool,
    /// Whether it was asked to close at once after it was closed gracefully.
    hurry: bool,
}

/// So many items are room for, whatever happens.
const USUAL: usize = 256;

// === impl Item ===

impl<C> Item<C> {
    /// Whether it announces a SubConn.
    pub(crate) fn is_birth(&self) -> bool {
        matches!(self, Self::NewSubConn(..))
    }

    /// Whether only a policy asks for it.
    fn is_of_policy(&self) -> bool {
        !matches!(
            self,
            Self::ExitIdle
                | Self::EnterIdle
                | Self::ResetBackoff
                | Self::Close(_)
                | Self::PickerPanicked { .. }
        )
    }
}

// === impl Queue ===

impl<C> Queue<C> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                staged: Vec::new(),
                births: 0,
                waker: None,
                closed: false,
                hurry: false,
            }),
            callback_thread: AtomicU64::new(0),
        }
    }

    /// Adds an item: to the callback's own when called from within it, else to the FIFO.
    pub(crate) fn push(&self, item: Item<C>) {
        let staged = self.callback_thread.load(Ordering::Relaxed) == this_thread();
        let (waker, refused) = {
            let mut inner = lock(&self.inner);
            if inner.closed {
                inner.hurry |= matches!(item, Item::Close(CloseMode::Now));
                (inner.waker.take(), Some(item))
            } else if staged {
                inner.staged.push(item);
                (None, None)
            } else {
                inner.births += usize::from(item.is_birth());
                inner.items.push_back(item);
                (inner.waker.take(), None)
            }
        };
        drop(refused);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Runs a callback of a policy. What it asked its ClientConn for is answered beside what it
    /// returned, unless it panicked: then it has asked for nothing.
    pub(crate) fn during_callback<T>(
        &self,
        callback: impl FnOnce() -> T,
    ) -> (Result<T, String>, Vec<Item<C>>) {
        self.callback_thread.store(this_thread(), Ordering::Relaxed);
        let result = contain(callback);
        self.callback_thread.store(0, Ordering::Relaxed);
        let mut staged = mem::take(&mut lock(&self.inner).staged);
        if result.is_err() {
            staged.retain(|item| !item.is_of_policy());
        }
        (result, staged)
    }

    pub(crate) fn pop(&self) -> Option<Item<C>> {
        let mut inner = lock(&self.inner);
        let item = inner.items.pop_front();
        inner.births -= usize::from(item.as_ref().is_some_and(Item::is_birth));
        if inner.items.is_empty() {
            // What a very long list of addresses has made it.
            inner.items.shrink_to(USUAL);
        }
        item
    }

    /// Takes the announcement of a SubConn out of its turn: made on another thread, it may be asked
    /// for something by a callback before the queue has come to it.
    pub(crate) fn pop_birth(&self, id: u64) -> Option<(SubConn, Arc<SubConnCell<C>>)> {
        let mut inner = lock(&self.inner);
        if inner.births == 0 {
            return None;
        }
        let is_it = |item: &Item<C>| matches!(item, Item::NewSubConn(_, cell) if cell.id == id);
        let at = inner.items.iter().position(is_it)?;
        inner.births -= 1;
        match inner.items.remove(at) {
            Some(Item::NewSubConn(sub_conn, cell)) => Some((sub_conn, cell)),
            _ => None,
        }
    }

    /// Ready when there is an item.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.inner);
        if !inner.items.is_empty() {
            return Poll::Ready(());
        }
        let replaced = match &inner.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => inner.waker.replace(cx.waker().clone()),
        };
        drop(inner);
        // Outside the lock: dropping a waker may drop a task.
        drop(replaced);
        Poll::Pending
    }

    /// After [`close`](Self::close): ready when the channel is asked to close at once.
    pub(crate) fn poll_hurry(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.inner);
        if inner.hurry {
            return Poll::Ready(());
        }
        let replaced = inner.waker.replace(cx.waker().clone());
        drop(inner);
        drop(replaced);
        Poll::Pending
    }

    /// Refuses everything from now on and drops what is queued.
    pub(crate) fn close(&self) {
        let (items, staged) = {
            let mut inner = lock(&self.inner);
            inner.closed = true;
            inner.births = 0;
            // Asked before anybody looked: it counts as if it came later.
            let hurry = |item: &Item<C>| matches!(item, Item::Close(CloseMode::Now));
            inner.hurry |= inner.items.iter().chain(&inner.staged).any(hurry);
            (mem::take(&mut inner.items), mem::take(&mut inner.staged))
        };
        drop((items, staged));
    }
}
