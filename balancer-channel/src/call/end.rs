//! The end of an RPC whose response had begun, as the policy hears of it.

use std::sync::Arc;

use balancer_api::{Code, Done, DoneInfo, Status};
use balancer_channel_core::Core;
use tokio::time::Instant;

use super::throttle::Throttle;
use crate::{
    env::TokioEnv,
    orca,
    transport::{EndHook, RpcEnd},
};

/// Tells the policy how an RPC ended whose response had begun.
pub(super) struct CallEnd {
    pub(super) done: Done,
    /// `None` where nobody wants to know.
    pub(super) core: Option<Core<TokioEnv>>,
    pub(super) deadline: Option<Instant>,
    pub(super) throttle: Option<Arc<Throttle>>,
}

// === impl CallEnd ===

impl EndHook for CallEnd {
    fn on_end(self, end: &RpcEnd<'_>) {
        if let Some(throttle) = &self.throttle
            && end.status.is_none()
        {
            throttle.succeeded();
        }
        let Some(core) = self.core else { return };
        let load = end.trailers.and_then(orca::load_report);
        let mut info = DoneInfo::new()
            .with_bytes_sent(end.bytes_sent > 0)
            .with_bytes_received(end.bytes_received > 0 || end.trailers.is_some())
            .with_source(core.source());
        let late;
        if let Some(status) = end.status {
            info = info.with_err(status);
            if status.code() == Code::Cancelled
                && end.trailers.is_none()
                && self.deadline.is_some_and(|at| at <= Instant::now())
            {
                // Its body was dropped, or reset by the server, since the time was over.
                late = Status::new(
                    Code::DeadlineExceeded,
                    "the deadline passed during the response",
                );
                info = info.with_err(&late);
            }
        }
        if let Some(trailers) = end.trailers {
            info = info.with_trailers(trailers);
        }
        if let Some(load) = &load {
            info = info.with_server_load(load);
        }
        self.done.complete(&info);
    }
}
