//! Child: everything that is the child's finds it, and nothing else does; closing cleans up.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use balancer_api::{ConnectivityState as S, *};
use support::{Asked, Recorder, endpoints};

/// A child policy that does nothing by itself: it writes down what it is told, and tests act with
/// its ClientConn.
#[derive(Clone, Default)]
struct Puppet {
    inner: Arc<Mutex<PuppetInner>>,
}

#[derive(Default)]
struct PuppetInner {
    told: Vec<String>,
    cc: Option<Arc<dyn ClientConn>>,
    /// What it asks for in its callbacks, once.
    act: Option<Act>,
    panic_on_close: bool,
    panic_on_drop: bool,
}

type Act = Box<dyn FnOnce(&dyn ClientConn) + Send>;

struct PuppetBalancer(Puppet);

impl Puppet {
    fn child(&self, parent: &Arc<Recorder>) -> Child {
        self.child_of(parent.clone())
    }

    fn child_of(&self, parent: Arc<dyn ClientConn>) -> Child {
        let config = LbConfig::new("{}", "the child's own");
        let config = ChildConfig::new(Arc::new(self.clone()), Some(config));
        Child::build(parent, &config, &BuildOptions::new("fake:///target"))
    }

    fn cc(&self) -> Arc<dyn ClientConn> {
        self.inner.lock().unwrap().cc.clone().expect("built")
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().told)
    }

    fn act(&self, act: impl FnOnce(&dyn ClientConn) + Send + 'static) {
        self.inner.lock().unwrap().act = Some(Box::new(act));
    }
}

impl Builder for Puppet {
    fn name(&self) -> &str {
        "puppet"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        self.inner.lock().unwrap().cc = Some(cc);
        Box::new(PuppetBalancer(self.clone()))
    }
}

impl PuppetBalancer {
    fn told(&self, text: impl Into<String>) {
        let act = {
            let mut inner = self.0.inner.lock().unwrap();
            inner.told.push(text.into());
            inner.act.take()
        };
        if let Some(act) = act {
            act(&*self.0.cc());
        }
    }
}

impl Balancer for PuppetBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        self.told(format!("{sub_conn:?} {}", state.state));
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        match resolved {
            Ok(resolved) => {
                let config = resolved.config.as_ref();
                let config = config.and_then(|c| c.downcast_ref::<&str>());
                self.told(format!("list of {} {config:?}", resolved.endpoints.len()));
                match resolved.endpoints.is_empty() {
                    true => Err(Rejected::new("empty")),
                    false => Ok(()),
                }
            }
            Err(error) => {
                self.told(error.to_string());
                Ok(())
            }
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.told(format!("timer {}", id.as_raw()));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.told(format!("call {} {event:?}", id.as_raw()));
    }

    fn exit_idle(&mut self) {
        self.told("exit_idle");
    }

    fn settle(&mut self) {
        self.told("settle");
    }

    fn close(&mut self) {
        self.told("close");
        if self.0.inner.lock().unwrap().panic_on_close {
            panic!("a policy that cannot close");
        }
    }
}

impl Drop for PuppetBalancer {
    fn drop(&mut self) {
        self.told("dropped");
        if self.0.inner.lock().unwrap().panic_on_drop {
            panic!("a policy that cannot be dropped");
        }
    }
}

fn sub_conn(cc: &dyn ClientConn) -> SubConn {
    cc.new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new())
        .expect("a SubConn")
}

fn moves(child: &mut Child, sub_conn: &SubConn, state: S) -> Handled {
    child.handle(ChildEvent::SubConnState(
        sub_conn,
        &SubConnState::new(state),
    ))
}

fn request() -> CallRequest {
    CallRequest::new("/s/m")
}

fn end() -> CallEvent {
    CallEvent::End {
        status: Status::new(Code::Ok, ""),
        trailers: Default::default(),
    }
}

#[test]
fn each_event_finds_the_child_whose_it_is() {
    let parent = Recorder::new();
    let (left, right) = (Puppet::default(), Puppet::default());
    let mut children = [left.child(&parent), right.child(&parent)];
    let theirs = sub_conn(&*right.cc());
    let timer = right.cc().set_timer(Duration::from_secs(1));
    let call = right.cc().start_call(&theirs, request());
    let own = sub_conn(&*parent);
    let own_timer = parent.set_timer(Duration::from_secs(1));
    let own_call = parent.start_call(&own, request());

    let whose = |children: &mut [Child; 2], event: &dyn Fn(&mut Child) -> Handled| {
        let [left, right] = children;
        (event(left).is_mine(), event(right).is_mine())
    };
    let connecting = |sc: SubConn| move |child: &mut Child| moves(child, &sc, S::Connecting);
    assert_eq!(
        whose(&mut children, &connecting(theirs.clone())),
        (false, true)
    );
    assert_eq!(
        whose(&mut children, &connecting(own)),
        (false, false),
        "the composite's own"
    );
    let fires = |id| move |child: &mut Child| child.handle(ChildEvent::Timer(id));
    assert_eq!(whose(&mut children, &fires(timer)), (false, true));
    assert_eq!(
        whose(&mut children, &fires(timer)),
        (false, false),
        "fires once"
    );
    assert_eq!(whose(&mut children, &fires(own_timer)), (false, false));
    let message = CallEvent::Message(Default::default());
    let calls = |id, event| move |child: &mut Child| child.handle(ChildEvent::Call(id, &event));
    assert_eq!(
        whose(&mut children, &calls(call, message.clone())),
        (false, true)
    );
    assert_eq!(whose(&mut children, &calls(call, end())), (false, true));
    assert_eq!(
        whose(&mut children, &calls(call, message)),
        (false, false),
        "it is over"
    );
    assert_eq!(
        whose(&mut children, &calls(own_call, end())),
        (false, false)
    );

    let told = [
        "sc0 CONNECTING",
        "timer 1",
        "call 2 Message(0 bytes)",
        "call 2 End(OK)",
    ];
    assert_eq!(right.take()[..3], told[..3]);
    assert_eq!(left.take(), [""; 0]);
}

#[test]
fn a_removed_sub_conn_is_the_childs_until_its_shutdown() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    let sc = sub_conn(&*puppet.cc());
    assert!(child.owns(&sc));
    assert_eq!(child.sub_conn_count(), 1);
    puppet.cc().remove_sub_conn(&sc);
    puppet.cc().remove_sub_conn(&sc);
    assert_eq!(child.sub_conn_count(), 0);
    assert!(child.owns(&sc), "its SHUTDOWN is still to come");
    assert_eq!(moves(&mut child, &sc, S::Shutdown), Handled::Mine);
    assert!(!child.owns(&sc));
    assert_eq!(
        moves(&mut child, &sc, S::Shutdown),
        Handled::NotMine,
        "only one"
    );
    assert_eq!(puppet.take(), ["sc0 SHUTDOWN"]);
    let removes = parent.take().into_iter().filter(|a| *a == Asked::Remove(0));
    assert_eq!(removes.count(), 1, "the second remove is nothing");
}

#[test]
fn a_child_cannot_remove_or_cancel_what_is_not_its_own() {
    let parent = Recorder::new();
    let (left, right) = (Puppet::default(), Puppet::default());
    let _children = [left.child(&parent), right.child(&parent)];
    let theirs = sub_conn(&*right.cc());
    let timer = right.cc().set_timer(Duration::from_secs(1));
    let call = right.cc().start_call(&theirs, request());
    parent.take();
    left.cc().remove_sub_conn(&theirs);
    left.cc().cancel_timer(timer);
    left.cc().cancel_call(call);
    left.cc().send_call_message(call, Default::default());
    left.cc().close_call_send(call);
    assert_eq!(parent.take(), []);
}

#[test]
fn closing_gives_everything_back_in_order_and_silences_the_child() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    let cc = puppet.cc();
    // Many, since a map without an order of its own would give few back in order by luck.
    let sub_conns: Vec<_> = (0..20).map(|_| sub_conn(&*cc)).collect();
    let gone = sub_conns[3].clone();
    cc.remove_sub_conn(&gone);
    cc.new_lookaside("lb:1", None, None).expect("a SubConn");
    let done = cc.set_timer(Duration::from_secs(1));
    let timer = cc.set_timer(Duration::from_secs(2));
    child
        .handle(ChildEvent::Timer(done))
        .into_result()
        .expect("no list");
    let call = cc.start_call(&sub_conns[0], request());
    cc.update_balancer_state(S::Ready, Arc::new(QueuePicker));
    parent.take();
    puppet.take();
    child.close();
    child.close();
    let mut expected = vec![
        Asked::CancelCall(call.as_raw()),
        Asked::CancelTimer(timer.as_raw()),
    ];
    expected.extend((0..21).filter(|n| *n != 3).map(Asked::Remove));
    assert_eq!(
        parent.take(),
        expected,
        "in the order in which they were made"
    );
    assert_eq!(puppet.take(), ["close", "dropped"]);
    assert!(
        child.take_output().is_none(),
        "a closed child publishes nothing"
    );

    for state in [S::Connecting, S::Shutdown] {
        assert_eq!(moves(&mut child, &gone, state), Handled::Mine, "swallowed");
        assert_eq!(
            moves(&mut child, &sub_conns[0], state),
            Handled::Mine,
            "swallowed"
        );
    }
    assert_eq!(
        moves(&mut child, &sub_conns[0], S::Shutdown),
        Handled::NotMine,
        "once"
    );
    assert_eq!(child.handle(ChildEvent::Timer(timer)), Handled::NotMine);
    assert_eq!(
        child.handle(ChildEvent::Call(call, &end())),
        Handled::NotMine
    );
    child
        .handle(ChildEvent::Resolved(Ok(endpoints(&["a:1"]))))
        .into_result()
        .expect("ignored");
    let _ = child.handle(ChildEvent::Settle);
    child.exit_idle();
    assert_eq!(puppet.take(), [""; 0], "no callback after close");
}

#[test]
fn a_closed_child_has_no_effect_from_anywhere() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let child = puppet.child(&parent);
    let cc = puppet.cc();
    let sc = sub_conn(&*cc);
    drop(child);
    parent.take();
    let late = thread::spawn(move || {
        let made = cc.new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new());
        assert_eq!(made, Err(NewSubConnError::Closed));
        let made = cc.new_lookaside("lb:1", None, None);
        assert_eq!(made, Err(NewSubConnError::Closed));
        cc.remove_sub_conn(&sc);
        cc.update_balancer_state(S::Ready, Arc::new(QueuePicker));
        cc.resolve_now();
        cc.wake();
        let timer = cc.set_timer(Duration::ZERO);
        cc.cancel_timer(timer);
        let call = cc.start_call(&sc, request());
        cc.send_call_message(call, Default::default());
        cc.close_call_send(call);
        cc.cancel_call(call);
        assert_eq!(cc.target(), "fake:///target");
    });
    late.join().expect("nothing panics");
    assert_eq!(parent.take(), []);
}

#[test]
fn the_childs_own_configuration_fills_in() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    let resolved = || Ok(endpoints(&["a:1"]));
    child
        .handle(ChildEvent::Resolved(resolved()))
        .into_result()
        .expect("a good list");
    let given = LbConfig::new("{}", "given");
    let with = resolved().map(|r: ResolvedAddrs| r.with_config(Some(given)));
    child
        .handle(ChildEvent::Resolved(with))
        .into_result()
        .expect("a good list");
    child.set_config(Some(LbConfig::new("{}", "new")));
    child
        .handle(ChildEvent::Resolved(resolved()))
        .into_result()
        .expect("a good list");
    let told = [
        r#"list of 1 Some("the child's own")"#,
        r#"list of 1 Some("given")"#,
        r#"list of 1 Some("new")"#,
    ];
    assert_eq!(puppet.take(), told);
    let verdict = child.handle(ChildEvent::Resolved(Ok(endpoints(&[]))));
    assert_eq!(verdict, Handled::Rejected(Rejected::new("empty")));
    assert_eq!(verdict.into_result(), Err(Rejected::new("empty")));
    let error = Err(ResolveError::new("no such host"));
    assert_eq!(child.handle(ChildEvent::Resolved(error)), Handled::Mine);
}

#[test]
fn output_is_the_last_and_transitions_are_all() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    puppet.act(|cc| {
        for state in [S::Connecting, S::Connecting, S::Ready, S::Shutdown, S::Idle] {
            cc.update_balancer_state(state, Arc::new(QueuePicker));
        }
    });
    let _ = child.handle(ChildEvent::Settle);
    assert_eq!(
        child.transitions(),
        [S::Connecting, S::Ready, S::Idle],
        "without repetitions"
    );
    let (state, _) = child.take_output().expect("published");
    assert_eq!(state, S::Idle, "SHUTDOWN is not a policy's to report");
    assert!(child.take_output().is_none(), "once");
    assert_eq!(child.transitions(), []);
    let publishes = parent
        .take()
        .into_iter()
        .filter(|a| matches!(a, Asked::Publish(_)));
    assert_eq!(publishes.count(), 0, "the composite publishes");
}

#[test]
fn a_quiet_child_is_not_settled() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    let settles = |child: &mut Child| {
        let _ = child.handle(ChildEvent::Settle);
        puppet.take().iter().filter(|t| *t == "settle").count()
    };
    assert_eq!(settles(&mut child), 1, "after build");
    assert_eq!(settles(&mut child), 0);
    child.exit_idle();
    assert_eq!(settles(&mut child), 1);
    puppet.cc().wake();
    puppet.cc().wake();
    assert_eq!(parent.take(), [Asked::Wake], "many wakes are one");
    assert_eq!(settles(&mut child), 1, "woken");
    assert_eq!(settles(&mut child), 0);
    puppet.cc().wake();
    assert_eq!(parent.take(), [Asked::Wake], "and again");
}

#[test]
fn what_another_thread_publishes_wakes_the_composite() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    puppet.act(|cc| cc.update_balancer_state(S::Connecting, Arc::new(QueuePicker)));
    let _ = child.handle(ChildEvent::Settle);
    assert_eq!(
        parent.take(),
        [],
        "in a callback the composite's settle follows anyway"
    );
    assert_eq!(
        child.take_output().map(|(state, _)| state),
        Some(S::Connecting)
    );

    let cc = puppet.cc();
    thread::spawn(move || cc.update_balancer_state(S::Ready, Arc::new(QueuePicker)))
        .join()
        .expect("no panic");
    assert_eq!(parent.take(), [Asked::Wake], "nothing else would take it");
    assert_eq!(child.take_output().map(|(state, _)| state), Some(S::Ready));
}

#[test]
fn children_nest() {
    // The puppet's ClientConn is the parent of another child, as in a composite of composites.
    let parent = Recorder::new();
    let (outer, inner) = (Puppet::default(), Puppet::default());
    let mut outer_child = outer.child(&parent);
    let mut inner_child = inner.child_of(outer.cc());
    let sc = sub_conn(&*inner.cc());
    let timer = inner.cc().set_timer(Duration::from_secs(1));
    for (child, whose) in [(&mut outer_child, "outer"), (&mut inner_child, "inner")] {
        assert!(moves(child, &sc, S::Connecting).is_mine(), "{whose}");
        assert!(child.handle(ChildEvent::Timer(timer)).is_mine(), "{whose}");
    }
    assert_eq!(outer.take(), ["sc0 CONNECTING", "timer 1"]);
    assert_eq!(inner.take(), ["sc0 CONNECTING", "timer 1"]);
    inner.cc().wake();
    assert!(parent.take().contains(&Asked::Wake), "passed on to the top");
    let timer = inner.cc().set_timer(Duration::from_secs(2));
    parent.take();
    outer_child.close();
    let asked = [Asked::CancelTimer(timer.as_raw()), Asked::Remove(0)];
    assert_eq!(
        parent.take(),
        asked,
        "what is the grandchild's is the child's"
    );
    inner_child.close();
    assert_eq!(parent.take(), [], "given back already");
}

#[test]
fn a_child_that_panics_is_cleaned_up_after() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    let sc = sub_conn(&*puppet.cc());
    puppet.act(|_| panic!("a policy's bug"));
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _ = moves(&mut child, &sc, S::Ready);
    }));
    assert!(
        panicked.is_err(),
        "passes through to the composite's caller"
    );
    assert_eq!(parent.take().pop(), Some(Asked::Remove(0)));
    let told = puppet.take();
    assert_eq!(
        told,
        ["sc0 READY"],
        "no policy code runs during the unwinding"
    );
}

#[test]
fn a_child_that_panics_in_close_is_cleaned_up_after() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    sub_conn(&*puppet.cc());
    puppet.inner.lock().unwrap().panic_on_close = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| child.close()));
    assert!(panicked.is_err(), "the composite's caller must hear of it");
    assert_eq!(parent.take().pop(), Some(Asked::Remove(0)));
    child.close();
    drop(child);
    assert_eq!(parent.take(), [], "once");
    assert_eq!(
        puppet.take(),
        ["close", "dropped"],
        "it holds its ClientConn"
    );
}

#[test]
fn a_child_that_panics_in_close_and_in_its_drop_is_cleaned_up_after() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    sub_conn(&*puppet.cc());
    puppet.inner.lock().unwrap().panic_on_close = true;
    puppet.inner.lock().unwrap().panic_on_drop = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| child.close()));
    let panic = panicked.expect_err("the composite's caller must hear of it");
    let first = panic.downcast_ref::<&str>();
    assert_eq!(first, Some(&"a policy that cannot close"));
    assert_eq!(parent.take().pop(), Some(Asked::Remove(0)));
}

#[test]
fn a_child_that_panics_in_its_drop_is_cleaned_up_after() {
    let parent = Recorder::new();
    let puppet = Puppet::default();
    let mut child = puppet.child(&parent);
    sub_conn(&*puppet.cc());
    puppet.inner.lock().unwrap().panic_on_drop = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| child.close()));
    assert!(panicked.is_err(), "the composite's caller must hear of it");
    assert_eq!(parent.take().pop(), Some(Asked::Remove(0)));
}

#[test]
fn threads_race_with_close_and_nothing_is_left_behind() {
    for round in 0..50 {
        let parent = Recorder::new();
        let puppet = Puppet::default();
        let mut child = puppet.child(&parent);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let cc = puppet.cc();
                thread::spawn(move || {
                    for _ in 0..20 {
                        let _ =
                            cc.new_sub_conn(vec![Address::new("a:1")], NewSubConnOptions::new());
                        cc.set_timer(Duration::from_secs(1));
                    }
                })
            })
            .collect();
        child.close();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let asked = parent.take();
        let count = |wanted: fn(&Asked) -> bool| asked.iter().filter(|a| wanted(a)).count();
        assert_eq!(
            (
                count(|a| matches!(a, Asked::New(..))),
                count(|a| matches!(a, Asked::SetTimer(..)))
            ),
            (
                count(|a| matches!(a, Asked::Remove(_))),
                count(|a| matches!(a, Asked::CancelTimer(_)))
            ),
            "round {round}: what was made must be given back"
        );
    }
}
