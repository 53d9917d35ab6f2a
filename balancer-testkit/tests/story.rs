//! The story API: what stories can say, and what they are refused.

mod common;

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, Child, ChildConfig,
    ChildEvent, ClientConn, ConnectivityState as State, NewSubConnOptions, Pick, PickError,
    PickOptions, Picker, QueuePicker, Reconnect, Rejected, ResolveError, ResolvedAddrs, Status,
    SubConn, SubConnState, TimerId,
};
use balancer_testkit::{Event, Outcome, Script, Setup, World};
use common::{round_robin, round_robin_in_mode, round_robin_with_health};

#[test]
fn a_lost_connection_leaves_the_rotation() {
    let mut conn = Script::start(round_robin(), ["a", "b", "c"]);
    conn.ready("a").ready("b").ready("c");
    assert_eq!(conn.picks(3), ["a", "b", "c"]);

    conn.lost("b");
    let mut picks: Vec<String> = conn.picks(4).iter().map(ToString::to_string).collect();
    picks.sort();
    assert_eq!(picks, ["a", "a", "c", "c"], "must skip an IDLE connection");
    assert_eq!(conn.connects(), ["b"], "must reconnect it at once");
    assert_eq!(conn.resolve_nows(), 1, "must ask for fresh addresses");
}

#[test]
fn queue_until_ready_then_fail_when_all_fail() {
    let mut conn = Script::start(round_robin(), ["a", "b"]);
    assert_eq!(conn.pick(), Outcome::Queue);
    conn.failed("a", "refused by a");
    assert_eq!(conn.pick(), "queue", "b may still come up");
    conn.failed("b", "refused by b");
    assert_eq!(conn.state(), State::TransientFailure);
    assert_eq!(conn.pick().message(), Some("refused by b"));
    conn.ready("a");
    assert_eq!(conn.pick(), "a");
}

#[test]
fn an_endpoint_with_two_addresses_is_one_sub_conn() {
    let mut conn = Script::new(round_robin());
    conn.update(["a+b", "c"]);
    assert_eq!(conn.created(), ["a+b", "c"]);
    conn.ready("b");
    assert_eq!(conn.pick(), "a+b");
    assert_eq!(conn.pick(), "b", "the address that is connected");
    conn.update(["b+a", "c"]);
    assert_eq!(conn.readdressed(), ["b+a"]);
    assert_eq!(conn.created(), [] as [&str; 0]);
    assert_eq!(conn.pick(), "b+a");
}

#[test]
fn empty_lists_are_rejected_and_errors_shown() {
    let mut conn = Script::start(round_robin(), ["a"]);
    conn.ready("a").empty();
    assert!(conn.last_result().is_err());
    assert_eq!(conn.removed(), ["a"]);
    assert_eq!(conn.state(), State::TransientFailure);
    conn.resolver_error("no such host");
    assert!(conn.pick().message().unwrap().contains("no such host"));
}

#[test]
fn shutdown_comes_by_itself_or_when_the_story_says_so() {
    let mut conn = Script::start(round_robin(), ["a", "b"]);
    conn.update(["a"]);
    assert!(conn.log().contains("b is SHUTDOWN"));
    conn.hold_shutdowns().update(["b"]);
    assert!(!conn.log().contains("a is SHUTDOWN"));
    conn.shutdown("a");
    assert!(conn.log().contains("a is SHUTDOWN"));
}

#[test]
fn modes_of_reconnecting_differ_after_a_loss() {
    let mut conn = Script::start(round_robin_in_mode(Reconnect::Immediately), ["a"]);
    conn.ready("a").lost("a");
    assert_eq!(conn.connects(), [] as [&str; 0], "it reconnects by itself");
    assert_eq!(conn.state(), State::Connecting);
    conn.failed("a", "refused").ready("a");
    assert_eq!(conn.pick(), "a");
}

#[test]
fn health_moves_need_health_and_keep_the_connection() {
    let mut conn = Script::start(round_robin_with_health(), ["a"]);
    conn.ready("a").health_failed("a");
    assert_eq!(conn.state(), State::TransientFailure);
    assert_eq!(conn.resolve_nows(), 0, "the address is right");
    conn.health_ready("a");
    assert_eq!(conn.pick(), "a");
}

#[test]
fn illegal_moves_are_refused() {
    let mut world = World::new(Arc::new(round_robin()), Setup::new());
    world.run("update a").unwrap();
    for (script, why) in [
        ("ready a", "asked to connect can only be CONNECTING next"),
        ("lost a", "asked to connect"),
        ("ready b", "no SubConn b lives; there are a"),
        ("health_failed a", "asked to connect"),
        ("timer", "has set none"),
        ("shutdown a", "no SHUTDOWN is held"),
        ("headers a", "no call of the policy is open on a"),
    ] {
        let refused = world.run(script).unwrap_err().to_string();
        assert!(refused.contains(why), "{script}: {refused}");
    }
    world.run("connecting a\n ready a").unwrap();
    for (script, why) in [
        ("failed a", "never to TRANSIENT_FAILURE"),
        ("health_failed a", "READY"),
        ("connecting a", "READY"),
    ] {
        let refused = world.run(script).unwrap_err().to_string();
        assert!(refused.contains(why), "{script}: {refused}");
    }
}

#[test]
#[should_panic(expected = "a READY SubConn is lost")]
fn a_story_that_cannot_happen_panics_with_the_reason() {
    Script::start(round_robin(), ["a"])
        .ready("a")
        .failed("a", "reset");
}

#[test]
fn a_batch_has_one_settle() {
    let mut conn = Script::start(round_robin(), ["a", "b", "c"]);
    conn.published();
    conn.batch(|conn| {
        conn.ready("a").ready("b").ready("c");
    });
    assert_eq!(conn.published(), [State::Ready]);
    assert_eq!(conn.picks(3), ["a", "b", "c"]);
}

#[test]
fn a_refused_sub_conn_is_tried_again() {
    let mut conn = Script::new(round_robin());
    conn.refuse_next("too many").update(["a", "b"]);
    assert_eq!(conn.created(), ["b"]);
    conn.again();
    assert_eq!(conn.created(), ["a"]);
}

#[test]
fn chance_is_scripted() {
    let connects = |random: u64| {
        let mut conn = Script::new(round_robin());
        conn.random([random]).update(["a", "b", "c"]);
        conn.connects()
    };
    assert_eq!(connects(0), ["a", "b", "c"]);
    assert_eq!(connects(1), ["b", "c", "a"]);
    assert_eq!(connects(u64::MAX), ["a", "b", "c"]);
}

#[test]
fn the_same_script_gives_the_same_log() {
    let run = |seed| {
        let mut conn = Script::with(round_robin(), Setup::new().seed(seed));
        conn.update(["a", "b", "c"]).ready("a").lost("a").empty();
        conn.world().log(balancer_testkit::Log::digest)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8), "another seed shows in the log");
}

#[test]
fn a_policy_in_a_policy_is_driven_alike() {
    let mut conn = Script::start(Wrapped, ["a", "b"]);
    conn.ready("a").ready("b");
    assert_eq!(conn.picks(2), ["a", "b"]);
    conn.update(["b"]);
    assert_eq!(conn.removed(), ["a"]);
    assert_eq!(conn.picks(2), ["b", "b"]);
}

#[test]
fn timers_and_calls_run_on_virtual_time() {
    let mut conn = Script::start(Prober, ["a"]);
    conn.ready("a");
    assert_eq!(conn.pick(), Outcome::Queue, "not probed yet");
    let probe = conn.call("a");
    assert_eq!(conn.calls(), [("a".to_owned(), "/probe".to_owned())]);
    assert_eq!(conn.sent(probe), ["hello"]);
    conn.call_message(probe, "welcome");
    assert_eq!(conn.pick(), "a");
    assert_eq!(conn.timers(), 1);
    conn.advance(Duration::from_secs(9));
    assert_eq!(conn.pick(), "a");
    conn.advance(Duration::from_secs(1));
    assert_eq!(conn.pick(), Outcome::Queue, "to be probed again");
    conn.lost("a");
    assert_eq!(conn.calls(), []);
    assert!(conn.log().contains("End(UNAVAILABLE"));
}

#[test]
fn calls_from_outside_wait_for_their_turn() {
    let mut conn = Script::start(round_robin(), ["a"]);
    conn.ready("a");
    conn.forget();
    let picker = conn.picker();
    let rpc = conn.rpc_from(&*picker);
    let sub_conn = rpc.sub_conn().unwrap().clone();
    std::thread::spawn(move || sub_conn.connect())
        .join()
        .unwrap();
    assert_eq!(conn.connects(), ["a"]);
    assert!(conn.log().contains("<~ connect a"), "told apart in the log");
    rpc.ok();
}

#[test]
fn events_read_as_they_are_written() {
    let script = "update a b+c d#1 e@2\nagain\nfailed a connection refused\nlost b\npick open\n\
                  advance 0.25s\nrandom 18446744073709551615\nmessage a 00ff\nend a UNAVAILABLE\n\
                  config {\"x\": 1}\nhold\nsettle\nclose\nlate";
    for line in script.lines() {
        assert_eq!(line.parse::<Event>().unwrap().to_string(), line);
    }
    for bad in [
        "",
        "update_ a",
        "ready",
        "advance 1",
        "pick never",
        "message a 0",
        "end a FINE",
    ] {
        assert!(bad.parse::<Event>().is_err(), "{bad}");
    }
}

/// Round robin inside of a composite.
struct Wrapped;

struct Wrapper {
    cc: Arc<dyn ClientConn>,
    child: Child,
}

impl Builder for Wrapped {
    fn name(&self) -> &'static str {
        "wrapped"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let child = ChildConfig::new(Arc::new(round_robin()), None);
        let child = Child::build(cc.clone(), &child, &options);
        Box::new(Wrapper { cc, child })
    }
}

impl Balancer for Wrapper {
    fn handle_sub_conn_state_change(&mut self, sc: &SubConn, state: &SubConnState<'_>) {
        let _ = self.child.handle(ChildEvent::SubConnState(sc, state));
    }
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.child
            .handle(ChildEvent::Resolved(resolved))
            .into_result()
    }
    fn settle(&mut self) {
        let _ = self.child.handle(ChildEvent::Settle);
        if let Some((state, picker)) = self.child.take_output() {
            self.cc.update_balancer_state(state, picker);
        }
    }
    fn close(&mut self) {
        self.child.close();
    }
}

/// One SubConn, which takes RPCs for ten seconds after it has answered a probe.
struct Prober;

struct Probing {
    cc: Arc<dyn ClientConn>,
    sub_conn: Option<SubConn>,
    good: bool,
}

struct Only(SubConn);

impl Builder for Prober {
    fn name(&self) -> &'static str {
        "prober"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Probing {
            cc,
            sub_conn: None,
            good: false,
        })
    }
}

impl Balancer for Probing {
    fn handle_sub_conn_state_change(&mut self, sc: &SubConn, state: &SubConnState<'_>) {
        if state.state == State::Ready {
            let request = CallRequest::new("/probe").with_first_message("hello");
            self.cc.start_call(sc, request);
        }
    }
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = resolved.map_err(|error| Rejected::new(error.message()))?;
        let addresses: Vec<Address> = resolved.endpoints[0].addresses().to_vec();
        let sub_conn = self.cc.new_sub_conn(addresses, NewSubConnOptions::new());
        self.sub_conn = sub_conn.ok().inspect(SubConn::connect);
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) {
        self.good = false;
    }
    fn handle_call_event(&mut self, _: CallId, event: CallEvent) {
        self.good = !event.is_end();
        if self.good {
            self.cc.set_timer(Duration::from_secs(10));
        }
    }
    fn settle(&mut self) {
        match &self.sub_conn {
            Some(sub_conn) if self.good => {
                let picker = Arc::new(Only(sub_conn.clone()));
                self.cc.update_balancer_state(State::Ready, picker);
            }
            _ => self
                .cc
                .update_balancer_state(State::Connecting, Arc::new(QueuePicker)),
        }
    }
    fn close(&mut self) {}
}

impl Picker for Only {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

#[test]
fn a_call_on_what_is_not_ready_ends_at_once() {
    let mut conn = Script::start(Prober, ["a"]);
    conn.ready("a");
    let probe = conn.call("a");
    conn.call_end(
        probe,
        Status::new(balancer_api::Code::Unimplemented, "no probes here"),
    );
    assert_eq!(conn.calls(), []);
    assert_eq!(conn.pick(), Outcome::Queue);
}
