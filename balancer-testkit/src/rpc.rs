//! RPCs of a script: what was picked for them, and how they end.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use balancer_api::{Code, Done, DoneInfo, PickOptions, Picker, Source, Status, SubConn};
use http::HeaderMap;

use crate::{
    End, Outcome, SubId,
    conn::Shared,
    log::address_name,
    world::{done_info, panic_text},
};

/// One RPC: what the picker answered, and the observers that wait for its end.
///
/// Dropping it is what happens when an application drops an RPC.
#[must_use = "dropping it ends the RPC as CANCELLED"]
pub struct Rpc {
    shared: Arc<Shared>,
    outcome: Outcome,
    sub: Option<SubId>,
    sub_conn: Option<SubConn>,
    done: Done,
    metadata: Option<Box<HeaderMap>>,
}

// === impl Rpc ===

impl Rpc {
    pub(crate) fn pick(
        shared: &Arc<Shared>,
        picker: Option<&dyn Picker>,
        options: &PickOptions<'_>,
    ) -> Self {
        let mut rpc = Self {
            shared: shared.clone(),
            outcome: Outcome::NoPicker,
            sub: None,
            sub_conn: None,
            done: Done::none(),
            metadata: None,
        };
        let Some(picker) = picker else {
            return rpc;
        };
        let options = options.with_source(&shared.clock);
        let picked = catch_unwind(AssertUnwindSafe(|| {
            let pick = picker.pick(&options)?;
            let sub_conn = pick.sub_conn().clone();
            let (done, metadata) = pick.into_parts();
            Ok((sub_conn, done, metadata))
        }));
        match picked {
            Ok(Ok((sub_conn, done, metadata))) => {
                rpc.sub = shared.id_of(&sub_conn);
                rpc.outcome = match rpc.sub {
                    None => Outcome::Stranger,
                    Some(id) => {
                        let inner = shared.lock();
                        let sub = &inner.subs[id.index()];
                        Outcome::SubConn {
                            name: sub.name.clone(),
                            address: sub.connected.as_ref().map(|at| address_name(at).into()),
                        }
                    }
                };
                rpc.sub_conn = Some(sub_conn);
                rpc.done = done;
                rpc.metadata = metadata;
            }
            Ok(Err(error)) => rpc.outcome = Outcome::of_error(error),
            Err(payload) => rpc.outcome = Outcome::Panicked(panic_text(&*payload)),
        }
        rpc
    }

    /// What the picker answered.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Which SubConn was picked.
    pub fn sub(&self) -> Option<SubId> {
        self.sub
    }

    /// The SubConn that was picked, for `tried` of the next attempt.
    pub fn sub_conn(&self) -> Option<&SubConn> {
        self.sub_conn.as_ref()
    }

    /// The metadata that the picker wants to be sent.
    pub fn metadata(&self) -> Option<&HeaderMap> {
        self.metadata.as_deref()
    }

    /// Whether an observer waits for the end.
    pub fn is_observed(&self) -> bool {
        !self.done.is_none()
    }

    /// The RPC ends with OK.
    pub fn ok(self) {
        let shared = self.shared.clone();
        self.complete(
            &done_info(&shared.clock)
                .with_bytes_sent(true)
                .with_bytes_received(true),
        );
    }

    /// The RPC ends with `status`, after it was sent.
    pub fn fail(self, status: &Status) {
        let shared = self.shared.clone();
        self.complete(
            &done_info(&shared.clock)
                .with_err(status)
                .with_bytes_sent(true),
        );
    }

    /// The picked SubConn was not READY: nothing is sent, and the RPC waits for another picker.
    pub fn not_sent(self) {
        let shared = self.shared.clone();
        self.complete(&done_info(&shared.clock));
    }

    /// The RPC ends as `info` says; observers that panic are told of in the test's output.
    ///
    /// # Panics
    /// An observer panicked.
    pub fn complete(mut self, info: &DoneInfo<'_>) {
        let done = std::mem::take(&mut self.done);
        let info = info.with_source(&self.shared.clock);
        let panicked = done.complete(&info);
        assert_eq!(panicked, 0, "an observer must not panic");
    }

    /// The RPC ends; answers how many observers panicked.
    pub(crate) fn end(mut self, end: End) -> usize {
        let shared = self.shared.clone();
        let done = std::mem::take(&mut self.done);
        let info = done_info(&shared.clock);
        let status = match end {
            End::Error => Some(Status::unavailable("scripted")),
            End::Dropped => Some(Status::new(Code::Cancelled, "the RPC was dropped")),
            End::Ok | End::Open | End::NotSent => None,
        };
        done.complete(&match (end, &status) {
            (End::Ok | End::Open, _) => info.with_bytes_sent(true).with_bytes_received(true),
            (End::Error, Some(status)) => info.with_err(status).with_bytes_sent(true),
            (_, Some(status)) => info.with_err(status),
            (_, None) => info,
        })
    }

    /// The time now, for load reports that carry one.
    pub fn source(&self) -> &dyn Source {
        &self.shared.clock
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rpc({})", self.outcome)
    }
}
