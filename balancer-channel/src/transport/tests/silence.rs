//! RPCs of every kind on one connection, and then silence: what has to leave does so by itself, not with
//! whatever comes next.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use balancer_channel_core::Connection as _;
use fastrand::Rng;
use futures_util::poll;
use http_body_util::BodyExt;
use tokio::task::{JoinSet, yield_now};

use super::support::{
    Ends, call, connector, echo, framed, pair_with, read, serve_h2, soon, streaming, unary,
};
use crate::transport::{Connector, H2Connection, H2Options};

/// How many requests have come to the server, and how many of them have ended there.
#[derive(Default)]
struct Seen {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// An end, however it came about.
struct Here(Arc<Seen>);

impl Here {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.begun.fetch_add(1, SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_waits_for_the_next_rpc_to_take_it_along() {
    for seed in 0..2 {
        println!("seed {seed}");
        let seen = Arc::<Seen>::default();
        let at_server = seen.clone();
        let narrow = Connector {
            options: H2Options {
                stream_window: 65_535,
                ..H2Options::default()
            },
            ..connector()
        };
        let connected = pair_with(narrow, move |socket| async move {
            let mut builder = h2::server::Builder::new();
            builder.max_pending_accept_reset_streams(1_000);
            serve_h2(socket, builder, move |request, respond| {
                let here = Here::new(&at_server);
                async move {
                    echo(request, respond).await;
                    drop(here);
                }
            })
            .await;
        })
        .await
        .expect("the server is there");
        let connection = connected.connection;
        let mut rng = Rng::with_seed(seed);
        for round in 0..40 {
            let mut rpcs = JoinSet::new();
            for _ in 0..rng.usize(1..6) {
                rpcs.spawn(one_rpc(connection.clone(), rng.fork()));
            }
            while let Some(done) = soon(rpcs.join_next()).await {
                done.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            let silence = async {
                while (connection.streams(), seen.ended.load(SeqCst)) != (0, connection.calls()) {
                    yield_now().await;
                }
            };
            soon(silence).await;
            assert_eq!(seen.begun.load(SeqCst), connection.calls());
        }
    }
}

/// An RPC of some kind, to its end or to where the application gives it up.
async fn one_rpc(connection: H2Connection, mut rng: Rng) {
    let ends = Ends::default();
    match rng.u8(0..6) {
        0 => {
            let response = connection.send(call(b"small")).await.expect("begun");
            read(response, &ends).await.expect("whole");
        }
        // More than its window holds.
        1 => {
            let bytes = framed(&vec![1; rng.usize(50_000..200_000)]);
            let response = connection.send(unary(bytes)).await.expect("begun");
            read(response, &ends).await.expect("whole");
        }
        // Given up at any poll.
        2 => {
            let mut rpc = Box::pin(connection.send(call(b"small")));
            for _ in 0..rng.usize(0..4) {
                if poll!(&mut rpc).is_ready() {
                    return;
                }
                yield_now().await;
            }
        }
        // Unread, or read in part.
        3 => {
            let response = connection.send(call(b"small")).await.expect("begun");
            let mut body = response.into_http(ends).into_body();
            if rng.bool() {
                body.frame().await.expect("open").expect("no error");
            }
        }
        // A conversation, to its end or given up, before the response has begun or after.
        kind => {
            let (messages, request) = streaming();
            let mut rpc = Box::pin(connection.send(request));
            let say = |bytes| {
                let message = framed(&vec![2; bytes]);
                // Nobody listens once the RPC has been given up.
                let _ = messages.send(Ok(message));
            };
            say(rng.usize(0..30_000));
            if rng.u8(0..4) == 0 {
                let _ = poll!(&mut rpc);
                return;
            }
            let mut body = rpc.await.expect("begun").into_http(ends).into_body();
            for _ in 0..rng.usize(0..4) {
                body.frame().await.expect("open").expect("no error");
                say(rng.usize(0..30_000));
            }
            if kind == 4 {
                drop(messages);
                while let Some(frame) = body.frame().await {
                    frame.expect("no error");
                }
            }
        }
    }
}
