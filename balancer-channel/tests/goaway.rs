//! Servers that say GOAWAY with their answers, as those do that limit the requests or the age of a
//! connection.

mod support;

use balancer_channel::Channel;
use balancer_testpeer::{Behaviour, Script, Server, frame::code};
use support::{echo, text};

/// Answers one request, says goodbye in the same breath, and closes when the client has.
fn one_request_per_connection() -> Behaviour {
    Behaviour::new(|mut conn| async move {
        conn.handshake().await?;
        let call = conn.next_call().await?;
        conn.reply_ok(call.stream, b"").await?;
        conn.send_goaway(call.stream, code::NO_ERROR, "one is enough")
            .await?;
        conn.drain().await;
        Ok(())
    })
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_server_that_answered_is_redialled_at_once() {
    let server = Server::start(Script::new().otherwise(one_request_per_connection()))
        .await
        .expect("a server");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    for n in 0..50 {
        // With a back-off in between, one of these would fail.
        let answer = echo(&channel, text("")).await;
        answer.unwrap_or_else(|status| panic!("RPC {n} must be answered: {status:?}"));
    }
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "nothing may be left");
}
