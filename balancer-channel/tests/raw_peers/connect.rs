//! Connections that do not come about.

use std::{
    io,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_api::{Dialer, Io};
use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{Backend, Relay, Server};
use tokio::time::Instant;
use tokio_util::compat::TokioAsyncReadCompatExt;
use tonic::{Code, Request};

use crate::{
    secured::{Authority, Secured},
    support::{echo, starved, text},
};

/// What an attempt may take where no clock stands still.
const SHORT: Duration = Duration::from_millis(300);

/// In the child process that a test runs itself in.
const CHILD: &str = "BALANCER_RAW_PEERS_CHILD";

/// Never ends.
struct Endless;

/// Panics once, and is good from then on.
struct Clumsy {
    dials: AtomicUsize,
    server: Server,
}

#[async_trait::async_trait]
impl Dialer for Endless {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl Dialer for Clumsy {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        let first = self.dials.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(!first, "slipped");
        Ok(Box::new(self.server.connect().compat()))
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_dialer_that_never_ends_is_given_up() {
    let channel = Channel::builder("ipv4:10.0.0.1:1")
        .plaintext()
        .dialer(Arc::new(Endless))
        .build()
        .expect("a channel");
    let started = Instant::now();
    let patient = async {
        let mut request = Request::new(text("patient"));
        request.extensions_mut().insert(WaitForReady(true));
        request.set_timeout(Duration::from_secs(5));
        let status = echo(&channel, request).await.expect_err("nobody answers");
        (status.code(), started.elapsed())
    };
    let hasty = async {
        let status = echo(&channel, text("hasty")).await;
        (status.expect_err("nobody answers"), started.elapsed())
    };
    let ((code, at), (status, failed)) = tokio::join!(patient, hasty);
    assert_eq!(code, Code::DeadlineExceeded);
    assert!(at >= Duration::from_secs(5) && at < Duration::from_secs(6));
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        failed >= Duration::from_secs(20) && failed < Duration::from_secs(21),
        "an attempt has 20 s: {failed:?}"
    );
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_dialer_that_panics_has_failed() {
    let dialer = Arc::new(Clumsy {
        dials: AtomicUsize::new(0),
        server: Server::in_memory(Backend::new("good")),
    });
    let channel = Channel::builder("ipv4:10.0.0.1:1")
        .plaintext()
        .dialer(dialer.clone())
        .build()
        .expect("a channel");
    let status = echo(&channel, text("first")).await.expect_err("it slips");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("slipped"), "{status:?}");
    let started = Instant::now();
    let mut request = Request::new(text("second"));
    request.extensions_mut().insert(WaitForReady(true));
    echo(&channel, request).await.expect("it has got up again");
    let waited = started.elapsed();
    assert!(
        waited <= Duration::from_secs(1),
        "the first back-off: {waited:?}"
    );
    assert_eq!(dialer.dials.load(Ordering::SeqCst), 2);
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

/// Each octet comes, and none in time.
#[tokio::test(crate = "crate::support::harness")]
async fn a_handshake_that_dribbles_is_given_up() {
    let server = Server::start(Backend::new("slow")).await.expect("a port");
    let relay = Relay::to(server.addr()).await.expect("a port");
    relay.limit_rate(Some(1));
    let channel = Channel::builder(format!("ipv4:{}", relay.addr()))
        .plaintext()
        .min_connect_timeout(SHORT);
    ends_in_time(channel.build().expect("a channel"), &relay).await;
}

/// The server's part of the handshake stops in the middle.
#[tokio::test(crate = "crate::support::harness")]
async fn a_tls_handshake_that_stops_is_given_up() {
    let authority = Authority::new();
    let server = Secured::start(&authority, "127.0.0.1", Backend::new("slow")).await;
    let relay = Relay::to(server.addr()).await.expect("a port");
    for octets in [0, 1, 100, 600] {
        println!("stops after {octets} octets");
        relay.freeze_after(octets);
        let channel = Channel::builder(format!("ipv4:{}", relay.addr()))
            .tls(authority.trusted())
            .authority("127.0.0.1")
            .min_connect_timeout(SHORT);
        ends_in_time(channel.build().expect("a channel"), &relay).await;
    }
}

/// An RPC fails when the attempt is given up, long before anything else would end it.
async fn ends_in_time(channel: Channel, relay: &Relay) {
    let limit = Duration::from_secs(10);
    let rpc = tokio::time::timeout(limit, echo(&channel, text("hello")));
    let status = rpc
        .await
        .expect("must not hang")
        .expect_err("not connected");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let address = relay.addr().to_string();
    assert!(status.message().contains(&address), "{status:?}");
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

/// The rest of the process needs its descriptors, so the test runs again in a child with few.
#[test]
fn without_descriptors_it_waits_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        return run(starved::of_descriptors());
    }
    let name = "connect::without_descriptors_it_waits_and_recovers";
    let script = format!("ulimit -n 64 && exec \"$0\" --exact --nocapture {name}");
    again("sh", &["-c", &script]);
}

fn run(test: impl Future<Output = ()>) {
    let runtime = crate::support::harness::Builder::new_current_thread().enable_all();
    runtime.build().expect("a runtime").block_on(test);
}

/// Runs this program again below `command`.
fn again(command: &str, args: &[&str]) {
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(command)
        .args(args)
        .arg(this)
        .env(CHILD, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}
