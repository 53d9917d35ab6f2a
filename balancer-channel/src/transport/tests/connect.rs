//! From an address to READY: only a peer that says HTTP/2 gets there.

use std::{io, sync::Arc};

use async_trait::async_trait;
use balancer_api::{
    AuthInfo, Dialer, HandshakeError, Io, SecurityLevel, Status, TransportCredentials,
};
use balancer_testpeer::{
    Conn, Manners, Refused, Script, Server,
    faults::{self, IllegalSettings},
    frame::Frame,
};
use futures_util::{FutureExt, poll};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::support::{
    Ends, connector, counting_connector, echo, listen, read, serve_h2, soon, unary,
};
use crate::transport::{Connector, Security};

async fn fails(script: impl Into<Script>) -> Status {
    let server = Server::start(script).await.expect("a port");
    let address = server.addr().to_string();
    let connected = soon(connector().connect(&address, None)).await;
    connected.expect_err("must not become ready")
}

#[tokio::test]
async fn ready_means_that_the_peer_sent_settings() {
    let (listener, address) = listen().await;
    let (connector, tasks) = counting_connector();
    let mut connecting = Box::pin(connector.connect(&address, None));
    assert!(poll!(&mut connecting).is_pending());

    let accept = async {
        let (socket, _) = listener.accept().await.expect("accept");
        let mut peer = Conn::over(socket);
        peer.set_manners(Manners::mute());
        peer.expect_settings()
            .await
            .expect("the client speaks first");
        peer
    };
    let mut peer = tokio::select! {
        biased;
        _ = &mut connecting => panic!("a silent peer must not be ready"),
        peer = accept => peer,
    };
    assert!(poll!(&mut connecting).is_pending(), "TCP alone is nothing");
    tasks.none().await;

    peer.send_settings(&[]).await.expect("send");
    connecting.await.expect("ready");
    peer.expect_settings_ack().await.expect("acknowledged");
}

#[tokio::test]
async fn giving_up_on_a_silent_peer_closes_the_socket() {
    let (listener, address) = listen().await;
    let connector = connector();
    let mut connecting = Box::pin(connector.connect(&address, None));
    assert!(poll!(&mut connecting).is_pending());
    let (socket, _) = listener.accept().await.expect("accept");
    let mut peer = Conn::over(socket);
    peer.set_manners(Manners::mute());
    tokio::select! {
        biased;
        _ = &mut connecting => panic!("a silent peer must not be ready"),
        settings = peer.expect_settings() => drop(settings.expect("SETTINGS")),
    }
    drop(connecting);
    let closed = soon(peer.expect_closed()).await;
    closed.expect("closed with the future");
}

#[tokio::test]
async fn a_refusal_names_address_and_errno() {
    let refused = Refused::new().expect("an address");
    let status = connector()
        .connect(&refused.addr().to_string(), None)
        .await
        .expect_err("nobody is there");
    assert_eq!(
        status.to_string(),
        format!(
            "UNAVAILABLE: {}: connection refused (os error 111)",
            refused.addr()
        )
    );
}

#[tokio::test]
async fn bad_addresses_are_errors() {
    for address in [
        "",
        "nowhere",
        "127.0.0.1:99999",
        ":::",
        "unix:/nowhere/at/all",
    ] {
        let status = connector()
            .connect(address, None)
            .await
            .expect_err("no address");
        assert!(
            status.message().starts_with(&format!("{address}: ")),
            "must name the address: {status}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_closes_is_not_ready() {
    let status = fails(faults::close_at_once()).await;
    assert!(
        status
            .message()
            .ends_with("connection closed by the peer before its SETTINGS")
            || status.message().contains("connection reset"),
        "{status}"
    );
    let status = fails(faults::reset_at_once()).await;
    assert!(
        status.message().contains("connection reset by peer"),
        "{status}"
    );
}

#[tokio::test]
async fn http1_is_named_and_shown() {
    let status = fails(faults::http1()).await;
    assert!(
        status.message().contains(
            "not HTTP/2 (it speaks HTTP/1): the peer sent \"HTTP/1.1 400 Bad Request\\r\\n"
        ),
        "{status}"
    );
}

#[tokio::test]
async fn garbage_is_shown_up_to_64_bytes() {
    let status = fails(faults::say(vec![b'x'; 4096])).await;
    let shown = format!("not HTTP/2: the peer sent \"{}\"", "x".repeat(64));
    assert!(status.message().ends_with(&shown), "{status}");
    for seed in 0..32 {
        let status = fails(faults::garbage(seed, 512)).await;
        assert!(
            status.message().contains("not HTTP/2"),
            "seed {seed}: {status}"
        );
    }
}

#[tokio::test]
async fn a_tls_server_is_recognised() {
    // An alert: what a TLS server says to a client that speaks HTTP/2 at once.
    let status = fails(faults::say(&[0x15, 3, 3, 0, 2, 2, 70][..])).await;
    assert!(
        status
            .message()
            .contains("it speaks TLS; this channel is plaintext"),
        "{status}"
    );
}

#[tokio::test]
async fn the_first_frame_must_be_settings() {
    let status = fails(faults::first_frame(Frame::ping([0; 8]))).await;
    assert!(status.message().contains("not HTTP/2"), "{status}");
}

#[tokio::test]
async fn illegal_settings_are_not_ready() {
    for which in IllegalSettings::ALL {
        let status = fails(faults::illegal_settings(which)).await;
        assert!(!status.message().is_empty(), "{which:?}: {status}");
    }
}

#[tokio::test]
async fn a_goaway_with_the_settings_is_not_ready() {
    let status = fails(faults::goaway_at_once(
        balancer_testpeer::frame::code::NO_ERROR,
        "go",
    ))
    .await;
    assert!(
        status
            .message()
            .ends_with("server sent GOAWAY NO_ERROR \"go\""),
        "{status}"
    );
}

#[tokio::test]
async fn a_missing_acknowledgement_is_tolerated() {
    let server = Server::start(faults::no_settings_ack())
        .await
        .expect("a port");
    connector()
        .connect(&server.addr().to_string(), None)
        .await
        .expect("ready all the same");
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_are_dialled_by_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).expect("bind");
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("accept");
            let mut peer = h2::server::handshake(socket).await.expect("HTTP/2");
            tokio::spawn(async move { while peer.accept().await.is_some() {} });
        }
    });
    let path = path.to_str().expect("UTF-8");
    for address in [format!("unix:{path}"), format!("unix://{path}")] {
        connector().connect(&address, None).await.expect(&address);
    }
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("accept");
        serve_h2(socket, h2::server::Builder::new(), echo).await;
    });
    let port = address.rsplit(':').next().expect("a port");
    connector()
        .connect(&format!("localhost:{port}"), None)
        .await
        .expect("ready");
}

/// Hands out the client's end of a pipe to a server in memory.
struct Pipes(Server);

#[async_trait]
impl Dialer for Pipes {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Io>> {
        match address {
            "nowhere" => Err(io::Error::new(io::ErrorKind::NotFound, "No such pipe")),
            _ => Ok(Box::new(self.0.connect().compat())),
        }
    }
}

/// Says what it was asked for, and changes nothing.
#[derive(Debug)]
struct Trusting;

#[async_trait]
impl TransportCredentials for Trusting {
    async fn client_handshake(
        &self,
        authority: &str,
        io: Box<dyn Io>,
    ) -> Result<(Box<dyn Io>, AuthInfo), HandshakeError> {
        match authority {
            "greeter.test" => Ok((
                io,
                AuthInfo::new("trusting", SecurityLevel::PrivacyAndIntegrity),
            )),
            other => Err(HandshakeError::new(format!("I do not trust {other}"))),
        }
    }
}

#[tokio::test]
async fn the_application_may_dial_and_secure() {
    let server = Server::in_memory(balancer_testpeer::Backend::new("a"));
    let connector = Connector {
        dialer: Some(Arc::new(Pipes(server))),
        security: Security::Custom(Arc::new(Trusting)),
        ..connector()
    };
    let connected = connector.connect("anywhere", None).await.expect("ready");
    assert_eq!(&*connected.connection.auth().protocol, "trusting");
    let response = connected
        .connection
        .send(super::support::call(b"hi"))
        .await
        .expect("begun");
    let (body, _) = read(response, &Ends::default()).await.expect("whole");
    assert_eq!(body, super::support::framed(b"hi"));

    let status = connector
        .connect("nowhere", None)
        .await
        .expect_err("no pipe");
    assert_eq!(status.message(), "nowhere: no such pipe");
    let status = connector
        .connect("anywhere", Some("mallory"))
        .await
        .expect_err("no trust");
    assert_eq!(status.message(), "anywhere: I do not trust mallory");
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_poll() {
    let (_server, connected) = {
        let server = Server::start(balancer_testpeer::Backend::new("a"))
            .await
            .expect("a port");
        let connected = connector()
            .connect(&server.addr().to_string(), None)
            .await
            .expect("ready");
        (server, connected)
    };
    let rpc = connected.connection.send(unary("x"));
    assert_eq!(
        balancer_channel_core::Connection::streams(&connected.connection),
        0
    );
    drop(rpc);
    assert!(
        connected.lost.now_or_never().is_none(),
        "and nothing was lost"
    );
}
