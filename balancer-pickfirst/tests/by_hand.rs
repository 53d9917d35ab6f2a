//! What a kit that delivers everything at once cannot show: the options that the SubConn is made
//! with, and a list that crosses a READY on the channel's queue.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{ConnectivityState as S, *};
use balancer_pickfirst::PickFirst;
use bytes::Bytes;

/// A channel with one SubConn, which does nothing by itself.
#[derive(Default)]
struct Channel {
    options: Mutex<Option<NewSubConnOptions>>,
    sub_conn: Mutex<Option<SubConn>>,
    published: Mutex<Vec<S>>,
}

struct Handle;

impl SubConnHandle for Handle {
    fn connect(&self) {}
    fn update_addresses(&self, _: Vec<Address>) {}
}

impl ClientConn for Channel {
    fn new_sub_conn(
        &self,
        _: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let sub_conn = SubConn::new(Arc::new(Handle));
        *self.options.lock().unwrap() = Some(options);
        *self.sub_conn.lock().unwrap() = Some(sub_conn.clone());
        Ok(sub_conn)
    }
    fn update_balancer_state(&self, state: S, _: Arc<dyn Picker>) {
        self.published.lock().unwrap().push(state);
    }
    fn target(&self) -> &str {
        "fake:///target"
    }
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }
    fn random(&self) -> u64 {
        0
    }
    fn set_timer(&self, _: Duration) -> TimerId {
        TimerId::from_raw(0)
    }
    fn start_call(&self, _: &SubConn, _: CallRequest) -> CallId {
        CallId::from_raw(0)
    }
    fn new_lookaside(
        &self,
        _: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        Err(NewSubConnError::Closed)
    }
    fn remove_sub_conn(&self, _: &SubConn) {}
    fn resolve_now(&self) {}
    fn cancel_timer(&self, _: TimerId) {}
    fn wake(&self) {}
    fn send_call_message(&self, _: CallId, _: Bytes) {}
    fn close_call_send(&self, _: CallId) {}
    fn cancel_call(&self, _: CallId) {}
}

/// The policy at work for one channel, told what `moves` say.
struct Conversation {
    channel: Arc<Channel>,
    policy: Box<dyn Balancer>,
}

impl Conversation {
    fn start() -> Self {
        let channel = Arc::<Channel>::default();
        let policy = PickFirst::new().build(channel.clone(), BuildOptions::default());
        Self { channel, policy }
    }

    fn list(&mut self, addr: &str) {
        let list = ResolvedAddrs::new([Endpoint::from(addr)]);
        self.policy
            .handle_resolved_addrs(Ok(list))
            .expect("a good list");
        self.policy.settle();
    }

    fn state(&mut self, state: S, address: Option<&str>) {
        let sub_conn = self.channel.sub_conn.lock().unwrap().clone();
        let sub_conn = sub_conn.expect("a SubConn was made");
        let address = address.map(Address::new);
        let mut state = SubConnState::new(state);
        state.address = address.as_ref();
        self.policy.handle_sub_conn_state_change(&sub_conn, &state);
        self.policy.settle();
    }

    fn published(&self) -> Vec<S> {
        std::mem::take(&mut self.channel.published.lock().unwrap())
    }
}

#[test]
fn the_sub_conn_waits_to_be_asked_races_and_reports_no_health() {
    let mut conn = Conversation::start();
    conn.list("a:1");
    let options = conn.channel.options.lock().unwrap().clone();
    let options = options.expect("a SubConn was made");
    assert_eq!(options.reconnect, Reconnect::WhenAsked);
    assert_eq!(options.attempt_delay, Some(Duration::from_millis(250)));
    assert_eq!(options.health, HealthReporting::Off, "must never opt in");
}

#[test]
fn a_connection_to_a_dropped_address_that_arrives_late_is_not_used() {
    let mut conn = Conversation::start();
    conn.list("a:1");
    conn.state(S::Connecting, None);
    conn.list("b:1");
    conn.published();
    conn.state(S::Ready, Some("a:1"));
    assert_eq!(conn.published(), [], "the SubConn leaves it by itself");
    conn.state(S::Connecting, None);
    conn.state(S::Ready, Some("b:1"));
    assert_eq!(conn.published(), [S::Ready]);
}

#[test]
fn a_loss_that_crosses_a_list_without_its_address_leaves_it_idle() {
    let mut conn = Conversation::start();
    conn.list("a:1");
    conn.state(S::Connecting, None);
    conn.state(S::Ready, Some("a:1"));
    conn.published();
    conn.list("b:1");
    assert_eq!(
        conn.published(),
        [S::Connecting],
        "no RPC may go to a any more"
    );
    // The connection was lost before the channel heard of the list: nothing connects by itself.
    conn.state(S::Idle, None);
    assert_eq!(conn.published(), [S::Idle], "the next RPC connects");
}
