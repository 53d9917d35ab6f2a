//! The ClientConn that a child sees: what it asks reaches the parent, as long as the child lives.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_api::{ConnectivityState as S, *};
use support::{Asked, Recorder};

/// Gives its ClientConn away when it is built, and counts how it ends.
#[derive(Clone, Default)]
struct Open {
    cc: Arc<Mutex<Option<Arc<dyn ClientConn>>>>,
    closed: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    panics_when_dropped: bool,
}

struct OpenBalancer(Open);

impl Open {
    fn child(&self, parent: &Arc<Recorder>) -> Child {
        let config = ChildConfig::new(Arc::new(self.clone()), None);
        Child::build(
            parent.clone(),
            &config,
            &BuildOptions::new("fake:///target"),
        )
    }

    fn cc(&self) -> Arc<dyn ClientConn> {
        self.cc.lock().unwrap().clone().expect("built")
    }

    /// How often it was closed and dropped.
    fn ends(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.closed), count(&self.dropped))
    }
}

impl Builder for Open {
    fn name(&self) -> &str {
        "open"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        *self.cc.lock().unwrap() = Some(cc);
        Box::new(OpenBalancer(self.clone()))
    }
}

impl Balancer for OpenBalancer {
    fn handle_sub_conn_state_change(&mut self, _: &SubConn, _: &SubConnState<'_>) {}

    fn handle_resolved_addrs(
        &mut self,
        _: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        Ok(())
    }

    fn close(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenBalancer {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
        assert!(
            !self.0.panics_when_dropped,
            "a policy that cannot be dropped"
        );
    }
}

fn sub_conn(cc: &dyn ClientConn) -> SubConn {
    cc.new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new())
        .expect("a SubConn")
}

#[test]
fn the_childs_clock_chance_and_target_are_the_parents() {
    let (parent, open) = (Recorder::new(), Open::default());
    let _child = open.child(&parent);
    parent.set_now(7);
    parent.script_random([9]);
    let cc = open.cc();
    assert_eq!(cc.target(), "fake:///target");
    assert_eq!(cc.now(), Timestamp::from_nanos(7));
    assert_eq!(cc.random(), 9);
}

#[test]
fn what_the_child_asks_reaches_the_parent_once() {
    let (parent, open) = (Recorder::new(), Open::default());
    let child = open.child(&parent);
    let cc = open.cc();
    let backend = sub_conn(&*cc);
    let remote = cc.new_lookaside("lb:1", None, None).expect("a SubConn");
    assert_eq!(child.sub_conn_count(), 2);
    assert!(child.owns(&backend) && child.owns(&remote));
    let timer = cc.set_timer(Duration::from_secs(1));
    cc.cancel_timer(timer);
    cc.cancel_timer(timer);
    let call = cc.start_call(&remote, CallRequest::new("/s/m"));
    cc.send_call_message(call, Default::default());
    cc.close_call_send(call);
    cc.cancel_call(call);
    cc.cancel_call(call);
    cc.send_call_message(call, Default::default());
    cc.close_call_send(call);
    cc.resolve_now();
    cc.remove_sub_conn(&backend);
    let (timer, call) = (timer.as_raw(), call.as_raw());
    let asked = [
        Asked::New(0, vec!["a:1".to_owned()]),
        Asked::Lookaside(1, "lb:1".to_owned()),
        Asked::SetTimer(timer, Duration::from_secs(1)),
        Asked::CancelTimer(timer),
        Asked::StartCall(call, 1, "/s/m".to_owned()),
        Asked::SendCall(call),
        Asked::CloseSend(call),
        Asked::CancelCall(call),
        Asked::ResolveNow,
        Asked::Remove(0),
    ];
    assert_eq!(parent.take(), asked);
}

#[test]
fn a_refusal_of_the_parent_is_the_childs_answer_and_leaves_nothing_behind() {
    let (parent, open) = (Recorder::new(), Open::default());
    let mut child = open.child(&parent);
    let refused = NewSubConnError::Refused("too many".into());
    parent.refuse_next(refused.clone());
    parent.refuse_next(refused.clone());
    let cc = open.cc();
    let made = cc.new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new());
    assert_eq!(made, Err(refused.clone()));
    assert_eq!(cc.new_lookaside("lb:1", None, None), Err(refused));
    assert_eq!(child.sub_conn_count(), 0);
    child.close();
    assert_eq!(parent.take(), []);
}

#[test]
fn state_and_picker_stay_readable_after_they_were_taken() {
    let (parent, open) = (Recorder::new(), Open::default());
    let mut child = open.child(&parent);
    assert_eq!(child.state(), None, "nothing was published");
    assert!(child.picker().is_none());
    let picker: Arc<dyn Picker> = Arc::new(QueuePicker);
    open.cc()
        .update_balancer_state(S::Connecting, picker.clone());
    for _ in 0..2 {
        assert_eq!(child.state(), Some(S::Connecting));
        assert!(
            child
                .picker()
                .is_some_and(|kept| Arc::ptr_eq(&kept, &picker))
        );
        child.take_output();
    }
    open.cc()
        .update_balancer_state(S::Shutdown, Arc::new(QueuePicker));
    assert_eq!(
        child.state(),
        Some(S::Connecting),
        "not a policy's to report"
    );
    assert!(child.take_output().is_none());
    child.close();
    assert_eq!(child.state(), None, "its picker is given back");
}

#[test]
fn of_very_many_moves_that_nobody_took_the_last_are_remembered() {
    let (parent, open) = (Recorder::new(), Open::default());
    let mut child = open.child(&parent);
    let publish = |state| {
        open.cc()
            .update_balancer_state(state, Arc::new(QueuePicker))
    };
    publish(S::Idle);
    for round in 0..63 {
        publish([S::Connecting, S::Ready][round % 2]);
    }
    assert_eq!(child.transitions().len(), 64);
    assert_eq!(child.transitions()[0], S::Idle, "as many as fit");
    publish(S::Ready);
    publish(S::TransientFailure);
    let transitions = child.transitions();
    assert_eq!(transitions.len(), 64, "no more than that");
    assert_eq!(transitions[0], S::Ready, "the oldest are forgotten");
    assert_eq!(transitions[62..], [S::Ready, S::TransientFailure]);
    child.take_output();
    assert_eq!(child.transitions(), []);
}

#[test]
fn a_discarded_child_is_dropped_unclosed_and_all_it_had_is_given_back() {
    for panics_when_dropped in [false, true] {
        let parent = Recorder::new();
        let open = Open {
            panics_when_dropped,
            ..Open::default()
        };
        let child = open.child(&parent);
        let cc = open.cc();
        sub_conn(&*cc);
        let timer = cc.set_timer(Duration::from_secs(1));
        parent.take();
        let discarded = catch_unwind(AssertUnwindSafe(|| child.discard()));
        assert!(discarded.is_ok(), "a panic of its Drop is swallowed");
        assert_eq!(open.ends(), (0, 1), "not told, only dropped, and once");
        let given_back = [Asked::CancelTimer(timer.as_raw()), Asked::Remove(0)];
        assert_eq!(parent.take(), given_back);
        cc.resolve_now();
        assert_eq!(parent.take(), [], "it is closed");
    }
}

#[test]
fn a_child_shows_its_name_and_whether_it_is_closed() {
    let (parent, open) = (Recorder::new(), Open::default());
    let mut child = open.child(&parent);
    assert_eq!(child.name(), "open");
    let shown = format!("{child:?}");
    assert!(
        shown.contains(r#""open""#) && shown.contains("closed: false"),
        "{shown}"
    );
    child.close();
    let shown = format!("{child:?}");
    assert!(shown.contains("closed: true"), "{shown}");
    drop(child);
    assert_eq!(open.ends(), (1, 1), "closed once, dropped once");
}
