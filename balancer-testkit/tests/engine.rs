//! The engine: what a policy may do while it is built, and what the channel does by itself.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, ClientConn, ConfigError, ConnectivityState as State,
    LbConfig, NewSubConnOptions, ParseContext, Pick, PickError, PickOptions, Picker, Reconnect,
    Rejected, ResolveError, ResolvedAddrs, SubConn, SubConnState, TimerId,
};
use balancer_testkit::{List, Script, Setup, World};

/// Does all its work in `build`: one SubConn to the address that its configuration names.
struct Eager {
    connects: bool,
}

#[derive(Debug)]
struct To(String);

struct EagerBalancer {
    cc: Arc<dyn ClientConn>,
    sub_conn: SubConn,
    ticks: Vec<TimerId>,
}

struct One(SubConn);

impl Builder for Eager {
    fn name(&self) -> &'static str {
        "eager"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let To(address) = options
            .config
            .as_ref()
            .and_then(LbConfig::downcast_ref)
            .expect("the set-up has a configuration");
        let made = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
        let sub_conn = cc
            .new_sub_conn(vec![Address::new(address.as_str())], made)
            .expect("nothing refuses it");
        if self.connects {
            sub_conn.connect();
        }
        cc.set_timer(Duration::from_secs(1));
        cc.update_balancer_state(State::Idle, Arc::new(One(sub_conn.clone())));
        Box::new(EagerBalancer {
            cc,
            sub_conn,
            ticks: Vec::new(),
        })
    }

    fn parse_config(&self, json: &str, _: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        Ok(LbConfig::new(json, To(json.trim_matches('"').to_owned())))
    }
}

impl Balancer for EagerBalancer {
    fn handle_sub_conn_state_change(&mut self, _: &SubConn, new: &SubConnState<'_>) {
        let picker = Arc::new(One(self.sub_conn.clone()));
        self.cc.update_balancer_state(new.state, picker);
    }

    fn handle_resolved_addrs(
        &mut self,
        _: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        Ok(())
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.ticks.push(id);
        self.cc.resolve_now();
    }

    fn close(&mut self) {}
}

impl Picker for One {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

#[test]
fn what_build_asks_takes_effect_when_it_has_returned() {
    let mut conn = Script::with(Eager { connects: true }, Setup::new().config("\"a\""));
    assert_eq!(conn.created(), ["a"], "as its configuration says");
    assert_eq!(conn.connects(), ["a"]);
    assert_eq!(conn.state(), State::Idle);
    assert_eq!(conn.timers(), 1);
    conn.ready("a");
    assert_eq!(conn.pick(), "a");
    conn.timer();
    assert_eq!(conn.resolve_nows(), 1);
}

#[test]
fn a_channel_connects_an_idle_sub_conn_that_is_picked() {
    let mut conn = Script::with(Eager { connects: false }, Setup::new().config("\"a\""));
    assert!(conn.world().run("connecting a").is_err(), "nobody asked");
    assert_eq!(conn.pick(), "a");
    assert_eq!(conn.connects(), [] as [&str; 0], "the policy did not ask");
    conn.events("connecting a; ready a");
    assert_eq!(conn.state(), State::Ready);
    assert!(conn.log().contains("== a is IDLE: connect"));
}

#[test]
fn timers_that_set_timers_for_the_same_moment_are_unrest() {
    struct Loops;
    struct LoopsBalancer(Arc<dyn ClientConn>);
    impl Builder for Loops {
        fn name(&self) -> &'static str {
            "loops"
        }
        fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
            cc.set_timer(Duration::from_secs(1));
            Box::new(LoopsBalancer(cc))
        }
    }
    impl Balancer for LoopsBalancer {
        fn handle_sub_conn_state_change(&mut self, _: &SubConn, _: &SubConnState<'_>) {}
        fn handle_resolved_addrs(
            &mut self,
            _: Result<ResolvedAddrs, ResolveError>,
        ) -> Result<(), Rejected> {
            Ok(())
        }
        fn handle_timer(&mut self, _: TimerId) {
            self.0.set_timer(Duration::ZERO);
        }
        fn close(&mut self) {}
    }
    let mut world = World::new(Arc::new(Loops), Setup::new());
    world.run("advance 0.5s").unwrap();
    assert!(!world.is_restless());
    world.run("advance 1s").unwrap();
    assert!(world.is_restless(), "and the test is not hung");
}

#[test]
fn endpoints_of_another_kind_are_others() {
    let list = List::parse("a a%1 a%1 b+c%2");
    let endpoints = list.endpoints();
    assert_ne!(endpoints[0], endpoints[1]);
    assert_eq!(endpoints[1], endpoints[2]);
    assert_eq!(endpoints[0].addresses(), endpoints[1].addresses());
    assert_eq!(endpoints[3].addresses().len(), 2);
    assert_eq!(List::parse(&list.to_string()), list);
}
