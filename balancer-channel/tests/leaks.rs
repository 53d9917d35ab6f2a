//! The harness of the channel's tests sees what a channel leaves behind.

mod support;

use std::time::Duration;

use balancer_channel::{
    Channel,
    ledger::{Held, watch},
};
use balancer_testpeer::{Answer, Backend, Server};

use support::{
    any_answer, echo,
    harness::{Runtime, given_back, runtime::Builder},
    text,
};

/// Long enough for a channel that leaves nothing.
const MOMENT: Duration = Duration::from_millis(50);

fn to(server: &Server) -> Channel {
    let channel = Channel::builder(format!("ipv4:{}", server.addr())).plaintext();
    channel.build().expect("a channel")
}

fn home() -> Runtime {
    let builder = Builder::new_current_thread().enable_all();
    builder.build().expect("a runtime")
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_channel_that_is_used_and_dropped_leaves_nothing() {
    let server = Server::start(Backend::new("a")).await.expect("a port");
    let channel = to(&server);
    echo(&channel, text("hello")).await.expect("served");
}

#[test]
#[should_panic(expected = "left behind by the 1 channels")]
fn a_test_fails_that_forgets_its_channel() {
    home().block_on_within(MOMENT, async {
        let server = Server::start(Backend::new("a")).await.expect("a port");
        let channel = to(&server);
        echo(&channel, text("hello")).await.expect("served");
        std::mem::forget(channel);
    });
}

// Leaks: made on purpose, and looked at one by one.
#[tokio::test]
async fn tasks_sockets_and_timers_are_told_apart() {
    let watch = watch(&tokio::runtime::Handle::current());
    let silent = Backend::new("silent").answer(Answer::Never);
    let server = Server::start(silent).await.expect("a port");
    let channel = to(&server);
    let before = given_back(&watch, MOMENT).await;
    assert_eq!((before.sockets, before.timers), (0, 0), "{before:?}");
    assert!(before.tasks >= 1, "the balancer's: {before:?}");

    let rpc = tokio::spawn(async move { any_answer(&channel).await });
    let asked = server.until(|journal| journal.streams() == 1);
    let asked = tokio::time::timeout(Duration::from_secs(10), asked);
    asked.await.expect("it must be sent");
    // The timer says when it is looked whether there were RPCs.
    let held = given_back(&watch, MOMENT).await;
    assert_eq!((held.sockets, held.timers), (1, 1), "{held:?}");
    assert!(held.tasks > before.tasks, "a connection's, too: {held:?}");

    rpc.abort();
    let left = given_back(&watch, Duration::from_secs(10)).await;
    assert_eq!(left, Held::default());
}
