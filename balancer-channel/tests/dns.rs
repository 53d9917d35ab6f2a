//! DNS from a server of the test's own: addresses, times to live, service configs in TXT records.

#[path = "support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_channel::Channel;
use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{RData, Record, RecordType, rdata},
};
use tokio::net::{TcpListener, UdpSocket};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, transport::Server};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

/// What DNS says of every name.
#[derive(Clone, Default)]
struct Zone {
    addresses: Vec<IpAddr>,
    ttl: u32,
    /// The strings of a record for `_grpc_config.` names.
    txt: Vec<String>,
    /// The names that were asked for, with the type.
    asked: Vec<String>,
}

struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    async fn start(addresses: &[&str], ttl: u32) -> Self {
        let addresses = addresses.iter().map(|it| it.parse().expect("an IP"));
        let zone = Arc::new(Mutex::new(Zone {
            addresses: addresses.collect(),
            ttl,
            ..Zone::default()
        }));
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let answers = zone.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Ok(question) = Message::from_vec(&buffer[..length]) {
                    let answer = answers.lock().expect("no panic").answer(&question);
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, zone }
    }

    fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.zone.lock().expect("no panic"));
    }

    fn asked(&self, what: &str) -> usize {
        let zone = self.zone.lock().expect("no panic");
        zone.asked.iter().filter(|it| *it == what).count()
    }
}

impl Zone {
    fn answer(&mut self, question: &Message) -> Vec<u8> {
        let query = &question.queries[0];
        let (name, kind) = (query.name().clone(), query.query_type());
        self.asked.push(format!("{kind} {name}"));
        let config = name.to_string().starts_with("_grpc_config.");
        let data: Vec<RData> = match kind {
            RecordType::A if !config => {
                let v4 = self.addresses.iter().filter_map(|ip| match ip {
                    IpAddr::V4(ip) => Some(RData::A(rdata::A(*ip))),
                    IpAddr::V6(_) => None,
                });
                v4.collect()
            }
            RecordType::TXT if config && !self.txt.is_empty() => {
                vec![RData::TXT(rdata::TXT::new(self.txt.clone()))]
            }
            _ => Vec::new(),
        };
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.response_code = ResponseCode::NoError;
        answer.add_query(query.clone());
        for data in data {
            answer.add_answer(Record::from_rdata(name.clone(), self.ttl, data));
        }
        answer.to_vec().expect("a message")
    }
}

/// A backend on `ip` that knows of one service, `name`. Answers its port.
async fn backend(name: &'static str, ip: &str, port: u16) -> Option<u16> {
    let (reporter, service) = health_reporter();
    reporter
        .set_service_status(name, ServingStatus::Serving)
        .await;
    let listener = TcpListener::bind((ip, port)).await.ok()?;
    let port = listener.local_addr().expect("bound").port();
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    Some(port)
}

/// Backends a and b, on 127.0.0.1 and 127.0.0.2, at one port.
async fn a_and_b() -> u16 {
    loop {
        let port = backend("a", "127.0.0.1", 0).await.expect("a port");
        // Somebody may have it there.
        if backend("b", "127.0.0.2", port).await.is_some() {
            return port;
        }
    }
}

async fn reaches(client: &mut HealthClient<Channel>, name: &str) -> Result<(), Code> {
    let service = name.to_owned();
    let answer = client.check(Request::new(HealthCheckRequest { service }));
    answer.await.map(drop).map_err(|status| status.code())
}

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

#[tokio::test(crate = "crate::harness")]
async fn the_target_may_name_the_dns_server() {
    let port = a_and_b().await;
    let dns = Dns::start(&["127.0.0.2"], 300).await;
    let channel = Channel::builder(format!("dns://{}/store.test:{port}", dns.address))
        .plaintext()
        .build()
        .expect("a channel");
    let mut client = HealthClient::new(channel.clone());
    assert_eq!(reaches(&mut client, "b").await, Ok(()));
    assert_eq!(
        dns.asked("TXT _grpc_config.store.test."),
        0,
        "off by default"
    );
    channel.close().await;
    assert_eq!(channel.task_count(), 0);
}

#[tokio::test(crate = "crate::harness")]
async fn a_new_address_is_heard_of_when_the_old_answers_time_is_over() {
    let port = a_and_b().await;
    let dns = Dns::start(&["127.0.0.1"], 1).await;
    let channel = Channel::builder(format!("dns://{}/store.test:{port}", dns.address))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .refresh_dns(true)
        .min_resolution_interval(Duration::from_millis(10))
        .build()
        .expect("a channel");
    let mut client = HealthClient::new(channel.clone());
    assert_eq!(reaches(&mut client, "a").await, Ok(()));
    dns.change(|zone| zone.addresses.push("127.0.0.2".parse().expect("an IP")));
    // Nothing is lost and nobody asks: only time tells.
    let heard = async {
        while reaches(&mut client, "b").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
    heard.expect("it must be asked for");
    assert!(dns.asked("A store.test.") >= 2);
    channel.close().await;
}

#[tokio::test(crate = "crate::harness")]
async fn the_service_config_may_come_from_a_txt_record() {
    let port = a_and_b().await;
    let dns = Dns::start(&["127.0.0.1", "127.0.0.2"], 300).await;
    dns.change(|zone| {
        // In two strings, and with a choice for somebody else before ours.
        zone.txt = vec![
            r#"grpc_config=[{"clientLanguage":["go"],"serviceConfig":{}},{"serviceCon"#.into(),
            r#"fig":{"loadBalancingConfig":[{"round_robin":{}}]}}]"#.into(),
        ];
    });
    let channel = Channel::builder(format!("dns://{}/store.test:{port}", dns.address))
        .plaintext()
        .txt_service_config(true)
        .warm_up(Duration::from_secs(5))
        .build()
        .expect("a channel");
    let mut client = HealthClient::new(channel.clone());
    let both = [
        reaches(&mut client, "a").await,
        reaches(&mut client, "a").await,
    ];
    assert!(
        both.contains(&Ok(())) && both.contains(&Err(Code::NotFound)),
        "round_robin, not pick_first: {both:?}"
    );
    assert_eq!(dns.asked("TXT _grpc_config.store.test."), 1);
    channel.close().await;
}

#[tokio::test(crate = "crate::harness")]
async fn a_txt_record_that_is_not_understood_fails_rpcs_with_the_reason() {
    let port = a_and_b().await;
    let dns = Dns::start(&["127.0.0.1"], 300).await;
    dns.change(|zone| zone.txt = vec![r#"grpc_config=[{"serviceKonfig":{}}]"#.into()]);
    let channel = Channel::builder(format!("dns://{}/store.test:{port}", dns.address))
        .plaintext()
        .txt_service_config(true)
        .build()
        .expect("a channel");
    let service = "a".to_owned();
    let mut client = HealthClient::new(channel.clone());
    let status = client
        .check(Request::new(HealthCheckRequest { service }))
        .await
        .expect_err("no config, no policy");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("serviceKonfig"),
        "{}",
        status.message()
    );
    channel.close().await;
}
