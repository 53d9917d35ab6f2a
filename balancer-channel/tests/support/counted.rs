//! `round_robin`, with its picks counted, and their ends.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    DoneInfo, OnDone, Pick, PickError, PickOptions, Picker, Rejected, ResolveError, ResolvedAddrs,
    SubConn, SubConnState, TimerId,
};

/// The service config that chooses it.
pub(crate) const CONFIG: &str = r#"{"loadBalancingConfig":[{"counted":{}}]}"#;

/// The counts, shared by the policy's instances.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    picks: AtomicU64,
    dones: AtomicU64,
    /// Ends of RPCs whose HEADERS had left.
    sent: AtomicU64,
    /// How far all picks together are from one end each.
    off: AtomicU64,
    /// Picks whose observer is still held by somebody.
    held: AtomicU64,
}

/// Observes one pick, and judges when everybody has let go of it.
struct Told {
    counts: Arc<Counts>,
    times: AtomicU64,
}

struct Counted(Arc<Counts>);

struct CountedBalancer {
    cc: Arc<dyn ClientConn>,
    child: Child,
    counts: Arc<Counts>,
}

struct CountedPicker {
    child: Arc<dyn Picker>,
    counts: Arc<Counts>,
}

// === impl Counts ===

impl Counts {
    /// The policy that counts here.
    pub(crate) fn policy(self: &Arc<Self>) -> Arc<dyn Builder> {
        Arc::new(Counted(self.clone()))
    }

    /// Picks so far.
    pub(crate) fn picks(&self) -> u64 {
        self.picks.load(Ordering::SeqCst)
    }

    /// Ends of picks so far.
    pub(crate) fn dones(&self) -> u64 {
        self.dones.load(Ordering::SeqCst)
    }

    /// Those of them whose HEADERS had left.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// The sum of |ends - 1| over all picks. One that is still under way counts as well.
    pub(crate) fn deviations(&self) -> u64 {
        self.off.load(Ordering::SeqCst) + self.held.load(Ordering::SeqCst)
    }
}

// === impl Told ===

impl Told {
    fn new(counts: &Arc<Counts>) -> Arc<Self> {
        counts.picks.fetch_add(1, Ordering::SeqCst);
        counts.held.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self {
            counts: counts.clone(),
            times: AtomicU64::new(0),
        })
    }
}

impl OnDone for Told {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        let counts = &self.counts;
        let sent = u64::from(info.bytes_sent());
        counts.sent.fetch_add(sent, Ordering::SeqCst);
        counts.dones.fetch_add(1, Ordering::SeqCst);
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let off = self.times.load(Ordering::SeqCst).abs_diff(1);
        self.counts.off.fetch_add(off, Ordering::SeqCst);
        self.counts.held.fetch_sub(1, Ordering::SeqCst);
    }
}

// === impl Counted ===

impl Builder for Counted {
    fn name(&self) -> &str {
        "counted"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let child = ChildConfig::new(balancer_roundrobin::builder(), None);
        Box::new(CountedBalancer {
            child: Child::build(cc.clone(), &child, &options),
            cc,
            counts: self.0.clone(),
        })
    }
}

// === impl CountedBalancer ===

impl Balancer for CountedBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        let _ = self.child.handle(ChildEvent::SubConnState(sub_conn, state));
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = resolved.map(|resolved| resolved.with_config(None));
        let event = ChildEvent::Resolved(resolved);
        self.child.handle(event).into_result()
    }

    fn handle_timer(&mut self, id: TimerId) {
        let _ = self.child.handle(ChildEvent::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let _ = self.child.handle(ChildEvent::Call(id, &event));
    }

    fn exit_idle(&mut self) {
        self.child.exit_idle();
    }

    fn settle(&mut self) {
        let _ = self.child.handle(ChildEvent::Settle);
        if let Some((state, child)) = self.child.take_output() {
            let counts = self.counts.clone();
            let picker = Arc::new(CountedPicker { child, counts });
            self.cc.update_balancer_state(state, picker);
        }
    }

    fn close(&mut self) {
        self.child.close();
    }
}

// === impl CountedPicker ===

impl Picker for CountedPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let pick = self.child.pick(options)?;
        Ok(pick.on_done(Told::new(&self.counts), 0))
    }
}
