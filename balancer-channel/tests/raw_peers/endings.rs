//! Connections that end without a word.

use std::time::Duration;

use balancer_api::ConnectivityState;
use balancer_channel::Channel;
use balancer_testpeer::{Backend, Ending, Relay};
use tonic::Request;

use crate::{
    secured::{Authority, Secured},
    support::{echo, text},
};

/// No close_notify, as servers do that are in a hurry.
#[tokio::test(crate = "crate::support::harness")]
async fn a_tls_connection_that_just_closes_is_no_failure() {
    let authority = Authority::new();
    let server = Secured::start(&authority, "127.0.0.1", Backend::new("hasty")).await;
    let relay = Relay::to(server.addr()).await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", relay.addr()))
        .tls(authority.trusted())
        .authority("127.0.0.1")
        .build()
        .expect("a channel");
    for ending in [Ending::Close, Ending::Reset] {
        echo(&channel, text("before")).await.expect("served");
        relay.cut(ending).await;
        let left = channel.wait_for_state_change(ConnectivityState::Ready);
        let state = tokio::time::timeout(Duration::from_secs(10), left).await;
        let state = state.expect("an idle connection that closes is noticed");
        assert_ne!(
            state,
            ConnectivityState::TransientFailure,
            "{ending:?}: a loss is no failure"
        );
        let mut request = Request::new(text("after"));
        request.set_timeout(Duration::from_secs(10));
        echo(&channel, request).await.expect("redialled at once");
    }
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}
