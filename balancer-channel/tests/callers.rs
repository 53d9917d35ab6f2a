//! What callers and their runtimes do to a channel: abandon it, starve it, move its futures about, end the
//! world around it. Who drops an RPC is in `dropped`, who outlives a runtime in `ends`.

mod support;

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use balancer_api::{Dialer, Io};
use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{Answer, Backend, Ending, Server};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use support::{
    echo,
    pipes::{Pipes, piped},
    text,
};
use tokio::{runtime, task::JoinSet, time::Instant};
use tonic::{Code, Request, body::Body};
use tower::ServiceExt;

/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(10);

async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.expect("must not hang")
}

fn to(server: &Server) -> Channel {
    let channel = Channel::builder(format!("ipv4:{}", server.addr())).plaintext();
    channel.build().expect("a channel")
}

fn patient() -> Request<support::Text> {
    let mut request = Request::new(text("patient"));
    request.extensions_mut().insert(WaitForReady(true));
    request
}

/// The application keeps a response and nothing else.
#[tokio::test(crate = "crate::support::harness")]
async fn a_response_outlives_its_channel_and_then_everything_ends() {
    let mut peer = balancer_testpeer::Peer::listen().await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", peer.addr())).plaintext();
    let channel = channel.build().expect("a channel");
    let request = http::Request::post("/test.Echo/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .expect("a request");
    let rpc = within(channel.clone().oneshot(request));
    let server = async {
        let mut conn = peer.accept().await.expect("a connection");
        conn.handshake().await.expect("a handshake");
        let stream = conn.next_call().await.expect("an RPC").stream;
        conn.reply_headers(stream).await.expect("sent");
        (conn, stream)
    };
    let (response, (mut conn, stream)) = tokio::join!(rpc, server);
    let body = response.expect("it begins").into_body();
    drop(channel);

    conn.reply_message(stream, b"still there")
        .await
        .expect("sent");
    conn.reply_trailers(stream, 0, "").await.expect("sent");
    let whole = within(body.collect()).await.expect("whole");
    assert!(whole.to_bytes().ends_with(b"still there"));
    conn.expect_closed()
        .await
        .expect("nobody holds it any more");
}

#[test]
fn a_channel_may_be_dropped_where_there_is_no_runtime() {
    // Leaks: the channel is dropped without a runtime, and the server sees it go.
    let home = runtime::Runtime::new().expect("a runtime");
    let server = home.block_on(Server::start(Backend::new("a")));
    let server = server.expect("a port");
    let channel = home.block_on(async {
        let channel = to(&server);
        within(echo(&channel, text("hello"))).await.expect("served");
        channel
    });
    drop(channel);
    home.block_on(within(server.until(|journal| journal.open() == 0)));
}

/// Where tokio would panic the channel is not built, and says what to do about it.
#[test]
fn a_runtime_that_lacks_something_is_refused_by_name() {
    let refusal = |home: &runtime::Runtime, target: &str| {
        let _entered = home.enter();
        let built = Channel::builder(target).plaintext().build();
        built.expect_err("it could not live").to_string()
    };
    let bare = runtime::Builder::new_current_thread().build();
    let without_timers = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build();
    for home in [bare, without_timers] {
        let home = home.expect("a runtime");
        assert_eq!(
            refusal(&home, "ipv4:127.0.0.1:1"),
            "the tokio runtime has no timers: call enable_time() or enable_all() on its builder"
        );
    }
    let home = runtime::Builder::new_current_thread().enable_time().build();
    let home = home.expect("a runtime");
    for target in ["ipv4:127.0.0.1:1", "dns:///localhost:1"] {
        assert_eq!(
            refusal(&home, target),
            "the tokio runtime has no I/O: call enable_io() or enable_all() on its builder"
        );
    }
    // With byte streams of the application's own there is nothing that it would be needed for.
    home.block_on(async {
        let server = Arc::new(Server::in_memory(Backend::new("a")));
        let channel = piped(std::slice::from_ref(&server)).build();
        let channel = channel.expect("a channel");
        within(echo(&channel, text("hello"))).await.expect("served");
        within(channel.close()).await;
    });
}

/// Be it the only thread that the runtime has for what blocks: the channel needs none of those.
#[test]
fn a_thread_may_block_on_an_rpc() {
    // Leaks: the channel is dropped within, and the runtime right after.
    let home = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build();
    home.expect("a runtime").block_on(async {
        let server = Server::start(Backend::new("a")).await.expect("a port");
        let channel = to(&server);
        let blocking = channel.clone();
        let handle = runtime::Handle::current();
        let blocked = tokio::task::spawn_blocking(move || {
            // As code does that is not asynchronous itself.
            let mut request = patient();
            request.set_timeout(PATIENCE / 2);
            handle.block_on(echo(&blocking, request))
        });
        within(blocked).await.expect("no panic").expect("served");
        within(channel.close()).await;
    });
}

/// The runtime ends with an RPC under way, and then the rest of the program goes on.
#[test]
fn a_runtime_may_end_under_an_rpc() {
    // Leaks: these are the servers'.
    let servers = runtime::Runtime::new().expect("a runtime");
    let silent = Backend::new("silent").answer(Answer::Never);
    let server = servers.block_on(Server::start(silent)).expect("a port");
    // Leaks: the runtime ends before its channel, and takes everything along.
    let home = runtime::Runtime::new().expect("a runtime");
    let channel = home.block_on(async { to(&server) });
    let rpc = {
        let channel = channel.clone();
        home.spawn(async move { echo(&channel, text("hello")).await })
    };
    servers.block_on(within(server.until(|journal| journal.streams() == 1)));
    home.shutdown_timeout(PATIENCE);
    assert!(rpc.now_or_never().is_some(), "it ended with its runtime");
    servers.block_on(within(server.until(|journal| journal.open() == 0)));
    // What is left is an empty shell that can still be asked, and dropped.
    let _ = channel.state(true);
    drop(channel);
}

/// One worker of two does not come back for as long as the RPCs last.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
async fn a_worker_that_blocks_holds_nobody_up() {
    let server = Server::start(Backend::new("a")).await.expect("a port");
    let channel = to(&server);
    within(echo(&channel, text("first"))).await.expect("served");
    let (release, wait) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let hog = tokio::spawn(async move {
        let _ = begun.send(());
        // Blocks its thread, as no task should.
        let _ = wait.recv();
    });
    begins.await.expect("it has begun");
    for _ in 0..100 {
        within(echo(&channel, text("hello"))).await.expect("served");
    }
    drop(release);
    hog.await.expect("no panic");
    within(channel.close()).await;
}

/// A machine that slept for an hour is no peer that was silent for one.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_clock_that_jumps_kills_no_connection() {
    let slow = Answer::Echo.after(Duration::from_secs(5_000));
    let server = Arc::new(Server::in_memory(Backend::new("slow").answer(slow)));
    let channel = piped(std::slice::from_ref(&server))
        .keepalive(Duration::from_secs(10), Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    let rpc = tokio::spawn({
        let channel = channel.clone();
        async move { echo(&channel, text("hello")).await }
    });
    server.until(|journal| journal.streams() == 1).await;
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let answer = rpc.await.expect("no panic");
    answer.expect("the peer has answered each ping that it was sent");
    assert_eq!(server.journal().accepted(), 1, "the connection is the same");
    channel.close().await;
}

/// The sockets of a channel are not inherited by programs that the process starts.
#[tokio::test(crate = "crate::support::harness")]
#[cfg(target_os = "linux")]
async fn programs_that_are_started_get_no_socket() {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let server = Server::start(Backend::new("a")).await.expect("a port");
    let channel = to(&server);
    within(echo(&channel, text("hello"))).await.expect("served");
    let mut sockets = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("our descriptors") {
        let fd = entry.expect("a descriptor").path();
        let socket =
            std::fs::read_link(&fd).is_ok_and(|what| what.to_string_lossy().starts_with("socket:"));
        let info = fd.to_string_lossy().replace("/fd/", "/fdinfo/");
        // One that was closed meanwhile is nobody's.
        let (true, Ok(info)) = (socket, std::fs::read_to_string(&info)) else {
            continue;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal");
        assert_ne!(flags & CLOSE_ON_EXEC, 0, "{fd:?} would be inherited");
        sockets += 1;
    }
    assert!(sockets >= 2, "both ends at least: {sockets}");
    within(channel.close()).await;
}

/// No more RPCs wait than may; those that do are served when somebody comes.
#[tokio::test(crate = "crate::support::harness")]
async fn more_than_may_wait_are_told_so_at_once() {
    let server = Server::start(Backend::new("late")).await.expect("a port");
    server.kill(Ending::Close).await;
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .max_queued_rpcs(1_000)
        .build()
        .expect("a channel");
    let started = Instant::now();
    let mut rpcs = JoinSet::new();
    for _ in 0..1_500 {
        let channel = channel.clone();
        rpcs.spawn(async move { echo(&channel, patient()).await });
    }
    let mut refused = 0;
    while refused < 500 {
        let ended = within(rpcs.join_next()).await.expect("one more");
        let status = ended.expect("no panic").expect_err("nobody serves");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        refused += 1;
    }
    assert!(started.elapsed() < PATIENCE, "at once");
    assert_eq!(channel.snapshot().waiting, 1_000);
    server.restart().await.expect("the port is still ours");
    channel.reset_backoff();
    while let Some(ended) = within(rpcs.join_next()).await {
        ended
            .expect("no panic")
            .expect("each that waited is served");
    }
    within(channel.close()).await;
}

/// Polled by somebody who does not care, then by another task: the last one is woken, whatever the RPC
/// waits for.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn an_rpc_may_move_from_task_to_task() {
    let slow = || Backend::new("slow").answer(Answer::Echo.after(A_WHILE));
    for moves in 0..10 {
        println!("{moves} moves, waiting for the answer");
        let server = Arc::new(Server::in_memory(slow()));
        let channel = piped(std::slice::from_ref(&server)).build();
        let channel = channel.expect("a channel");
        within(channel.connect()).await.expect("connected");
        moved(&channel, moves).await;
        channel.close().await;

        println!("{moves} moves, waiting for a connection");
        let late = Arc::new(Late(Pipes(vec![server.clone()])));
        let channel = piped(&[server]).dialer(late);
        let channel = channel.build().expect("a channel");
        moved(&channel, moves).await;
        channel.close().await;

        println!("{moves} moves, waiting for a stream");
        let narrow = slow().max_concurrent_streams(1);
        let server = Arc::new(Server::in_memory(narrow));
        let channel = piped(std::slice::from_ref(&server)).build();
        let channel = channel.expect("a channel");
        let occupant = tokio::spawn({
            let channel = channel.clone();
            async move { echo(&channel, patient()).await }
        });
        within(server.until(|journal| journal.streams() == 1)).await;
        moved(&channel, moves).await;
        let occupant = within(occupant).await.expect("no panic");
        occupant.expect("served");
        channel.close().await;
    }
}

/// Longer than the moves of an RPC take.
const A_WHILE: Duration = Duration::from_millis(20);

/// Takes a while to connect.
struct Late(Pipes);

#[async_trait::async_trait]
impl Dialer for Late {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        tokio::time::sleep(A_WHILE).await;
        self.0.dial(addr).await
    }
}

/// An RPC that is polled by so many tasks, and then by one that waits for it.
async fn moved(channel: &Channel, moves: usize) {
    let rpc = channel.clone();
    let mut rpc = async move { echo(&rpc, patient()).await }.boxed();
    for _ in 0..moves {
        // A task of its own, which ends with the RPC half done; its waker is nobody's then.
        let task = tokio::spawn(async move {
            let first = futures_util::poll!(&mut rpc);
            assert!(first.is_pending(), "it takes a while");
            tokio::time::sleep(Duration::from_millis(1)).await;
            (rpc,)
        });
        (rpc,) = task.await.expect("no panic");
    }
    let last = tokio::spawn(rpc);
    within(last).await.expect("no panic").expect("served");
}
