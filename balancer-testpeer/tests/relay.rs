//! The relay passes octets unchanged, knows what passed, and misbehaves on request.

mod common;

use balancer_testpeer::{Answer, Backend, Ending, Relay, RelayedStream, Server, faults};
use common::Client;
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Long enough for anything that will come, short enough to wait for what must not.
const SHORT: Duration = Duration::from_millis(100);

async fn relayed(backend: Backend) -> (Server, Relay, Client) {
    let server = Server::start(backend).await.unwrap();
    let relay = Relay::to(server.addr()).await.unwrap();
    let client = Client::tcp(relay.addr()).await;
    (server, relay, client)
}

#[tokio::test]
async fn it_passes_everything_and_records_streams() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    let large = vec![7; 1 << 20];
    for _ in 0..3 {
        let mut reply = client.call("/e", &large).await.unwrap();
        assert!(reply.message().unwrap() == large);
    }
    let expected = [1, 3, 5].map(|stream| RelayedStream {
        connection: 1,
        stream,
    });
    assert_eq!(relay.streams(), expected);
}

#[tokio::test]
async fn a_freeze_stops_everything_until_the_thaw() {
    let (server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"before").await.unwrap();

    relay.freeze();
    let call = client.begin("/e", b"frozen").await.unwrap();
    let mut call = std::pin::pin!(call.finish());
    assert!(
        timeout(SHORT, call.as_mut()).await.is_err(),
        "no octet must pass"
    );
    assert_eq!(
        server.journal().streams(),
        1,
        "the server must not see the second call"
    );

    relay.thaw();
    call.await.unwrap();
}

#[tokio::test]
async fn a_mute_relay_passes_on_what_clients_say_and_nothing_back() {
    let (server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"before").await.unwrap();

    relay.mute();
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(client.begin("/e", b"heard").await.unwrap());
    }
    server.until(|journal| journal.streams() == 4).await;
    let mut first = std::pin::pin!(calls.remove(0).finish());
    assert!(
        timeout(SHORT, first.as_mut()).await.is_err(),
        "no octet must come back"
    );
    assert_eq!(relay.streams().len(), 4);

    relay.thaw();
    first.await.unwrap();
}

#[tokio::test]
async fn it_freezes_after_so_many_octets() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"before").await.unwrap();
    relay.freeze_after(20_000);
    let call = client.begin("/e", &[0; 40_000]).await.unwrap();
    let mut call = std::pin::pin!(call.finish());
    assert!(
        timeout(SHORT, call.as_mut()).await.is_err(),
        "must stop in the middle"
    );
    relay.thaw();
    call.await.unwrap();
}

#[tokio::test]
async fn it_delays_both_ways() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"warm").await.unwrap();
    relay.delay(Duration::from_millis(40));
    let started = Instant::now();
    client.call("/e", b"slow").await.unwrap();
    assert!(
        started.elapsed() >= Duration::from_millis(80),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn it_limits_the_rate() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"warm").await.unwrap();
    relay.limit_rate(Some(100_000));
    let started = Instant::now();
    client.call("/e", &[0; 10_000]).await.unwrap();
    // 10,000 octets at 100,000 a second; the way back overlaps only in part.
    assert!(
        started.elapsed() >= Duration::from_millis(90),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_cut_ends_connections_and_the_next_one_works() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"before").await.unwrap();
    relay.cut(Ending::Reset).await;
    assert_eq!(
        common::io_kind(&client.ended().await.unwrap_err()),
        ErrorKind::ConnectionReset
    );

    let mut client = Client::tcp(relay.addr()).await;
    client.call("/e", b"after").await.unwrap();
    relay.cut(Ending::Close).await;
    client.ended().await.unwrap();
    assert_eq!(relay.accepted(), 2);
    assert_eq!(
        relay.streams().last(),
        Some(&RelayedStream {
            connection: 2,
            stream: 1
        })
    );
}

#[tokio::test]
async fn it_outlives_the_server_and_still_records() {
    let (server, relay, mut client) = relayed(Backend::new("a").answer(Answer::Never)).await;
    let call = client.begin("/e", b"never answered").await.unwrap();
    server.until(|journal| journal.streams() == 1).await;
    server.kill(Ending::Reset).await;
    let error = call.finish().await.unwrap_err();
    assert!(
        !error.is_io() || common::io_kind(&error) != ErrorKind::ConnectionReset,
        "{error}"
    );
    assert_eq!(
        relay.streams().len(),
        1,
        "must know what the dead server knew"
    );
}

#[tokio::test]
async fn it_passes_a_reset_when_asked_to() {
    let server = Server::start(faults::reset_at_once()).await.unwrap();
    let relay = Relay::to(server.addr()).await.unwrap();
    relay.pass_resets(true);
    let error = Client::tcp(relay.addr()).await.ended().await.unwrap_err();
    assert_eq!(common::io_kind(&error), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn it_refuses_when_it_stops_listening() {
    let (_server, relay, mut client) = relayed(Backend::new("a")).await;
    client.call("/e", b"before").await.unwrap();
    relay.stop_listening().await;
    let refused = tokio::net::TcpStream::connect(relay.addr())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.call("/e", b"still").await.unwrap();
    relay.start_listening().await.unwrap();
    Client::tcp(relay.addr())
        .await
        .call("/e", b"again")
        .await
        .unwrap();
}
