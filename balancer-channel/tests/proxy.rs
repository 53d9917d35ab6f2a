//! Tunnels through an HTTP proxy (gRFC A1).

#[path = "rpc/secured.rs"]
mod secured;
mod support;

use std::sync::{Arc, Mutex};

use balancer_channel::{Channel, HttpProxy};
use balancer_testpeer::Backend;
use secured::{Authority, Secured};
use support::{echo, text};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, transport::Server};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

/// A proxy that tunnels to `backend`, whatever it is asked for, or answers `refusal`.
struct Proxy {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(backend: String, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (backend, seen) = (backend.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if client.read_line(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    seen.lock().expect("no panic").push(head);
                    if let Some(refusal) = refusal {
                        let _ = client.write_all(refusal.as_bytes()).await;
                        return;
                    }
                    let answer = b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n";
                    let _ = client.write_all(answer).await;
                    if let Ok(mut server) = TcpStream::connect(backend).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

async fn backend() -> String {
    let (_, service) = health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn check(channel: &Channel) -> Result<(), tonic::Status> {
    let mut client = HealthClient::new(channel.clone());
    let service = String::new();
    client
        .check(Request::new(HealthCheckRequest { service }))
        .await
        .map(drop)
}

#[tokio::test(crate = "crate::support::harness")]
async fn rpcs_go_through_the_tunnel_and_the_proxy_resolves_the_name() {
    let proxy = Proxy::start(backend().await, None).await;
    let address = format!("http://me:pass%40word@{}", proxy.address);
    let parsed: HttpProxy = address.parse().expect("a proxy");
    assert!(
        !format!("{parsed:?}").contains("pass"),
        "no secret is shown"
    );
    // Nobody here could resolve that name.
    let channel = Channel::builder("dns:///store.invalid:50051")
        .plaintext()
        .http_proxy(parsed)
        .build()
        .expect("a channel");
    check(&channel).await.expect("an answer");
    assert_eq!(
        proxy.heads(),
        ["CONNECT store.invalid:50051 HTTP/1.1\r\n\
          host: store.invalid:50051\r\n\
          proxy-authorization: Basic bWU6cGFzc0B3b3Jk\r\n\r\n"]
    );
    channel.close().await;
    assert_eq!(channel.task_count(), 0);
}

/// The proxy carries what it cannot read, and the server behind it proves the name of the target.
#[tokio::test(crate = "crate::support::harness")]
async fn tls_goes_through_the_tunnel() {
    let authority = Authority::new();
    let backend = Secured::start(&authority, "store.test", Backend::new("a")).await;
    let proxy = Proxy::start(backend.addr().to_string(), None).await;
    let through = |name: &str| {
        let address = format!("http://{}", proxy.address);
        Channel::builder(format!("dns:///{name}:50051"))
            .tls(authority.trusted())
            .http_proxy(address.parse().expect("a proxy"))
            .build()
            .expect("a channel")
    };
    let channel = through("store.test");
    echo(&channel, text("hello")).await.expect("served");
    channel.close().await;

    let channel = through("other.test");
    let status = echo(&channel, text("hello"))
        .await
        .expect_err("another name");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("certificate"), "{status:?}");
    channel.close().await;
    let asked: Vec<_> = proxy
        .heads()
        .iter()
        .map(|head| head[..23].to_owned())
        .collect();
    assert_eq!(
        asked,
        ["CONNECT store.test:5005", "CONNECT other.test:5005"]
    );
}

#[tokio::test(crate = "crate::support::harness")]
async fn what_the_proxy_says_is_in_the_error() {
    for (answer, shown) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "407 Proxy Authentication",
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0-OpenSSH"),
        ("HTTP/1.1 200 OK\r\n", "before it had answered"),
        ("", "before it had answered"),
    ] {
        let proxy = Proxy::start(String::new(), Some(answer)).await;
        let channel = Channel::builder("dns:///store.invalid:50051")
            .plaintext()
            .http_proxy(
                format!("http://{}", proxy.address)
                    .parse()
                    .expect("a proxy"),
            )
            .build()
            .expect("a channel");
        let status = check(&channel).await.expect_err("no tunnel");
        assert_eq!(status.code(), Code::Unavailable);
        let message = status.message();
        assert!(
            message.contains(shown) && message.contains(&proxy.address),
            "{message}"
        );
        channel.close().await;
    }
}

#[test]
fn a_proxys_address_is_checked() {
    for (bad, rule) in [
        ("proxy:3128", "http://"),
        ("https://proxy:3128", "http://"),
        ("http://proxy", "port"),
        ("http://proxy:3128/path", "path"),
        ("http://[", "URI"),
    ] {
        let error = bad.parse::<HttpProxy>().expect_err(bad).to_string();
        assert!(error.contains(rule), "{bad}: {error}");
    }
}
