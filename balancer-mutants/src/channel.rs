//! Wrong channels: the kit's own channel with one fault between it and the policy.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn,
    ConnectivityState as State, Dialer, NewSubConnError, NewSubConnOptions, Pick, PickError,
    PickOptions, Picker, Rejected, ResolveError, ResolvedAddrs, Status, SubConn, SubConnHandle,
    SubConnState, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

/// What is wrong with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the tests describe them")]
pub enum Fault {
    None,
    LeavesOutConnecting,
    LossIsAFailure,
    ShutdownTwice,
    NewsAfterShutdown,
    ShutdownUnasked,
    NewsAfterClose,
    StateBeforeConnect,
    NeverSettles,
    TimerTwice,
    TimerEarly,
    CancelledTimerFires,
    HeadersAfterMessage,
    TwoEnds,
    CallAfterCancel,
    ClockGoesBack,
    SubConnAfterClose,
    DoneForgotten,
}

/// `inner` behind a channel with a fault.
pub struct Faulty {
    fault: Fault,
    inner: Arc<dyn Builder>,
}

struct FaultyBalancer {
    fault: Fault,
    inner: Box<dyn Balancer>,
    conn: Arc<FaultyConn>,
    last_gone: Option<SubConn>,
    told_unasked: bool,
}

struct FaultyConn {
    fault: Fault,
    parent: Arc<dyn ClientConn>,
    made: Mutex<Vec<SubConn>>,
    timers: Mutex<Vec<TimerId>>,
    cancelled: Mutex<Vec<TimerId>>,
    cancelled_calls: Mutex<Vec<CallId>>,
    reads: AtomicU64,
}

struct Forgetful(Arc<dyn Picker>);
struct Nobody;

// === impl Faulty ===

impl Faulty {
    /// `inner` behind a channel with `fault`.
    pub fn channel(fault: Fault, inner: Arc<dyn Builder>) -> Self {
        Self { fault, inner }
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({:?})", self.fault)
    }
}

impl Builder for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let conn = Arc::new(FaultyConn {
            fault: self.fault,
            parent: cc,
            made: Mutex::default(),
            timers: Mutex::default(),
            cancelled: Mutex::default(),
            cancelled_calls: Mutex::default(),
            reads: AtomicU64::new(0),
        });
        let inner = self.inner.build(conn.clone(), options);
        Box::new(FaultyBalancer {
            fault: self.fault,
            inner,
            conn,
            last_gone: None,
            told_unasked: false,
        })
    }
}

fn taken<T>(of: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut of.lock().unwrap_or_else(PoisonError::into_inner))
}

fn keep<T>(of: &Mutex<Vec<T>>, value: T) {
    of.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(value);
}

// === impl FaultyBalancer ===

impl Balancer for FaultyBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let lost = Status::unavailable("lost");
        match (self.fault, new.state) {
            (Fault::LeavesOutConnecting, State::Connecting) => return,
            (Fault::LossIsAFailure, State::Idle) => {
                let failed = SubConnState::new(State::TransientFailure).with_error(&lost);
                self.inner.handle_sub_conn_state_change(sub_conn, &failed);
            }
            (Fault::NewsAfterShutdown, State::Shutdown) => self.last_gone = Some(sub_conn.clone()),
            (Fault::ShutdownTwice, State::Shutdown) => {
                self.inner.handle_sub_conn_state_change(sub_conn, new);
            }
            (Fault::ShutdownUnasked, State::Ready) if !self.told_unasked => {
                self.told_unasked = true;
                self.inner.handle_sub_conn_state_change(sub_conn, new);
                let gone = SubConnState::new(State::Shutdown);
                self.inner.handle_sub_conn_state_change(sub_conn, &gone);
                return;
            }
            _ => {}
        }
        self.inner.handle_sub_conn_state_change(sub_conn, new);
        if let Some(gone) = self.last_gone.take() {
            let idle = SubConnState::new(State::Idle);
            self.inner.handle_sub_conn_state_change(&gone, &idle);
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let answer = self.inner.handle_resolved_addrs(resolved);
        if self.fault == Fault::StateBeforeConnect {
            for sub_conn in taken(&self.conn.made) {
                let connecting = SubConnState::new(State::Connecting);
                self.inner
                    .handle_sub_conn_state_change(&sub_conn, &connecting);
            }
        }
        if self.fault == Fault::TimerEarly {
            for timer in taken(&self.conn.timers) {
                self.inner.handle_timer(timer);
            }
        }
        answer
    }

    fn close(&mut self) {
        self.inner.close();
        if self.fault == Fault::NewsAfterClose {
            self.inner.settle();
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.inner.handle_timer(id);
        if self.fault == Fault::TimerTwice {
            self.inner.handle_timer(id);
        }
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let is_message = matches!(event, CallEvent::Message(_));
        let ends = event.is_end();
        self.inner.handle_call_event(id, event.clone());
        if self.fault == Fault::HeadersAfterMessage && is_message {
            let headers = CallEvent::Headers(Default::default());
            self.inner.handle_call_event(id, headers);
        }
        if self.fault == Fault::TwoEnds && ends {
            self.inner.handle_call_event(id, event);
        }
    }

    fn exit_idle(&mut self) {
        self.inner.exit_idle();
    }

    fn settle(&mut self) {
        if self.fault != Fault::NeverSettles {
            self.inner.settle();
        }
        if self.fault == Fault::CancelledTimerFires {
            for timer in taken(&self.conn.cancelled) {
                self.inner.handle_timer(timer);
            }
        }
        if self.fault == Fault::CallAfterCancel {
            for call in taken(&self.conn.cancelled_calls) {
                let message = CallEvent::Message(Bytes::new());
                self.inner.handle_call_event(call, message);
            }
        }
    }
}

// === impl FaultyConn ===

impl ClientConn for FaultyConn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let made = self.parent.new_sub_conn(addresses, options);
        match (&made, self.fault) {
            (Ok(sub_conn), _) => keep(&self.made, sub_conn.clone()),
            (Err(_), Fault::SubConnAfterClose) => return Ok(SubConn::new(Arc::new(Nobody))),
            (Err(_), _) => {}
        }
        made
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        self.parent.remove_sub_conn(sub_conn);
    }

    fn update_balancer_state(&self, state: State, picker: Arc<dyn Picker>) {
        let picker: Arc<dyn Picker> = match self.fault {
            Fault::DoneForgotten => Arc::new(Forgetful(picker)),
            _ => picker,
        };
        self.parent.update_balancer_state(state, picker);
    }

    fn target(&self) -> &str {
        self.parent.target()
    }

    fn resolve_now(&self) {
        self.parent.resolve_now();
    }

    fn now(&self) -> Timestamp {
        let now = self.parent.now();
        match self.fault {
            Fault::ClockGoesBack => {
                let reads = self.reads.fetch_add(1, Relaxed);
                now + Duration::from_secs(1_000_u64.saturating_sub(reads))
            }
            _ => now,
        }
    }

    fn random(&self) -> u64 {
        self.parent.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let id = self.parent.set_timer(after);
        keep(&self.timers, id);
        id
    }

    fn cancel_timer(&self, id: TimerId) {
        keep(&self.cancelled, id);
        self.parent.cancel_timer(id);
    }

    fn wake(&self) {
        self.parent.wake();
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        self.parent.start_call(sub_conn, request)
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.parent.send_call_message(id, message);
    }

    fn close_call_send(&self, id: CallId) {
        self.parent.close_call_send(id);
    }

    fn cancel_call(&self, id: CallId) {
        keep(&self.cancelled_calls, id);
        self.parent.cancel_call(id);
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        self.parent.new_lookaside(target, credentials, dialer)
    }
}

impl Picker for Forgetful {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let pick = self.0.pick(options)?;
        let sub_conn = pick.sub_conn().clone();
        // The observers are never told, not even by a drop.
        std::mem::forget(pick.into_parts());
        Ok(Pick::owned(sub_conn))
    }
}

impl SubConnHandle for Nobody {
    fn connect(&self) {}
    fn update_addresses(&self, _: Vec<Address>) {}
}
