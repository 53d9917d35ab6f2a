//! What goes from a pick into its RPC, and what goes back from the RPC to whoever picked.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Code as PolicyCode, DoneInfo, Endpoint, OnDone, Pick, PickError, PickOptions, Picker,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_channel::{Channel, WaitForReady};
use balancer_testpeer::{Answer, Backend, Response, Server, frame::code};
use http::{HeaderName, HeaderValue};
use tonic::{Code, Request};

use crate::{
    stage::{Stage, built, millis},
    support::{any_answer, echo, pipes::piped, text},
};

/// What was told of an RPC.
#[derive(Debug, PartialEq)]
struct Told {
    code: PolicyCode,
    sent: bool,
    received: bool,
    trailer: Option<String>,
    load: Option<Vec<u8>>,
}

#[derive(Default)]
struct Ear(Mutex<Vec<Told>>);

/// Marks each RPC, and listens.
struct Marking(Arc<Ear>);

struct Marker(ReadySet, Arc<Ear>);

impl PickerBuilder for Marking {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(Marker(ready.clone(), self.0.clone()))
    }
}

impl Picker for Marker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let first = self.0.get(0).ok_or(PickError::NoSubConnAvailable)?;
        let mark = |text: String| HeaderValue::try_from(text).expect("ASCII");
        Ok(Pick::new(first.sub_conn())
            .with_metadata(
                HeaderName::from_static("x-mark"),
                mark(format!("pick {}", options.attempt())),
            )
            .on_done(self.1.clone(), 0))
    }
}

impl OnDone for Ear {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        let trailer = info.trailers().and_then(|all| all.get("x-last"));
        let trailer = trailer.map(|value| value.to_str().expect("ASCII").to_owned());
        self.0.lock().expect("never poisoned").push(Told {
            code: info
                .err()
                .map_or(PolicyCode::Ok, balancer_api::Status::code),
            sent: info.bytes_sent(),
            received: info.bytes_received(),
            trailer,
            load: info.server_load().map(|load| load.to_vec()),
        });
    }
}

fn marked(server: &Arc<Server>) -> (Channel, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let told = ear.clone();
    let policy = BaseBuilder::new("marking", move || Marking(told.clone()));
    let channel = piped(std::slice::from_ref(server))
        .policy(Arc::new(policy))
        .default_service_config(r#"{"loadBalancingConfig":[{"marking":{}}]}"#);
    (built(channel), ear)
}

#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn metadata_of_the_pick_is_sent_with_its_attempt_alone() {
    let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let writing = seen.clone();
    let backend = Backend::new("a").answers(move |request| {
        let marks = request.headers.get_all("x-mark");
        let marks = marks.map(|mark| String::from_utf8_lossy(mark).into_owned());
        let mut seen = writing.lock().expect("never poisoned");
        seen.push(marks.collect());
        match seen.len() {
            // Sent again, after another pick.
            1 => Answer::Reset(code::REFUSED_STREAM),
            _ => Answer::Echo,
        }
    });
    let server = Arc::new(Server::in_memory(backend));
    let (channel, _) = marked(&server);
    let mut request = Request::new(text("hello"));
    request
        .metadata_mut()
        .insert("x-mark", "mine".parse().expect("ASCII"));
    echo(&channel, request).await.expect("served");
    channel.close().await;
    assert_eq!(
        *seen.lock().expect("never poisoned"),
        [["mine", "pick 0"], ["mine", "pick 1"]]
    );
}

#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn the_policy_hears_what_was_sent_and_received() {
    let last = |code: &'static str| [("grpc-status", code), ("x-last", "word")];
    let report = [
        ("grpc-status", "0"),
        ("x-last", "word"),
        // Without padding, as binary metadata often is.
        ("endpoint-load-metrics-bin", "CgQ"),
    ];
    let told = |code, received, trailer: Option<&str>, load: Option<&[u8]>| Told {
        code,
        sent: true,
        received,
        trailer: trailer.map(str::to_owned),
        load: load.map(<[u8]>::to_vec),
    };
    let word = Some("word");
    for (answer, expected) in [
        (
            Answer::from(Response::grpc().message(b"x").trailers(report)),
            told(PolicyCode::Ok, true, word, Some(&[10, 4])),
        ),
        (
            Answer::from(Response::grpc().message(b"x").trailers(last("0"))),
            told(PolicyCode::Ok, true, word, None),
        ),
        (
            Answer::from(Response::grpc().trailers(last("5"))),
            told(PolicyCode::NotFound, true, word, None),
        ),
        // Something was received, and then no trailers.
        (
            Answer::from(Response::grpc().message(b"x").reset(code::INTERNAL_ERROR)),
            told(PolicyCode::Internal, true, None, None),
        ),
        (
            Answer::from(Response::grpc().reset(code::INTERNAL_ERROR)),
            told(PolicyCode::Internal, false, None, None),
        ),
        (
            Answer::Reset(code::INTERNAL_ERROR),
            told(PolicyCode::Internal, false, None, None),
        ),
    ] {
        let name = format!("{expected:?}");
        let server = Arc::new(Server::in_memory(Backend::new("a").answer(answer)));
        let (channel, ear) = marked(&server);
        let _ = any_answer(&channel).await;
        channel.close().await;
        let heard = std::mem::take(&mut *ear.0.lock().expect("never poisoned"));
        assert_eq!(heard, [expected], "{name}");
    }
}

/// Nothing leaves while the server allows no stream.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn what_never_left_is_told_as_that() {
    let backend = Backend::new("narrow").max_concurrent_streams(0);
    let server = Arc::new(Server::in_memory(backend));
    let (channel, ear) = marked(&server);
    let mut request = Request::new(text("hello"));
    request.set_timeout(millis(100));
    echo(&channel, request).await.expect_err("no stream");
    channel.close().await;
    let heard = std::mem::take(&mut *ear.0.lock().expect("never poisoned"));
    let expected = Told {
        code: PolicyCode::DeadlineExceeded,
        sent: false,
        received: false,
        trailer: None,
        load: None,
    };
    assert_eq!(heard, [expected]);
}

/// The application's word about a call counts before the config's, whichever way.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn a_call_may_wait_or_not_whatever_the_config_says() {
    for (configured, asked, waits) in [
        (true, None, true),
        (true, Some(false), false),
        (false, None, false),
        (false, Some(true), true),
    ] {
        let config = format!(
            r#"{{"loadBalancingConfig":[{{"round_robin":{{}}}}],
            "methodConfig":[{{"name":[{{}}],"waitForReady":{configured}}}]}}"#
        );
        // No server, so no such address.
        let channel = Channel::builder("ipv4:10.0.0.9:1")
            .plaintext()
            .dialer(Arc::new(crate::support::pipes::Pipes(Vec::new())))
            .default_service_config(config);
        let channel = built(channel);
        let mut request = Request::new(text("hello"));
        request.set_timeout(Duration::from_secs(10));
        if let Some(asked) = asked {
            request.extensions_mut().insert(WaitForReady(asked));
        }
        let status = echo(&channel, request).await.expect_err("nobody is there");
        let code = match waits {
            true => Code::DeadlineExceeded,
            false => Code::Unavailable,
        };
        assert_eq!(status.code(), code, "{configured} {asked:?}: {status:?}");
        channel.close().await;
    }
}

/// A server is told of the time that is left when the RPC goes to it, not of what the caller gave.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn the_time_in_the_queue_is_taken_off_the_timeout() {
    let stage = Stage::new([vec![Answer::Echo]]);
    let mut servers = stage.servers.clone();
    let slow = Slow(crate::support::pipes::Pipes(std::mem::take(&mut servers)));
    let channel = built(
        stage
            .builder(r#""waitForReady":true"#)
            .dialer(Arc::new(slow)),
    );
    let mut request = Request::new(text("hello"));
    request.set_timeout(Duration::from_secs(60));
    echo(&channel, request).await.expect("served");
    let seen = stage.seen()[0].timeout.clone().expect("a deadline");
    let (digits, unit) = seen.split_at(seen.len() - 1);
    let amount: u64 = digits.parse().expect("digits");
    let left = match unit {
        "n" => Duration::from_nanos(amount),
        "u" => Duration::from_micros(amount),
        "m" => Duration::from_millis(amount),
        "S" => Duration::from_secs(amount),
        other => panic!("{other:?} is too coarse"),
    };
    let fifty = Duration::from_secs(50);
    assert!(left <= fifty && fifty - left < millis(100), "{left:?}");
    stage.end(channel).await;
}

/// Takes ten seconds to connect.
struct Slow(crate::support::pipes::Pipes);

#[async_trait::async_trait]
impl balancer_api::Dialer for Slow {
    async fn dial(&self, addr: &str) -> std::io::Result<Box<dyn balancer_api::Io>> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.0.dial(addr).await
    }
}

/// The server's clock is a little ahead: it resets the stream since the time is over, and the caller,
/// who looks later, gets the reason and not the reset.
#[tokio::test(start_paused = true, crate = "crate::support::harness")]
async fn a_reset_after_the_deadline_is_the_deadline() {
    let late = Answer::Reset(code::CANCEL).after(millis(50));
    for (timeout, expected) in [
        (millis(40), Code::DeadlineExceeded),
        (millis(10_000), Code::Cancelled),
    ] {
        let stage = Stage::new([vec![late.clone()]]);
        let channel = built(stage.builder(r#""waitForReady":true"#));
        channel.connect().await.expect("connected");
        let mut request = Request::new(text("hello"));
        request.set_timeout(timeout);
        let mut rpc = Box::pin(echo(&channel, request));
        while stage.seen().is_empty() {
            assert!(futures_util::poll!(&mut rpc).is_pending(), "no answer yet");
            tokio::task::yield_now().await;
        }
        // Nobody looks until the deadline has passed and the reset has come.
        tokio::time::sleep(millis(100)).await;
        let status = rpc.await.expect_err("it was reset");
        assert_eq!(status.code(), expected, "{status:?}");
        let heard = stage.end(channel).await;
        assert_eq!(heard.dones, [PolicyCode::from_i32(expected as i32)]);
    }
}
