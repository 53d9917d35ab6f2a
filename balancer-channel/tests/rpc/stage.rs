//! The stage: servers without sockets, a policy that writes down what it is asked and told, and a
//! clock that stands still until everybody waits.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Code as PolicyCode, Dialer, DoneInfo, Endpoint, Io, OnDone, Pick, PickError, PickOptions,
    Picker, Status,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_channel::{Channel, ChannelBuilder};
use balancer_testpeer::{Answer, Backend, Response, Server};
use tokio::time::Instant;
use tokio_util::compat::TokioAsyncReadCompatExt;

pub(crate) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn unavailable() -> Answer {
    Answer::trailers_only(14, "not now")
}

/// A failure with a word about the next attempt.
pub(crate) fn pushing_back(value: &str) -> Answer {
    let fields = [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "pushed back"),
        ("grpc-retry-pushback-ms", value),
    ];
    Response::new().trailers(fields).into()
}

/// What one request looked like to its server.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) server: usize,
    pub(crate) at: Instant,
    /// `grpc-previous-rpc-attempts`.
    pub(crate) previous: Option<String>,
    /// `grpc-timeout`.
    pub(crate) timeout: Option<String>,
}

/// What the policy was asked and told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Of each pick: the attempt's number, and how many SubConns were tried.
    pub(crate) picks: Vec<(u32, usize)>,
    pub(crate) dones: Vec<PolicyCode>,
    /// How many RPCs it has dropped, each with UNAVAILABLE.
    pub(crate) drops: usize,
    dropping: bool,
}

/// Servers that answer by a list, and a channel to them.
pub(crate) struct Stage {
    pub(crate) servers: Vec<Arc<Server>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    ear: Arc<Ear>,
}

#[derive(Default)]
struct Ear(Mutex<Heard>);

struct Policy(Arc<Ear>);

struct Picking(ReadySet, Arc<Ear>);

struct Wires(Vec<Arc<Server>>);

// === impl Stage ===

impl Stage {
    /// One server for each list. Its n-th request gets the n-th answer, later ones the last.
    pub(crate) fn new(servers: impl IntoIterator<Item = Vec<Answer>>) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let servers = servers.into_iter().enumerate().map(|(server, answers)| {
            let seen = seen.clone();
            let backend = Backend::new(server.to_string()).answers(move |request| {
                let mut seen = seen.lock().expect("never poisoned");
                let before = seen.iter().filter(|seen| seen.server == server).count();
                seen.push(Seen {
                    server,
                    at: Instant::now(),
                    previous: request
                        .header("grpc-previous-rpc-attempts")
                        .map(str::to_owned),
                    timeout: request.header("grpc-timeout").map(str::to_owned),
                });
                answers[before.min(answers.len() - 1)].clone()
            });
            Arc::new(Server::in_memory(backend))
        });
        Self {
            servers: servers.collect(),
            seen,
            ear: Arc::default(),
        }
    }

    /// One server that answers and allows so many streams at a time.
    pub(crate) fn narrow(streams: u32) -> Self {
        let backend = Backend::new("narrow").max_concurrent_streams(streams);
        Self {
            servers: vec![Arc::new(Server::in_memory(backend))],
            ..Self::new([])
        }
    }

    /// A channel to all of them, whose policy is deaf to what it is told but writes it down.
    pub(crate) fn builder(&self, method: &str) -> ChannelBuilder {
        self.builder_with(&format!(r#""methodConfig":[{{"name":[{{}}],{method}}}]"#))
    }

    /// As [`builder`](Self::builder), with more than a method config.
    pub(crate) fn builder_with(&self, config: &str) -> ChannelBuilder {
        let ear = self.ear.clone();
        let policy = BaseBuilder::new("listening", move || Policy(ear.clone()));
        let addresses: Vec<String> = (0..self.servers.len())
            .map(|at| format!("10.0.0.{at}:1"))
            .collect();
        Channel::builder(format!("ipv4:{}", addresses.join(",")))
            .plaintext()
            .dialer(Arc::new(Wires(self.servers.clone())))
            .policy(Arc::new(policy))
            .default_service_config(format!(
                r#"{{"loadBalancingConfig":[{{"listening":{{}}}}],{config}}}"#
            ))
            // All servers are there from the first pick on.
            .warm_up(Duration::from_secs(1))
    }

    /// From now on the policy drops every RPC.
    pub(crate) fn drop_rpcs(&self) {
        self.ear.0.lock().expect("never poisoned").dropping = true;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("never poisoned").clone()
    }

    pub(crate) fn heard(&self) -> Heard {
        self.ear.0.lock().expect("never poisoned").clone()
    }

    /// The times between requests.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let seen = self.seen();
        seen.windows(2).map(|two| two[1].at - two[0].at).collect()
    }

    /// Ends the channel, which leaves nothing behind and has told of each pick's end once.
    pub(crate) async fn end(&self, channel: Channel) -> Heard {
        channel.close().await;
        assert_eq!(channel.task_count(), 0, "no task may be left");
        let heard = self.heard();
        assert_eq!(
            heard.picks.len(),
            heard.dones.len(),
            "each pick's end is told once: {heard:?}"
        );
        heard
    }
}

pub(crate) fn built(builder: ChannelBuilder) -> Channel {
    builder.build().expect("a channel")
}

// === impl Wires ===

#[async_trait::async_trait]
impl Dialer for Wires {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        let at: Option<usize> = addr
            .strip_prefix("10.0.0.")
            .and_then(|rest| rest.strip_suffix(":1"))
            .and_then(|at| at.parse().ok());
        let server = at.and_then(|at| self.0.get(at));
        let server = server.ok_or_else(|| io::Error::other("no such server"))?;
        Ok(Box::new(server.connect().compat()))
    }
}

// === impl Policy ===

impl PickerBuilder for Policy {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(Picking(ready.clone(), self.0.clone()))
    }
}

impl Picker for Picking {
    /// The first one that was not tried, else the first one.
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let chosen = self
            .0
            .iter()
            .find(|ready| !options.tried().contains(ready.sub_conn()))
            .or_else(|| self.0.get(0))
            .ok_or(PickError::NoSubConnAvailable)?;
        let mut heard = self.1.0.lock().expect("never poisoned");
        if heard.dropping {
            heard.drops += 1;
            return Err(PickError::drop(Status::unavailable("shed")));
        }
        heard.picks.push((options.attempt(), options.tried().len()));
        drop(heard);
        Ok(Pick::new(chosen.sub_conn()).on_done(self.1.clone(), 0))
    }
}

impl OnDone for Ear {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        let code = info.err().map_or(PolicyCode::Ok, Status::code);
        self.0.lock().expect("never poisoned").dones.push(code);
    }
}
