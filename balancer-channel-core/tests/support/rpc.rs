//! An RPC as a channel makes it: pick, wait for the next picker, pick again.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use balancer_api::{Done, DoneInfo, PickError, PickOptions};
use balancer_channel_core::{Core, PickOutcome};
use futures_util::future::{AbortHandle, Abortable};

use super::{SimEnv, net::OpenStream};

/// An RPC under way, or over.
pub(crate) struct Rpc {
    shared: Arc<Shared>,
    cancel: AbortHandle,
}

#[derive(Default)]
struct Shared {
    outcome: Mutex<Option<String>>,
    /// How often it has asked a picker or found none.
    looks: AtomicUsize,
    open: AtomicBool,
    stream: Mutex<Option<(OpenStream, Done)>>,
}

impl Rpc {
    /// Starts one; `open` RPCs stay on their connection until they are finished.
    pub(crate) fn start(
        env: &SimEnv,
        core: &Core<SimEnv>,
        wait_for_ready: bool,
        open: bool,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        shared.open.store(open, Ordering::SeqCst);
        let (cancel, registration) = AbortHandle::new_pair();
        let rpc = run(core.clone(), wait_for_ready, shared.clone());
        let rpc = Abortable::new(rpc, registration);
        env.sim.spawn(Box::pin(async move {
            let _ = rpc.await;
        }));
        Self { shared, cancel }
    }

    /// How it ended or where it went; "waits" while it waits.
    pub(crate) fn outcome(&self) -> String {
        let outcome = self.shared.outcome.lock().unwrap().clone();
        outcome.unwrap_or_else(|| "waits".to_owned())
    }

    pub(crate) fn looks(&self) -> usize {
        self.shared.looks.load(Ordering::SeqCst)
    }

    pub(crate) fn cancel(&self) {
        self.cancel.abort();
    }

    /// An open RPC ends well.
    pub(crate) fn finish(&self) {
        let stream = self.shared.stream.lock().unwrap().take();
        let (_, done) = stream.expect("an open RPC");
        done.complete(&DoneInfo::new());
    }
}

/// What people and logs call the end of an RPC.
pub(crate) fn words(error: &PickError) -> String {
    match error {
        PickError::Drop(status) => format!("drop {}: {}", status.code(), status.message()),
        PickError::TransientFailure(Some(why)) => format!("unavailable: {why}"),
        PickError::Failed(why) => format!("failed: {why}"),
        other => other.to_string(),
    }
}

async fn run(core: Core<SimEnv>, wait_for_ready: bool, shared: Arc<Shared>) {
    let outcome = loop {
        shared.looks.fetch_add(1, Ordering::SeqCst);
        let options = PickOptions::new("/s/m")
            .with_wait_for_ready(wait_for_ready)
            .with_source(core.source());
        match core.current().pick(&options) {
            PickOutcome::Complete(attempt) => {
                let wire = attempt.connection.wire();
                let address = wire.address.clone();
                if shared.open.load(Ordering::SeqCst) {
                    let stream = (wire.open_stream(), attempt.done);
                    *shared.stream.lock().unwrap() = Some(stream);
                } else {
                    wire.answer();
                    attempt.done.complete(&DoneInfo::new());
                }
                break address;
            }
            PickOutcome::Wait { generation, .. } => {
                if let Err(full) = core.next_picker(generation).await {
                    break full.to_string();
                }
            }
            PickOutcome::Fail(error) => break words(&error),
            PickOutcome::Closed(status) => {
                break format!("{}: {}", status.code(), status.message());
            }
        }
    };
    *shared.outcome.lock().unwrap() = Some(outcome);
}
