//! Limits that an application sets: their ranges, and that they hold.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use balancer_api::{Dialer, Io};
use balancer_channel::{BuildError, Channel, ChannelBuilder, Limits};
use balancer_testpeer::{Answer, Backend, Response, Server};
use support::{any_answer, pipes::piped};
#[cfg(target_os = "linux")]
use {
    balancer_testpeer::frame::Frame,
    std::net::SocketAddr,
    support::{echo, text},
    tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpSocket, TcpStream},
        task::JoinHandle,
    },
    tonic::{Code, Request},
};

fn described() -> ChannelBuilder {
    Channel::builder("ipv4:127.0.0.1:1").plaintext()
}

#[tokio::test(crate = "crate::support::harness")]
async fn what_is_out_of_range_is_refused_by_name_value_and_rule() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for (builder, text) in [
        (
            described().max_concurrent_connects(0),
            "max_concurrent_connects is 0: it must be at least 1",
        ),
        (
            described().max_header_list_bytes(1023),
            "max_header_list_bytes is 1023: it must be from 1024 (1 KiB) to 16777216 (16 MiB)",
        ),
        (
            described().max_header_list_bytes((16 << 20) + 1),
            "max_header_list_bytes is 16777217: it must be from 1024 (1 KiB) to 16777216 (16 MiB)",
        ),
        (
            described().tcp_user_timeout(Duration::from_micros(999)),
            "tcp_user_timeout is 999µs: it must be from 1 ms to 24 days, or None",
        ),
        (
            described().tcp_user_timeout(25 * DAY),
            "tcp_user_timeout is 2160000s: it must be from 1 ms to 24 days, or None",
        ),
    ] {
        let error = builder.build().expect_err(text);
        assert!(matches!(error, BuildError::Setting { .. }), "{error:?}");
        assert_eq!(error.to_string(), text);
    }
    for builder in [
        described().max_concurrent_connects(1),
        described().max_header_list_bytes(1024),
        described().max_header_list_bytes(16 << 20),
        described().tcp_user_timeout(Duration::from_millis(1)),
        described().tcp_user_timeout(24 * DAY),
        described().tcp_user_timeout(None),
    ] {
        builder.build().expect("in range").close().await;
    }
}

/// Counts those that dial at once; nobody ever connects.
#[derive(Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Crowded(Arc<Crowd>);

impl Drop for Crowded {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

struct Counting(Arc<Crowd>);

#[async_trait::async_trait]
impl Dialer for Counting {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        let now = self.0.now.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(now, SeqCst);
        let _here = Crowded(self.0.clone());
        tokio::time::sleep(Duration::from_millis(500)).await;
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn no_more_connect_at_once_than_may() {
    for max in [1, 3, 64] {
        let crowd = Arc::new(Crowd::default());
        let all: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}:1")).collect();
        let channel = Channel::builder(format!("ipv4:{}", all.join(",")))
            .plaintext()
            .dialer(Arc::new(Counting(crowd.clone())))
            .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
            .max_concurrent_connects(max)
            .build()
            .expect("a channel");
        channel.connect().await.expect_err("nobody is there");
        assert_eq!(crowd.most.load(SeqCst), max);
        channel.close().await;
    }
}

/// Many small ones: each counts for 32 bytes more than it has.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn headers_may_be_as_large_as_was_said() {
    let mut headers = vec![
        (":status".to_owned(), "200".to_owned()),
        ("content-type".to_owned(), "application/grpc".to_owned()),
    ];
    headers.extend((0..600).map(|n| (format!("x-{n:03}"), "1".to_owned())));
    let answer = Response::new().headers(headers).message(b"").status(0, "");
    let backend = Backend::new("wordy").answer(Answer::from(answer));
    let server = Arc::new(Server::in_memory(backend));
    for (max, fits) in [(None, false), (Some(22_000), false), (Some(23_000), true)] {
        let mut builder = piped(std::slice::from_ref(&server));
        if let Some(max) = max {
            builder = builder.max_header_list_bytes(max);
        }
        let channel = builder.build().expect("a channel");
        let before = server.journal().accepted();
        for _ in 0..2 {
            let answer = any_answer(&channel).await;
            assert_eq!(answer.is_ok(), fits, "{max:?}: {answer:?}");
        }
        assert_eq!(
            server.journal().accepted(),
            before + 1,
            "the connection is good"
        );
        channel.close().await;
    }
}

/// Says SETTINGS and reads nothing, so that what it is sent stays unacknowledged. With `tunnel` it is a
/// proxy before that.
#[cfg(target_os = "linux")]
async fn takes_nothing(tunnel: bool) -> (SocketAddr, JoinHandle<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Little is on its way unread.
    socket.set_recv_buffer_size(4096).expect("small");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(any).expect("a port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if tunnel {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            stream.write_all(answer).await.expect("sent");
        }
        let settings = Frame::settings(&[]).encode();
        stream.write_all(&settings).await.expect("sent");
        stream
    });
    (address, serving)
}

/// Straight there, and through a proxy.
#[cfg(target_os = "linux")]
#[tokio::test(crate = "crate::support::harness")]
async fn a_peer_that_takes_nothing_is_given_up_when_tcp_was_told_to() {
    for tunnel in [false, true] {
        let (address, serving) = takes_nothing(tunnel).await;
        let mut builder = Channel::builder(format!("ipv4:{address}")).plaintext();
        if tunnel {
            let proxy = format!("http://{address}").parse().expect("a proxy");
            builder = builder.http_proxy(proxy);
        }
        let channel = builder.tcp_user_timeout(Duration::from_millis(500)).build();
        let channel = channel.expect("a channel");
        let mut request = Request::new(text(&"x".repeat(60_000)));
        // Longer than that, shorter than what TCP does by itself.
        request.set_timeout(Duration::from_secs(15));
        let status = echo(&channel, request).await.expect_err("no answer");
        assert_eq!(status.code(), Code::Unavailable, "{tunnel}: {status:?}");
        assert!(
            status.message().contains("timed out"),
            "{tunnel}: {status:?}"
        );
        channel.close().await;
        drop(serving.await.expect("no panic"));
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn service_configs_are_bounded_as_was_said() {
    let nested = r#"{"loadBalancingConfig":[{"round_robin":{"a":{"b":{}}}}]}"#;
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let builder = described().default_service_config(nested);
        builder.service_config_limits(limits).build()
    };
    with(|_| {}).expect("small").close().await;
    for (change, rule) in [
        (
            (|limits| limits.max_bytes = 50) as fn(&mut Limits),
            "at most 50 bytes",
        ),
        (|limits| limits.max_depth = 5, "deeper than 5 levels"),
    ] {
        let error = with(change).expect_err(rule).to_string();
        assert!(error.contains(rule), "{error}");
    }
}
