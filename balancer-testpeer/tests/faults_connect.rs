//! Faults of connect and handshake are what they claim to be, as sockets and h2 see them.

mod common;

use balancer_testpeer::{
    Backend, Blackhole, Conn, Refused, Script, Server,
    faults::{self, IllegalSettings},
    frame::{Frame, setting},
};
use common::{Client, reason};
use h2::Reason;
use std::{io::ErrorKind, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Long enough for loopback, short enough to wait for what must not come.
const SHORT: Duration = Duration::from_millis(100);

/// What the peer says to a client that says what `hello` is.
async fn heard(server: &Server, hello: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server.addr()).await?;
    stream.write_all(hello).await?;
    let mut said = Vec::new();
    // The peer may stay silent or keep the connection: what came by then is what it says.
    match timeout(SHORT, stream.read_to_end(&mut said)).await {
        Ok(Err(error)) => Err(error),
        _ => Ok(said),
    }
}

#[tokio::test]
async fn c1_a_refused_address_refuses() {
    let nobody = Refused::new().unwrap();
    let error = TcpStream::connect(nobody.addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn c2_a_blackhole_answers_no_syn() {
    let hole = Blackhole::new().unwrap();
    for _ in 0..3 {
        let connect = timeout(SHORT, TcpStream::connect(hole.addr())).await;
        assert!(connect.is_err(), "must hang, not {connect:?}");
    }
}

#[tokio::test]
async fn c3_accept_then_close() {
    let server = Server::start(faults::close_at_once()).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let mut octet = [0];
    assert_eq!(stream.read(&mut octet).await.unwrap(), 0, "must be FIN");

    server.set_script(faults::reset_at_once());
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let error = stream.read(&mut octet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.journal().accepted(), 2);
}

#[tokio::test]
async fn c4_silence_is_silent_and_open() {
    let server = Server::start(faults::silence()).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream
        .write_all(balancer_testpeer::frame::PREFACE)
        .await
        .unwrap();
    let mut octet = [0];
    let read = timeout(SHORT, stream.read(&mut octet)).await;
    assert!(read.is_err(), "neither octet nor end must come: {read:?}");
    assert_eq!(server.journal().open(), 1);
}

#[tokio::test]
async fn c5_http1_and_garbage() {
    let server = Server::start(faults::http1()).await.unwrap();
    let said = heard(&server, b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    assert!(
        said.starts_with(b"HTTP/1.1 400 Bad Request\r\n"),
        "{}",
        said.escape_ascii()
    );
    let error = Client::tcp(server.addr()).await.ended().await.unwrap_err();
    assert_eq!(
        reason(&error),
        Reason::FRAME_SIZE_ERROR,
        "h2 takes the text for a huge frame"
    );

    server.set_script(faults::garbage(42, 64));
    let first = heard(&server, b"").await.unwrap();
    let second = heard(&server, b"").await.unwrap();
    assert_eq!(first.len(), 64);
    assert_eq!(first, second, "a seed must repeat its garbage");
}

#[tokio::test]
async fn c6_a_first_frame_that_is_not_settings() {
    for frame in [
        Frame::ping(*b"12345678"),
        Frame::window_update(0, 1),
        Frame::settings_ack(),
    ] {
        let server = Server::start(faults::first_frame(frame.clone()))
            .await
            .unwrap();
        assert_eq!(heard(&server, b"").await.unwrap(), frame.encode());
    }
}

#[tokio::test]
async fn c6_illegal_settings_are_refused_by_h2() {
    // h2 lets a server say ENABLE_PUSH 1, which section 6.5.2 makes an error: nothing to see there.
    let seen_by_h2 = |which: &IllegalSettings| *which != IllegalSettings::ServerPush;
    for which in IllegalSettings::ALL.into_iter().filter(seen_by_h2) {
        let server = Server::start(faults::illegal_settings(which))
            .await
            .unwrap();
        let mut client = Client::tcp(server.addr()).await;
        let pending = client.begin("/e", b"").await.unwrap();
        let error = timeout(Duration::from_secs(5), pending.finish()).await;
        let error = error
            .unwrap_or_else(|_| panic!("{which:?}: h2 must notice"))
            .unwrap_err();
        assert_ne!(reason(&error), Reason::NO_ERROR, "{which:?}");
    }
}

#[tokio::test]
async fn c6_settings_are_never_acknowledged() {
    let server = Server::start(faults::no_settings_ack()).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let mut hello = balancer_testpeer::frame::PREFACE.to_vec();
    hello.extend(Frame::settings(&[]).encode());
    hello.extend(Frame::ping(*b"12345678").encode());
    stream.write_all(&hello).await.unwrap();
    let mut said = [0; 9 + 17];
    stream.read_exact(&mut said).await.unwrap();
    let expected = [
        Frame::settings(&[]).encode(),
        Frame::pong(*b"12345678").encode(),
    ]
    .concat();
    assert_eq!(
        said[..],
        expected,
        "must answer the PING and nothing before it"
    );
}

#[tokio::test]
async fn c6_settings_then_close() {
    let server = Server::start(faults::settings_then_close()).await.unwrap();
    assert_eq!(
        heard(&server, b"").await.unwrap(),
        Frame::settings(&[]).encode()
    );
}

#[tokio::test]
async fn each_connection_gets_its_own_fault() {
    let script = Script::new()
        .on_connection(1, faults::close_at_once())
        .on_connections(2..=3, faults::http1())
        .otherwise(Backend::new("good"));
    let server = Server::start(script).await.unwrap();
    assert_eq!(heard(&server, b"").await.unwrap(), b"");
    assert!(heard(&server, b"").await.unwrap().starts_with(b"HTTP/1.1"));
    assert!(heard(&server, b"").await.unwrap().starts_with(b"HTTP/1.1"));
    let reply = Client::tcp(server.addr())
        .await
        .call("/e", b"")
        .await
        .unwrap();
    assert_eq!(reply.header("x-backend"), "good");
    let times = server.journal().accept_times();
    assert!(times.is_sorted() && times.len() == 4, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_runs_over_any_stream_and_is_patient() {
    let (client, server) = tokio::io::duplex(1024);
    let mut conn = Conn::over(server);
    conn.set_patience(Some(Duration::from_secs(20)));
    let error = conn
        .handshake_with(&[(setting::MAX_FRAME_SIZE, 1)])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "wanted SETTINGS, nothing came within 20s"
    );
    drop(client);
    let error = conn.next_request().await.unwrap_err();
    assert_eq!(error.to_string(), "wanted a request, but the client closed");
    assert!(error.is_disconnect());
}
