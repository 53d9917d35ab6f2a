//! The channel's state, for those who watch it: no state is skipped.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use balancer_api::ConnectivityState as State;
use futures_util::Stream;

use crate::sync::{Arc, Mutex, lock};

/// The channel's connectivity state, and who is told of its changes.
#[derive(Clone)]
pub(crate) struct StateWatch(Arc<Mutex<Inner>>);

struct Inner {
    state: State,
    watchers: Vec<Watcher>,
    next_id: u64,
}

struct Watcher {
    id: u64,
    unread: VecDeque<State>,
    lagged: bool,
    waker: Option<Waker>,
}

/// The states of a channel from the moment of subscription on, the current one first; ends after
/// SHUTDOWN.
///
/// Every state is seen, in order, also when several follow each other at once. A reader that falls
/// more than 64 behind loses the oldest and finds that out by [`lagged`](Self::lagged).
pub struct ConnectivityStates {
    watch: StateWatch,
    id: u64,
    done: bool,
}

/// How many unread states are kept for a watcher.
const UNREAD: usize = 64;

// === impl StateWatch ===

impl StateWatch {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            state: State::Idle,
            watchers: Vec::new(),
            next_id: 0,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.0).state
    }

    /// Moves to `state`; a repetition is no move, and nothing follows SHUTDOWN.
    pub(crate) fn set(&self, state: State) -> bool {
        let mut wakers = Vec::new();
        {
            let mut inner = lock(&self.0);
            if inner.state == state || inner.state == State::Shutdown {
                return false;
            }
            inner.state = state;
            for watcher in &mut inner.watchers {
                if watcher.unread.len() == UNREAD {
                    watcher.unread.pop_front();
                    watcher.lagged = true;
                }
                watcher.unread.push_back(state);
                wakers.extend(watcher.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    pub(crate) fn subscribe(&self) -> ConnectivityStates {
        let mut inner = lock(&self.0);
        let id = inner.next_id;
        inner.next_id += 1;
        let unread = VecDeque::from([inner.state]);
        inner.watchers.push(Watcher {
            id,
            unread,
            lagged: false,
            waker: None,
        });
        ConnectivityStates {
            watch: self.clone(),
            id,
            done: false,
        }
    }
}

// === impl ConnectivityStates ===

impl ConnectivityStates {
    /// Whether states were lost since this was last asked.
    pub fn lagged(&mut self) -> bool {
        let mut inner = lock(&self.watch.0);
        let watcher = inner
            .watchers
            .iter_mut()
            .find(|watcher| watcher.id == self.id);
        watcher.is_some_and(|watcher| std::mem::take(&mut watcher.lagged))
    }
}

impl Stream for ConnectivityStates {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<State>> {
        if self.done {
            return Poll::Ready(None);
        }
        let state = {
            let mut inner = lock(&self.watch.0);
            let Some(watcher) = inner.watchers.iter_mut().find(|w| w.id == self.id) else {
                return Poll::Ready(None);
            };
            match watcher.unread.pop_front() {
                Some(state) => state,
                None => {
                    let replaced = watcher.waker.replace(cx.waker().clone());
                    drop(inner);
                    // Outside the lock: dropping a waker may drop a task.
                    drop(replaced);
                    return Poll::Pending;
                }
            }
        };
        self.done = state == State::Shutdown;
        Poll::Ready(Some(state))
    }
}

impl Drop for ConnectivityStates {
    fn drop(&mut self) {
        let mut inner = lock(&self.watch.0);
        let mine = inner.watchers.iter().position(|it| it.id == self.id);
        let left = mine.map(|at| inner.watchers.swap_remove(at));
        drop(inner);
        drop(left);
    }
}

impl fmt::Debug for ConnectivityStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectivityStates").finish_non_exhaustive()
    }
}
