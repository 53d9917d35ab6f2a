//! One attempt of an RPC: picks, waits, sends, and sends again what never reached a server's
//! application (the transparent retries of gRFC A6).

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use balancer_api::{
    Code, ConnectivityState, Done, DoneInfo, PickError, PickOptions, Status, SubConn,
};
use balancer_channel_core::{BoxFuture, Core, PickOutcome};
use balancer_registry::Attempts;
use http::HeaderMap;
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    authorize::Authorize,
    end::CallEnd,
    throttle::Throttle,
    told::{Waiting, told},
};
use crate::{
    deadline::poll_timer,
    env::{Awake, TokioEnv},
    headers::find,
    options::WaitForReady,
    status, timeout,
    transport::{
        Broken, Exchange, FailureKind, H2Connection, RpcRequest, RpcResponse, from_tonic, limited,
        to_tonic,
    },
};

/// One attempt, and everything about it. It is the future of most RPCs and is moved before its first
/// poll: what is rare is boxed.
pub(super) struct Attempt {
    core: Core<TokioEnv>,
    /// Before the request: the stream must end first.
    stage: Stage,
    /// Borrowed by the stage that sends it.
    pub(super) request: RpcRequest,
    picked: Option<Picked>,
    deadline: Option<Instant>,
    started: Instant,
    /// `None` until the service config has been looked at.
    wait_for_ready: Option<bool>,
    /// Whether the header on the wire says something else than what is left.
    rewrite_timeout: bool,
    /// What did not go well so far.
    trouble: Option<Box<Trouble>>,
    /// What most RPCs do without.
    extra: Option<Box<Extra>>,
}

/// Why an attempt ended without a response.
pub(super) enum Stopped {
    Failed(Failed),
    /// It did not start: the method config wants several.
    Several(Attempts),
}

/// How an attempt failed.
pub(super) struct Failed {
    pub(super) status: tonic::Status,
    /// No policy may make another attempt: it was dropped, or nothing can help it.
    pub(super) last_word: bool,
}

#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one: boxing it would cost every RPC"
)]
enum Stage {
    /// About to ask the picker.
    Pick,
    /// For its credentials, on the way to a connection.
    Authorize {
        authorize: Box<Authorize>,
        _awake: Awake,
    },
    /// On a connection.
    Send(Exchange),
    /// For the next picker, or for a while before another try.
    Wait(BoxFuture<Result<(), tonic::Status>>),
    Done,
}

/// Where an attempt went, and who wants to know how it ends.
struct Picked {
    sub_conn: SubConn,
    done: Done,
}

/// What an RPC has been through.
#[derive(Clone, Default)]
pub(super) struct Trouble {
    /// How often it was sent without success.
    pub(super) picks: u32,
    /// Where that was; each once, however often.
    pub(super) tried: Vec<SubConn>,
    /// How often it turned out not to have left.
    unsent: u32,
    /// Whether it was once refused by a server; there is no second transparent retry.
    pub(super) refused: bool,
    /// What it waits for, as the policy said last.
    waits_for: Option<PickError>,
}

/// What few RPCs have.
#[derive(Clone, Default)]
pub(super) struct Extra {
    /// The headers before a pick added its own.
    original_headers: Option<HeaderMap>,
    /// Told how the RPC ends.
    pub(super) throttle: Option<Arc<Throttle>>,
    /// How large a message of the response may be, where that is less than the application allows.
    max_response: Option<u32>,
}

/// Tries that never left are repeated at once so often; then with growing pauses.
const EAGER_RETRIES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

// === impl Attempt ===

impl Attempt {
    /// The only attempt of an RPC, as long as no method config says otherwise.
    pub(super) fn new(core: Core<TokioEnv>, request: http::Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let head = http::Request::from_parts(parts, ());
        let started = Instant::now();
        let timeout = find(head.headers(), &timeout::GRPC_TIMEOUT).and_then(timeout::parse);
        let mut request = RpcRequest::new(head, body);
        request.body.set_limit(core.env().rules().replay_limit);
        Self {
            stage: Stage::Pick,
            request,
            picked: None,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
            started,
            wait_for_ready: None,
            rewrite_timeout: false,
            trouble: None,
            extra: None,
            core,
        }
    }

    /// One of several attempts at what `model` wants done.
    pub(super) fn again(model: &Self, request: RpcRequest, trouble: Trouble) -> Self {
        Self {
            core: model.core.clone(),
            stage: Stage::Pick,
            request,
            picked: None,
            deadline: model.deadline,
            started: model.started,
            wait_for_ready: Some(model.wait_for_ready.unwrap_or(false)),
            rewrite_timeout: model.rewrite_timeout || trouble.picks > 0,
            trouble: Some(Box::new(trouble)),
            extra: model.extra.clone(),
        }
    }

    pub(super) fn core(&self) -> &Core<TokioEnv> {
        &self.core
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// Where it was sent in vain.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_deref()
    }

    /// Where it is now.
    pub(super) fn sub_conn(&self) -> Option<&SubConn> {
        self.picked.as_ref().map(|picked| &picked.sub_conn)
    }

    /// What the policy said last of an RPC that waits.
    pub(super) fn why_it_waits(&self) -> Option<String> {
        let why = self.trouble()?.waits_for.as_ref()?;
        Some(why.to_string())
    }

    pub(super) fn stage(&self) -> &'static str {
        match &self.stage {
            Stage::Pick => "picking",
            Stage::Authorize { .. } => "authorizing",
            Stage::Send(_) => "sent",
            Stage::Wait(_) => "waiting",
            Stage::Done => "done",
        }
    }

    /// Ready when the response begins, or when there will be none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<RpcResponse, Stopped>> {
        loop {
            match &mut self.stage {
                Stage::Pick => {
                    if let Err(stopped) = self.pick() {
                        self.stage = Stage::Done;
                        return Poll::Ready(Err(stopped));
                    }
                }
                Stage::Send(exchange) => match ready!(exchange.poll(&mut self.request, cx)) {
                    Ok(response) => {
                        self.stage = Stage::Done;
                        return Poll::Ready(Ok(response));
                    }
                    Err(broken) => {
                        self.stage = Stage::Done;
                        if let Err(failed) = self.broken(broken) {
                            return Poll::Ready(Err(Stopped::Failed(failed)));
                        }
                    }
                },
                Stage::Authorize { authorize, .. } => {
                    let authorized = ready!(authorize.poll(cx));
                    if let Err(status) = self.authorized(authorized) {
                        self.stop(&from_tonic(&status));
                        let last_word = false;
                        return Poll::Ready(Err(Stopped::Failed(Failed { status, last_word })));
                    }
                }
                Stage::Wait(waiting) => match ready!(waiting.as_mut().poll(cx)) {
                    Ok(()) => self.stage = Stage::Pick,
                    Err(status) => {
                        self.stage = Stage::Done;
                        return Poll::Ready(Err(Stopped::last_word(status)));
                    }
                },
                Stage::Done => {
                    let status = tonic::Status::internal("polled after its end");
                    return Poll::Ready(Err(Stopped::last_word(status)));
                }
            }
        }
    }

    /// Asks the current picker and starts what follows.
    fn pick(&mut self) -> Result<(), Stopped> {
        let current = self.core.current();
        let head = &self.request.head;
        let asked = head.extensions().get::<WaitForReady>().map(|wait| wait.0);
        let path = head.uri().path();
        if let (None, Some(config)) = (self.wait_for_ready, current.config()) {
            let method = config.method(path);
            // What the application says of a call counts before what the config says.
            let configured = method.and_then(|method| method.wait_for_ready);
            self.wait_for_ready = Some(asked.or(configured).unwrap_or(false));
            if let Some(throttle) = config.throttle() {
                self.extra.get_or_insert_default().throttle = Some(throttle.clone());
            }
            let rules = self.core.env().rules();
            let mut max_request = rules.max_request_message;
            if let Some(method) = method {
                // A config can lower what the application allows, not raise it.
                if let Some(max) = method.max_request_message_bytes {
                    max_request = Some(max_request.map_or(max, |allowed| allowed.min(max)));
                }
                if let Some(max) = method.max_response_message_bytes
                    && max < rules.max_response_message
                {
                    self.extra.get_or_insert_default().max_response = Some(max);
                }
            }
            if let Some(max) = max_request {
                self.request.body.map(|body| limited(body, max));
            }
            if let Some(method) = method {
                if let Some(timeout) = method.timeout {
                    let limit = self.started.checked_add(timeout);
                    if self
                        .deadline
                        .is_none_or(|deadline| limit.is_some_and(|limit| limit < deadline))
                    {
                        self.deadline = limit;
                        self.rewrite_timeout = true;
                    }
                }
                if rules.retries && !matches!(method.attempts, Attempts::Once) {
                    return Err(Stopped::Several(method.attempts.clone()));
                }
            }
        }
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            drop(current);
            return Err(Stopped::last_word(self.expire()));
        }
        let (picks, tried) = match self.trouble.as_deref() {
            None => (0, &[][..]),
            Some(trouble) => (trouble.picks, &*trouble.tried),
        };
        let options = PickOptions::new(path)
            .with_headers(head.headers())
            .with_deadline(
                self.deadline
                    .map(|deadline| self.core.env().timestamp(deadline)),
            )
            .with_attempt(picks, tried)
            .with_wait_for_ready(self.wait_for_ready.or(asked).unwrap_or(false))
            .with_source(self.core.source());
        let outcome = current.pick(&options);
        drop(current);
        match outcome {
            PickOutcome::Complete(picked) => {
                self.picked = Some(Picked {
                    sub_conn: picked.sub_conn,
                    done: picked.done,
                });
                self.take_along(picked.metadata.as_deref());
                self.send(&picked.connection)
            }
            PickOutcome::Wait { generation, why } => {
                // A newer picker without an error takes nothing back: what went wrong last is what
                // a deadline has to say.
                if why.is_some() {
                    self.trouble.get_or_insert_default().waits_for = why;
                }
                self.rewrite_timeout = true;
                let core = self.core.clone();
                let waiting = Waiting::begin(self);
                self.stage = Stage::Wait(Box::pin(async move {
                    let _waiting = waiting;
                    core.next_picker(generation)
                        .await
                        .map_err(|full| tonic::Status::resource_exhausted(full.to_string()))
                }));
                Ok(())
            }
            PickOutcome::Fail(error) => Err(Stopped::Failed(Failed {
                status: status::of_pick(&error),
                last_word: matches!(error, PickError::Drop(_)),
            })),
            PickOutcome::Closed(reason) => Err(Stopped::last_word(to_tonic(&reason))),
        }
    }

    /// Adds what the picker wants to be sent.
    fn take_along(&mut self, metadata: Option<&HeaderMap>) {
        let Some(metadata) = metadata else { return };
        let headers = self.request.head.headers_mut();
        self.extra.get_or_insert_default().original_headers = Some(headers.clone());
        for (name, value) in metadata {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Starts to send on `connection`, once it has the credentials that it needs.
    fn send(&mut self, connection: &H2Connection) -> Result<(), Stopped> {
        let rules = self.core.env().rules();
        match Authorize::start(&rules.credentials, &self.request.head, connection) {
            None => self.depart(connection),
            Some(Ok(authorize)) => {
                self.rewrite_timeout = true;
                let awake = self.core.env().stay_awake();
                self.stage = Stage::Authorize {
                    authorize: Box::new(authorize),
                    _awake: awake,
                };
            }
            Some(Err(status)) => {
                self.stop(&from_tonic(&status));
                return Err(Stopped::last_word(status));
            }
        }
        Ok(())
    }

    /// The credentials are there.
    fn authorized(
        &mut self,
        authorized: Result<(HeaderMap, H2Connection), tonic::Status>,
    ) -> Result<(), tonic::Status> {
        let (metadata, connection) = authorized?;
        let headers = self.request.head.headers_mut();
        let extra = self.extra.get_or_insert_default();
        extra
            .original_headers
            .get_or_insert_with(|| headers.clone());
        for (name, value) in &metadata {
            headers.append(name.clone(), value.clone());
        }
        self.depart(&connection);
        Ok(())
    }

    fn depart(&mut self, connection: &H2Connection) {
        if let (true, Some(deadline)) = (self.rewrite_timeout, self.deadline) {
            let left = deadline.saturating_duration_since(Instant::now());
            let headers = self.request.head.headers_mut();
            headers.insert(timeout::GRPC_TIMEOUT, timeout::format(left));
        }
        self.stage = Stage::Send(Exchange::new(connection.clone()));
    }

    /// The response that the application gets: whatever follows, the RPC is not tried again.
    pub(super) fn begun(
        &mut self,
        mut response: RpcResponse,
        cx: &mut Context<'_>,
    ) -> http::Response<Body> {
        let configured = self.extra().and_then(|extra| extra.max_response);
        let allowed = || self.core.env().rules().max_response_message;
        response.limit_messages(configured.unwrap_or_else(allowed));
        let done = self
            .picked
            .take()
            .map_or_else(Done::none, |picked| picked.done);
        let core = (!done.is_none()).then(|| self.core.clone());
        let throttle = self.extra.as_mut().and_then(|extra| extra.throttle.take());
        let deadline = self.deadline;
        let end = CallEnd {
            done,
            core,
            deadline,
            throttle,
        };
        match deadline {
            None => response.into_http(end),
            Some(deadline) => response.into_http_until(deadline, end, cx),
        }
    }

    /// An attempt failed before its response: the policy is told, and it is tried again where the
    /// server's application cannot have seen it (gRFC A6).
    fn broken(&mut self, broken: Broken) -> Result<(), Failed> {
        let Broken {
            kind,
            mut status,
            resend,
            opened,
        } = broken;
        if status.code() == tonic::Code::Cancelled
            && self.deadline.is_some_and(|at| at <= Instant::now())
        {
            // The server has looked at the clock first, and reset the stream.
            status = tonic::Status::deadline_exceeded(status.message());
        }
        let trouble = self.trouble.get_or_insert_default();
        if let Some(picked) = self.picked.take() {
            if !picked.done.is_none() {
                let error = from_tonic(&status);
                let info = DoneInfo::new()
                    .with_err(&error)
                    .with_bytes_sent(opened)
                    .with_source(self.core.source());
                picked.done.complete(&info);
            }
            trouble.failed_on(picked.sub_conn);
        }
        let again = match kind {
            FailureKind::Failed | FailureKind::Local => false,
            FailureKind::Refused => !std::mem::replace(&mut trouble.refused, true),
            FailureKind::NotSent => true,
        };
        if !(again && resend) {
            let last_word = kind == FailureKind::Local;
            return Err(Failed { status, last_word });
        }
        if let Some(extra) = &mut self.extra
            && let Some(original) = extra.original_headers.take()
        {
            *self.request.head.headers_mut() = original;
        }
        self.rewrite_timeout = true;
        self.stage = match kind {
            FailureKind::NotSent => {
                trouble.unsent += 1;
                let unsent = trouble.unsent;
                told!(
                    self.core.env(),
                    unsent,
                    %status,
                    "an RPC never left; it is picked for again"
                );
                Stage::Wait(pause(self.core.clone(), unsent))
            }
            _ => Stage::Pick,
        };
        Ok(())
    }

    /// The deadline has passed: what the RPC ends with.
    pub(super) fn expire(&mut self) -> tonic::Status {
        let status = tonic::Status::deadline_exceeded(self.waits_for());
        self.stop(&from_tonic(&status));
        status
    }

    /// What it is waiting for when the deadline passes.
    pub(super) fn waits_for(&self) -> String {
        if let Stage::Send(exchange) = &self.stage {
            return match exchange.waits_for_stream() {
                None => "the deadline passed before the response began".to_owned(),
                Some(connection) => format!(
                    "the deadline passed while waiting for a stream: {} allows no more at a time",
                    connection.peer()
                ),
            };
        }
        if let Stage::Authorize { .. } = &self.stage {
            return "the deadline passed while waiting for call credentials".to_owned();
        }
        let why = self
            .trouble()
            .and_then(|trouble| trouble.waits_for.as_ref());
        match why {
            None => "the deadline passed while waiting for a connection".to_owned(),
            Some(why) => format!("the deadline passed while waiting for a connection: {why}"),
        }
    }

    /// Ends it where it is. The policy is told `error`, if something was picked.
    pub(super) fn stop(&mut self, error: &Status) {
        let sent = matches!(&self.stage, Stage::Send(exchange) if exchange.is_open());
        // The stream ends before its end is told, here as elsewhere.
        self.stage = Stage::Done;
        if let Some(picked) = self.picked.take() {
            let info = DoneInfo::new()
                .with_err(error)
                .with_bytes_sent(sent)
                .with_source(self.core.source());
            picked.done.complete(&info);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.picked.is_none() {
            return;
        }
        let late = self.deadline.is_some_and(|at| at <= Instant::now());
        let status = if late {
            Status::new(Code::DeadlineExceeded, self.waits_for())
        } else {
            Status::new(Code::Cancelled, "the RPC was dropped")
        };
        self.stop(&status);
    }
}

/// Before an RPC that never left is picked for again: the connection is gone but the policy may not
/// know yet; let it hear.
fn pause(core: Core<TokioEnv>, unsent: u32) -> BoxFuture<Result<(), tonic::Status>> {
    let pause = unsent.checked_sub(EAGER_RETRIES).map(|n| {
        Duration::from_millis(1)
            .saturating_mul(1 << n.min(10))
            .min(LONGEST_PAUSE)
    });
    let awake = core.env().stay_awake();
    Box::pin(async move {
        let _awake = awake;
        match pause {
            None => tokio::task::yield_now().await,
            Some(pause) => {
                let mut sleep = pin!(core.env().sleep(Instant::now() + pause));
                poll_fn(|cx| match core.state(false) {
                    ConnectivityState::Shutdown => Poll::Ready(Ok(())),
                    _ => poll_timer(sleep.as_mut(), cx),
                })
                .await?;
            }
        }
        Ok(())
    })
}

// === impl Stopped ===

impl Stopped {
    fn last_word(status: tonic::Status) -> Self {
        Self::Failed(Failed {
            status,
            last_word: true,
        })
    }
}

// === impl Trouble ===

impl Trouble {
    /// It was sent there in vain.
    pub(super) fn failed_on(&mut self, sub_conn: SubConn) {
        self.picks = self.picks.saturating_add(1);
        self.avoid(&sub_conn);
    }

    /// It is, or was, there already.
    pub(super) fn avoid(&mut self, sub_conn: &SubConn) {
        if !self.tried.contains(sub_conn) {
            self.tried.push(sub_conn.clone());
        }
    }
}
