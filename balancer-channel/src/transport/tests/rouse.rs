//! The end of a stream does not wake the driver, and nothing that has to leave waits for that.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use balancer_channel_core::{Connected, Connection as _};
use balancer_testpeer::{
    Conn, Event,
    frame::{code, setting},
};
use futures_util::poll;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::support::{
    Ends, call, connector, framed, pair_by_hand, pair_by_hand_with, read, setup, soon, streaming,
};
use crate::transport::{Connector, H2Connection, H2Options};

/// A pipe that counts how often the connection looks for something to read: once at least whenever it
/// is polled.
struct Looks {
    pipe: tokio::io::DuplexStream,
    looks: Arc<AtomicUsize>,
}

impl AsyncRead for Looks {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.looks.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut this.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Looks {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().pipe).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}

/// On one thread: whoever was woken has run.
async fn everybody_has_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// An RPC comes and goes, and the wake-up for its end is put off.
async fn one_ends(connected: &Connected<H2Connection>, peer: &mut Conn) {
    let rpc = connected.connection.send(call(b"one"));
    let answer = async {
        let stream = peer.next_call().await.expect("the call").stream;
        peer.reply_ok(stream, b"done").await.expect("send");
    };
    let (response, ()) = tokio::join!(rpc, answer);
    everybody_has_run().await;
    let (body, _) = read(response.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    assert_eq!(body, framed(b"done"));
    assert!(
        connected.connection.shared().driver.owes(),
        "or there is nothing to see here"
    );
}

#[tokio::test]
async fn the_end_of_a_stream_wakes_nobody() {
    let (pipe, server) = tokio::io::duplex(1 << 16);
    let looks = Arc::new(AtomicUsize::new(0));
    let io = Looks {
        pipe,
        looks: looks.clone(),
    };
    let mut peer = Conn::over(server);
    let (connected, settings) =
        tokio::join!(H2Connection::handshake(io, setup()), peer.handshake());
    let (connected, _) = (connected.expect("ready"), settings.expect("SETTINGS"));
    let answered = async |peer: &mut Conn| {
        let rpc = connected.connection.send(call(b"a"));
        let answer = async {
            let stream = peer.next_call().await.expect("the call").stream;
            peer.reply_ok(stream, b"b").await.expect("send");
        };
        let (response, ()) = tokio::join!(rpc, answer);
        everybody_has_run().await;
        response.expect("begun")
    };

    let response = answered(&mut peer).await;
    let before = looks.load(Ordering::SeqCst);
    read(response, &Ends::default()).await.expect("whole");
    everybody_has_run().await;
    assert_eq!(
        looks.load(Ordering::SeqCst),
        before,
        "nobody waits for the driver"
    );

    let unread = answered(&mut peer).await;
    let before = looks.load(Ordering::SeqCst);
    drop(unread);
    everybody_has_run().await;
    assert!(
        looks.load(Ordering::SeqCst) > before,
        "what was not read to its end may leave something to do"
    );
}

#[tokio::test]
async fn a_cancelled_stream_is_reset_all_the_same() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let mut other = Box::pin(connected.connection.send(call(b"other")));
    assert!(poll!(&mut other).is_pending());
    let stream = peer.next_call().await.expect("the other").stream;
    one_ends(&connected, &mut peer).await;

    drop(other);
    let why = peer.expect_reset(stream).await.expect("a reset");
    assert_eq!(why, code::CANCEL);
}

#[tokio::test]
async fn the_next_request_leaves() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    one_ends(&connected, &mut peer).await;
    one_ends(&connected, &mut peer).await;
    let call = soon(connected.connection.send(call(b"last")));
    let call = async { call.await.expect("begun") };
    let answer = async {
        let stream = peer.next_call().await.expect("the call").stream;
        peer.reply_trailers_only(stream, 5, "").await.expect("send");
    };
    let (response, ()) = tokio::join!(call, answer);
    assert!(response.status().is_some());
}

/// Before the response has begun, by the RPC's own future, and after, by a task.
#[tokio::test]
async fn the_next_message_of_a_request_leaves() {
    for has_begun in [false, true] {
        let (connected, mut peer) = pair_by_hand(&[]).await;
        let (messages, request) = streaming();
        let mut rpc = Box::pin(connected.connection.send(request));
        assert!(poll!(&mut rpc).is_pending());
        let stream = peer.next_request().await.expect("the head").stream;
        let mut begun = None;
        if has_begun {
            peer.reply_headers(stream).await.expect("send");
            let response = (&mut rpc).await.expect("begun");
            begun = Some(response.into_http(Ends::default()));
            everybody_has_run().await;
        }
        one_ends(&connected, &mut peer).await;

        messages.send(Ok(framed(b"more"))).expect("it is read");
        if !has_begun {
            assert!(poll!(&mut rpc).is_pending());
        }
        let message = peer.message(stream).await.expect("it leaves");
        assert_eq!(message.as_deref(), Some(&b"more"[..]), "begun: {has_begun}");
        drop(begun);
    }
}

#[tokio::test]
async fn the_window_is_given_back() {
    const PIECE: usize = 16_000;
    let narrow = Connector {
        options: H2Options {
            stream_window: 3 * PIECE as u32,
            ..H2Options::default()
        },
        ..connector()
    };
    let (connected, mut peer) = pair_by_hand_with(narrow, &[]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"large")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_call().await.expect("the call").stream;
    peer.reply_headers(stream).await.expect("send");
    for _ in 0..3 {
        // No prefix of a message says anything here: one message of three pieces.
        peer.send_data(stream, vec![0; PIECE], false)
            .await
            .expect("send");
    }
    let mut body = rpc
        .await
        .expect("begun")
        .into_http(Ends::default())
        .into_body();
    everybody_has_run().await;
    one_ends(&connected, &mut peer).await;

    for _ in 0..3 {
        body.frame().await.expect("open").expect("no error");
    }
    peer.expect("more room for the stream", |event| match event {
        Event::WindowUpdate { stream: of, .. } if of == stream => Ok(()),
        other => Err(other),
    })
    .await
    .expect("it was read");
}

#[tokio::test]
async fn a_connection_that_nobody_holds_says_goodbye() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    one_ends(&connected, &mut peer).await;
    drop(connected);
    peer.expect_goaway().await.expect("goodbye");
    peer.expect_closed().await.expect("and the end");
}

#[tokio::test]
async fn one_that_closes_says_goodbye_after_its_last_stream() {
    let (connected, mut peer) = pair_by_hand(&[]).await;
    let rpc = connected.connection.send(call(b"last"));
    let answer = async {
        let stream = peer.next_call().await.expect("the call").stream;
        peer.reply_ok(stream, b"done").await.expect("send");
    };
    let (response, ()) = tokio::join!(rpc, answer);
    connected.connection.close();
    everybody_has_run().await;
    read(response.expect("begun"), &Ends::default())
        .await
        .expect("whole");
    peer.expect_goaway().await.expect("goodbye");
    peer.expect_closed().await.expect("and the end");
}

/// Others hold what would fill the connection's window: what an ended stream gives back may be what the
/// peer waits for.
#[tokio::test]
async fn a_window_that_is_nearly_used_up_is_given_back_at_once() {
    const PIECE: usize = 16_000;
    let narrow = Connector {
        options: H2Options {
            stream_window: 8 * PIECE as u32,
            connection_window: 8 * PIECE as u32,
            ..H2Options::default()
        },
        ..connector()
    };
    let (connected, mut peer) = pair_by_hand_with(narrow, &[]).await;
    let mut unread = Vec::new();
    for stream_of in 0..5 {
        let mut rpc = Box::pin(connected.connection.send(call(b"large")));
        assert!(poll!(&mut rpc).is_pending());
        let stream = peer.next_call().await.expect("the call").stream;
        peer.reply_headers(stream).await.expect("send");
        peer.send_data(stream, vec![0; PIECE - 1], false)
            .await
            .expect("send");
        peer.reply_trailers(stream, 0, "").await.expect("send");
        let response = rpc
            .await
            .unwrap_or_else(|_| panic!("{stream_of} must begin"));
        unread.push(response);
    }
    everybody_has_run().await;
    for response in unread {
        read(response, &Ends::default()).await.expect("whole");
    }
    peer.expect("more room for all", |event| match event {
        Event::WindowUpdate { stream: 0, .. } => Ok(()),
        other => Err(other),
    })
    .await
    .expect("it was read");
}

/// A connection that was closed has no stream any more for the channel, and for `h2` it has: part of the
/// request waits for the peer's window. Nobody waits for that peer longer than it takes to say goodbye.
#[tokio::test]
async fn one_that_closes_does_not_wait_for_a_peer_that_takes_nothing() {
    let (connected, mut peer) = pair_by_hand(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
    let mut rpc = Box::pin(connected.connection.send(call(b"x")));
    assert!(poll!(&mut rpc).is_pending());
    let stream = peer.next_request().await.expect("the head").stream;
    peer.reply_ok(stream, b"early").await.expect("send");
    let response = rpc.await.expect("begun");
    connected.connection.close();
    everybody_has_run().await;
    read(response, &Ends::default()).await.expect("whole");
    assert_eq!(connected.connection.streams(), 0);
    soon(connected.connection.drained()).await;
}

/// The same where nobody reads at all, and the driver waits for room in the socket.
#[tokio::test]
async fn one_that_closes_does_not_wait_for_a_peer_that_reads_nothing() {
    let (pipe, server) = tokio::io::duplex(1 << 12);
    let mut peer = Conn::over(server);
    let (connected, settings) =
        tokio::join!(H2Connection::handshake(pipe, setup()), peer.handshake());
    let (connected, _) = (connected.expect("ready"), settings.expect("SETTINGS"));
    let mut rpc = Box::pin(connected.connection.send(call(&[0; 60_000])));
    assert!(poll!(&mut rpc).is_pending());
    everybody_has_run().await;
    connected.connection.close();
    everybody_has_run().await;
    drop(rpc);
    assert_eq!(connected.connection.streams(), 0);
    soon(connected.connection.drained()).await;
}
