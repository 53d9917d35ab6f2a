//! Asked to be right, the peer is: h2 finds nothing wrong with it.

mod common;

use balancer_testpeer::{Answer, Backend, Behaviour, Ending, Peer, Script, Server};
use common::Client;
use std::time::Duration;

#[tokio::test]
async fn a_backend_echoes_and_names_itself() {
    let server = Server::start(Backend::new("a")).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    for nth in 0..100 {
        let text = format!("message {nth}");
        let mut reply = client
            .call("/test.Echo/Unary", text.as_bytes())
            .await
            .unwrap();
        assert_eq!(
            reply.message().unwrap(),
            text.as_bytes(),
            "must echo the message"
        );
        assert_eq!(reply.header("x-backend"), "a");
        assert_eq!(reply.status(), Some("0"));
    }
    let journal = server.journal();
    assert_eq!(journal.accepted(), 1);
    assert_eq!(journal.headers(), 100, "must count one HEADERS per call");
    assert_eq!(journal.connections[0].streams[..3], [1, 3, 5]);
    assert_eq!(
        journal.connections[0].settings_acks, 1,
        "h2 must have liked our SETTINGS"
    );
}

#[tokio::test]
async fn a_large_message_keeps_to_the_windows_both_ways() {
    let server = Server::start(Backend::new("a")).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    let large: Vec<u8> = (0..10_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let mut reply = client.call("/test.Echo/Unary", &large).await.unwrap();
    assert!(
        reply.message().unwrap() == large,
        "must echo 10 MiB unchanged"
    );
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let server = Server::start(Backend::new("a")).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    let mut pending = Vec::new();
    for nth in 0..200_u32 {
        let message = vec![nth.to_le_bytes()[0]; 5_000];
        let call = client.begin("/e", &message).await.unwrap();
        // All are read at once: an unread reply would hold the connection's window.
        pending.push((message, tokio::spawn(call.finish())));
    }
    for (message, call) in pending {
        let reply = call.await.unwrap().unwrap().message().unwrap();
        assert_eq!(reply, message, "each stream must get its own message back");
    }
}

#[tokio::test(start_paused = true)]
async fn it_serves_in_memory_under_paused_time() {
    let started = tokio::time::Instant::now();
    let slow = Answer::ok(b"late").after(Duration::from_secs(3600));
    let server = Server::in_memory(Backend::new("a").answer(slow));
    let mut client = Client::over(server.connect()).await.unwrap();
    let mut reply = client.call("/slow", b"").await.unwrap();
    assert_eq!(&reply.message().unwrap()[..], b"late");
    assert_eq!(
        started.elapsed().as_secs(),
        3600,
        "must take an hour of no time"
    );
}

#[tokio::test]
async fn a_test_can_drive_every_step_by_hand() {
    let mut peer = Peer::listen().await.unwrap();
    let addr = peer.addr();
    let client = tokio::spawn(async move {
        let mut client = Client::tcp(addr).await;
        client.call("/test.Greeter/Hello", b"who?").await
    });

    let mut conn = peer.accept().await.unwrap();
    conn.handshake().await.unwrap();
    let call = conn.next_call().await.unwrap();
    assert_eq!(call.stream, 1);
    assert_eq!(call.path(), "/test.Greeter/Hello");
    assert_eq!(call.header(":authority"), Some("peer.test"));
    assert_eq!(call.header("te"), Some("trailers"));
    assert_eq!(&call.message().unwrap()[..], b"who?");
    conn.expect_settings_ack().await.unwrap();
    conn.send_ping(*b"12345678").await.unwrap();
    conn.expect_pong(*b"12345678").await.unwrap();
    conn.reply_status(call.stream, 5, "no such thing: ü")
        .await
        .unwrap();

    let reply = client.await.unwrap().unwrap();
    assert_eq!(reply.status(), Some("5"));
    let message = reply
        .trailers
        .as_ref()
        .unwrap()
        .get("grpc-message")
        .unwrap();
    assert_eq!(message, "no such thing: %C3%BC");
    conn.expect_closed().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port() {
    for ending in [Ending::Close, Ending::Reset] {
        let server = Server::start(Backend::new("a")).await.unwrap();
        let mut client = Client::tcp(server.addr()).await;
        client.call("/e", b"before").await.unwrap();

        server.kill(ending).await;
        let lost = client.ended().await;
        match ending {
            Ending::Reset => {
                let error = lost.unwrap_err();
                assert_eq!(common::io_kind(&error), std::io::ErrorKind::ConnectionReset);
            }
            Ending::Close => assert!(
                lost.is_ok(),
                "FIN on an idle connection is no error: {lost:?}"
            ),
        }
        let refused = tokio::net::TcpStream::connect(server.addr())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(
            server.journal().open(),
            0,
            "must have let go of every connection"
        );

        server.restart().await.unwrap();
        let mut client = Client::tcp(server.addr()).await;
        client.call("/e", b"after").await.unwrap();
        assert_eq!(
            server.journal().accepted(),
            2,
            "must count over the restart"
        );
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_open_and_loses_nothing() {
    let slow = Answer::ok(b"done").after(Duration::from_millis(50));
    let server = Server::start(Backend::new("a").answer(slow)).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    let mut pending = Vec::new();
    for _ in 0..20 {
        pending.push(client.begin("/slow", b"").await.unwrap());
    }
    server.until(|journal| journal.streams() == 20).await;
    let (drained, replies) = tokio::join!(server.drain(), async {
        let mut replies = Vec::new();
        for call in pending {
            replies.push(call.finish().await.unwrap());
        }
        client.ended().await.unwrap();
        replies
    });
    let () = drained;
    assert_eq!(replies.len(), 20);
    assert!(replies.iter().all(|reply| reply.status() == Some("0")));
}

#[tokio::test]
async fn a_behaviour_runs_over_a_wrapped_stream_and_its_panic_is_told() {
    let script = Script::new()
        .on_connection(
            1,
            Behaviour::new(|conn| async {
                let conn = conn
                    .wrap(async |io| Ok(tokio::io::BufStream::new(io)))
                    .await?;
                Backend::new("wrapped").serve(conn).await
            }),
        )
        .otherwise(Behaviour::new(|mut conn| async move {
            conn.handshake().await?;
            panic!("this request must not come");
        }));
    let server = Server::start(script).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    assert_eq!(
        client.call("/e", b"").await.unwrap().header("x-backend"),
        "wrapped"
    );
    assert_eq!(server.journal().connections[0].peak_streams, 1);

    let _ = Client::tcp(server.addr()).await.ended().await;
    server
        .until(|journal| journal.connections[1].error.is_some())
        .await;
    let error = server.journal().connections[1].error.clone().unwrap();
    assert!(error.contains("this request must not come"), "{error}");
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing_behind() {
    let server = Server::start(Backend::new("a")).await.unwrap();
    let addr = server.addr();
    let client = Client::tcp(addr).await;
    server.until(|journal| journal.accepted() == 1).await;
    drop(server);
    let _ = client.ended().await;
    let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
