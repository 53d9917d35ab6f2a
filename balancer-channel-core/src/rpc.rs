//! The pick of one RPC: load, pick, take the connection. No lock, no allocation, no hop.

use std::fmt;

use balancer_api::{
    Code, ConnectivityState as State, Done, DoneInfo, PickError, PickOptions, Status, SubConn,
};
use http::HeaderMap;

use crate::{
    contain::contain,
    env::Env,
    picker_cell::Published,
    queue::Item,
    shared::Shared,
    sub_conn::SubConnCell,
    sync::{Arc, Ordering, SwapGuard},
};

/// A connection to send an RPC on, and what goes with it.
#[derive(Debug)]
#[must_use = "its `done` has to be told how the RPC ended"]
pub struct Attempt<C> {
    /// The connection of the picked SubConn. Tied to no picker.
    pub connection: Arc<C>,
    /// What was picked; `tried` on a retry.
    pub sub_conn: SubConn,
    /// Who wants to know how the RPC ends.
    pub done: Done,
    /// To send along.
    pub metadata: Option<Box<HeaderMap>>,
}

/// What became of a pick.
#[derive(Debug)]
pub enum PickOutcome<C> {
    /// Send it.
    Complete(Attempt<C>),
    /// Wait for a picker newer than the generation, then pick again.
    Wait {
        /// Which picker was asked; 0 for none.
        generation: u64,
        /// The policy's last word, for the message of a deadline.
        why: Option<PickError>,
    },
    /// The RPC fails.
    Fail(PickError),
    /// The channel is closed.
    Closed(Status),
}

/// The publication of this moment: what calls need of the service config, and the picker.
///
/// Holds the publication by one atomic load; drop it before anything is awaited.
pub struct Current<'a, E: Env> {
    shared: &'a Shared<E>,
    /// The generation before the load: a publication in between only makes a wait end at once.
    seen: u64,
    published: SwapGuard<Published<E::RpcConfig>>,
}

/// A picker that panicked so often is not asked any more.
const MAX_PANICS: u32 = 3;

// === impl Current ===

impl<'a, E: Env> Current<'a, E> {
    #[inline]
    pub(crate) fn of(shared: &'a Shared<E>) -> Self {
        let seen = shared.cell.generation();
        Self {
            shared,
            seen,
            published: shared.cell.load(),
        }
    }

    /// What calls need of the service config; `None` before the resolver has answered.
    #[inline]
    pub fn config(&self) -> Option<&Arc<E::RpcConfig>> {
        self.published.as_ref().map(|published| &published.config)
    }

    /// Asks the picker, once; wakes an idle channel.
    ///
    /// # Blocking
    /// Never. Takes no lock and allocates nothing unless the RPC has to wait or fails.
    #[inline]
    pub fn pick(&self, options: &PickOptions<'_>) -> PickOutcome<E::Connection> {
        match &*self.published {
            Some(published) => self.shared.pick_from(published, options),
            None => self.shared.no_picker(self.seen),
        }
    }
}

impl<E: Env> fmt::Debug for Current<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("published", &*self.published)
            .finish_non_exhaustive()
    }
}

// === impl Shared: picking ===

impl<E: Env> Shared<E> {
    #[inline]
    fn pick_from(
        &self,
        published: &Published<E::RpcConfig>,
        options: &PickOptions<'_>,
    ) -> PickOutcome<E::Connection> {
        let generation = published.generation;
        if !self.used.load(Ordering::Relaxed) {
            // Once between two looks of the balancer's task: the line stays shared.
            self.used.store(true, Ordering::Relaxed);
        }
        let picked = match contain(|| published.picker.pick(options)) {
            Ok(picked) => picked,
            Err(message) => return self.pick_panicked(published, &message),
        };
        match picked {
            Ok(pick) => {
                let sub_conn = pick.sub_conn().clone();
                let (done, metadata) = pick.into_parts();
                let Some(cell) = SubConnCell::<E::Connection>::of(&sub_conn)
                    .filter(|cell| cell.belongs_to(&self.queue) && cell.lookaside.is_none())
                else {
                    done.complete(&DoneInfo::new().with_source(self));
                    return Self::not_a_backend(published);
                };
                let connection = cell.connection();
                match &*connection {
                    Some(connection) => {
                        let connection = connection.clone();
                        PickOutcome::Complete(Attempt {
                            connection,
                            sub_conn,
                            done,
                            metadata,
                        })
                    }
                    None => {
                        // Not READY after all: nothing was sent, and a newer picker will come. A
                        // lazy policy may have picked an IDLE SubConn on purpose: start it.
                        done.complete(&DoneInfo::new().with_source(self));
                        sub_conn.connect();
                        PickOutcome::Wait {
                            generation,
                            why: None,
                        }
                    }
                }
            }
            Err(PickError::NoSubConnAvailable) => {
                if published.state == State::Idle && !published.kicked.swap(true, Ordering::Relaxed)
                {
                    self.queue.push(Item::ExitIdle);
                }
                PickOutcome::Wait {
                    generation,
                    why: None,
                }
            }
            Err(error @ PickError::TransientFailure(_)) if options.wait_for_ready() => {
                PickOutcome::Wait {
                    generation,
                    why: Some(error),
                }
            }
            Err(error) => PickOutcome::Fail(error),
        }
    }

    #[cold]
    fn no_picker(&self, seen: u64) -> PickOutcome<E::Connection> {
        if let Some(reason) = self.cell.closed() {
            return PickOutcome::Closed(reason.clone());
        }
        // Who finds the flag set finds an item in the queue, or about to be: the balancer's task takes
        // it back before it acts, and going idle wakes everybody to look again.
        if self.cell.is_idle() && !self.rouse_queued.swap(true, Ordering::AcqRel) {
            self.queue.push(Item::ExitIdle);
        }
        PickOutcome::Wait {
            generation: seen,
            why: None,
        }
    }

    /// Another channel's SubConn, one to something that is no backend, or a made-up one.
    #[cold]
    fn not_a_backend(published: &Published<E::RpcConfig>) -> PickOutcome<E::Connection> {
        let text = format!(
            "LB policy \"{}\" picked a SubConn that is no backend of this channel",
            published.policy
        );
        PickOutcome::Fail(PickError::drop(Status::new(Code::Internal, text)))
    }

    #[cold]
    fn pick_panicked(
        &self,
        published: &Published<E::RpcConfig>,
        message: &str,
    ) -> PickOutcome<E::Connection> {
        // Told once per publication, however many RPCs meet it.
        if published.panics.fetch_add(1, Ordering::Relaxed) + 1 == MAX_PANICS {
            self.queue.push(Item::PickerPanicked {
                generation: published.generation,
                message: message.into(),
            });
        }
        let text = format!(
            "picker of LB policy \"{}\" panicked: {message}",
            published.policy
        );
        PickOutcome::Fail(PickError::drop(Status::new(Code::Internal, text)))
    }
}
