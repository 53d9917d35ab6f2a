//! One RPC, from the pick to the response: picks, waits, sends, and sends again what never
//! reached a server.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use balancer_api::{
    Code, ConnectivityState, Done, DoneInfo, PickError, PickOptions, Status, SubConn,
};
use balancer_channel_core::{Attempt, BoxFuture, Core, PickOutcome};
use http::HeaderMap;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;

use crate::{
    deadline::{DeadlineBody, poll_timer},
    env::TokioEnv,
    options::WaitForReady,
    orca, status, timeout,
    transport::{
        EndHook, FailureKind, RpcEnd, RpcRequest, RpcResponse, SendFailure, SendRpc, from_tonic,
    },
};

pin_project! {
    /// An RPC on its way; see [`Channel`](crate::Channel).
    ///
    /// # Cancel safety
    /// Dropping it cancels the RPC: its stream is reset, its place among the waiting given up, and
    /// the policy told.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        call: Call,
        stage: Stage,
        // Armed when the RPC has a deadline.
        #[pin]
        sleep: Option<Sleep>,
    }

    impl PinnedDrop for ResponseFuture {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let sent = this.stage.sent();
            // The stream ends before its end is told, here as elsewhere.
            *this.stage = Stage::Done;
            if this.call.picked.is_some() {
                let status = Status::new(Code::Cancelled, "the RPC was dropped");
                this.call.tell(&status, sent);
            }
        }
    }
}

#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one: boxing it would cost every RPC"
)]
enum Stage {
    /// About to ask the picker.
    Pick,
    /// On a connection.
    Send(SendRpc),
    /// For the next picker, or for a while before another try.
    Wait(BoxFuture<Result<(), tonic::Status>>),
    Done,
}

/// What an RPC is, beside where it is.
struct Call {
    core: Core<TokioEnv>,
    /// Away while it is being sent.
    request: Option<RpcRequest>,
    /// The headers before a pick added its own.
    original_headers: Option<Box<HeaderMap>>,
    /// `None` until the service config has been looked at.
    wait_for_ready: Option<bool>,
    started: Instant,
    deadline: Option<Instant>,
    /// Whether the header on the wire says something else than what is left.
    rewrite_timeout: bool,
    picked: Option<Picked>,
    /// How often it was sent without success.
    attempts: u32,
    /// Where that was; each once, however often.
    tried: Vec<SubConn>,
    /// How often it turned out not to have left.
    unsent: u32,
    /// Whether it was once refused by a server; there is no second transparent retry.
    refused: bool,
    /// What it waits for, as the policy said last.
    waits_for: Option<PickError>,
}

/// Where an attempt went, and who wants to know how it ends.
struct Picked {
    sub_conn: SubConn,
    done: Done,
}

/// Tells the policy how an RPC ended whose response had begun.
struct CallEnd {
    done: Done,
    core: Option<Core<TokioEnv>>,
    deadline: Option<Instant>,
}

/// Tries that never left are repeated at once so often; then with growing pauses.
const EAGER_RETRIES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

// === impl ResponseFuture ===

impl ResponseFuture {
    pub(crate) fn new(core: Core<TokioEnv>, request: http::Request<Body>) -> Self {
        Self {
            call: Call::new(core, request),
            stage: Stage::Pick,
            sleep: None,
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<Body>, tonic::Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.call;
        loop {
            match this.stage {
                Stage::Pick => {
                    match call.pick() {
                        Ok(stage) => *this.stage = stage,
                        Err(status) => {
                            *this.stage = Stage::Done;
                            return Poll::Ready(Err(status));
                        }
                    }
                    // Anew where the service config came after the first pick and shortens it.
                    let armed = this.sleep.as_ref().as_pin_ref().map(|s| s.deadline());
                    if let Some(deadline) = call.deadline
                        && armed != Some(deadline)
                    {
                        let sleep = call.core.env().sleep(deadline);
                        this.sleep.set(Some(sleep));
                    }
                }
                Stage::Send(rpc) => match Pin::new(rpc).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(response)) => {
                        *this.stage = Stage::Done;
                        return Poll::Ready(Ok(call.begun(response)));
                    }
                    Poll::Ready(Err(failure)) => match call.failed(failure) {
                        Ok(stage) => *this.stage = stage,
                        Err(status) => {
                            *this.stage = Stage::Done;
                            return Poll::Ready(Err(status));
                        }
                    },
                },
                Stage::Wait(waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => *this.stage = Stage::Pick,
                    Poll::Ready(Err(status)) => {
                        *this.stage = Stage::Done;
                        return Poll::Ready(Err(status));
                    }
                },
                Stage::Done => {
                    return Poll::Ready(Err(tonic::Status::internal("polled after its end")));
                }
            }
        }
        // A pick looks at the clock itself.
        if let Some(sleep) = this.sleep.as_pin_mut() {
            if let Err(gone) = ready!(poll_timer(sleep, cx)) {
                *this.stage = Stage::Done;
                return Poll::Ready(Err(gone));
            }
            let in_flight = matches!(this.stage, Stage::Send(_));
            let sent = this.stage.sent();
            *this.stage = Stage::Done;
            return Poll::Ready(Err(call.expired(in_flight, sent)));
        }
        Poll::Pending
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Pick => "picking",
            Stage::Send(_) => "sent",
            Stage::Wait(_) => "waiting",
            Stage::Done => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

// === impl Call ===

impl Call {
    fn new(core: Core<TokioEnv>, request: http::Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut head = http::Request::from_parts(parts, ());
        core.env().address(&mut head);
        let started = Instant::now();
        let timeout = head
            .headers()
            .get(timeout::GRPC_TIMEOUT)
            .and_then(timeout::parse);
        Self {
            request: Some(RpcRequest::new(head, body)),
            original_headers: None,
            wait_for_ready: None,
            started,
            deadline: timeout.and_then(|timeout| started.checked_add(timeout)),
            rewrite_timeout: false,
            picked: None,
            attempts: 0,
            tried: Vec::new(),
            unsent: 0,
            refused: false,
            waits_for: None,
            core,
        }
    }

    /// Asks the current picker and starts what follows.
    fn pick(&mut self) -> Result<Stage, tonic::Status> {
        let Some(request) = &mut self.request else {
            return Err(tonic::Status::internal("the request is gone"));
        };
        let current = self.core.current();
        let asked = request
            .head
            .extensions()
            .get::<WaitForReady>()
            .map(|wait| wait.0);
        let path = request.head.uri().path();
        if let (None, Some(config)) = (self.wait_for_ready, current.config()) {
            let method = config.method(path);
            // What the application says of a call counts before what the config says.
            let configured = method.and_then(|method| method.wait_for_ready);
            self.wait_for_ready = Some(asked.or(configured).unwrap_or(false));
            if let Some(timeout) = method.and_then(|method| method.timeout) {
                let limit = self.started.checked_add(timeout);
                if self
                    .deadline
                    .is_none_or(|deadline| limit.is_some_and(|limit| limit < deadline))
                {
                    self.deadline = limit;
                    self.rewrite_timeout = true;
                }
            }
        }
        let mut left = None;
        if let Some(deadline) = self.deadline {
            left = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero());
            if left.is_none() {
                return Err(self.expired(false, false));
            }
        }
        let options = PickOptions::new(path)
            .with_headers(request.head.headers())
            .with_deadline(
                self.deadline
                    .map(|deadline| self.core.env().timestamp(deadline)),
            )
            .with_attempt(self.attempts, &self.tried)
            .with_wait_for_ready(self.wait_for_ready.or(asked).unwrap_or(false))
            .with_source(self.core.source());
        let outcome = current.pick(&options);
        drop(current);
        match outcome {
            PickOutcome::Complete(attempt) => self.send(attempt, left),
            PickOutcome::Wait { generation, why } => {
                self.waits_for = why;
                self.rewrite_timeout = true;
                let core = self.core.clone();
                Ok(Stage::Wait(Box::pin(async move {
                    core.next_picker(generation)
                        .await
                        .map_err(|full| tonic::Status::resource_exhausted(full.to_string()))
                })))
            }
            PickOutcome::Fail(error) => Err(status::of_pick(&error)),
            PickOutcome::Closed(reason) => Err(crate::transport::to_tonic(&reason)),
        }
    }

    fn send(
        &mut self,
        attempt: Attempt<crate::transport::H2Connection>,
        left: Option<Duration>,
    ) -> Result<Stage, tonic::Status> {
        let Some(mut request) = self.request.take() else {
            return Err(tonic::Status::internal("the request is gone"));
        };
        let headers = request.head.headers_mut();
        if let Some(metadata) = attempt.metadata {
            self.original_headers = Some(Box::new(headers.clone()));
            for (name, value) in metadata.iter() {
                headers.append(name.clone(), value.clone());
            }
        }
        if let (true, Some(left)) = (self.rewrite_timeout, left) {
            headers.insert(timeout::GRPC_TIMEOUT, timeout::format(left));
        }
        self.picked = Some(Picked {
            sub_conn: attempt.sub_conn,
            done: attempt.done,
        });
        Ok(Stage::Send(attempt.connection.send(request)))
    }

    /// The response has begun: whatever follows, the RPC is not tried again.
    fn begun(&mut self, response: RpcResponse) -> http::Response<Body> {
        let done = match self.picked.take() {
            Some(picked) => {
                self.core.prove(&picked.sub_conn);
                picked.done
            }
            None => Done::none(),
        };
        let core = if done.is_none() {
            None
        } else {
            Some(self.core.clone())
        };
        let deadline = self.deadline;
        let response = response.into_http(CallEnd {
            done,
            core,
            deadline,
        });
        match self.deadline {
            None => response,
            Some(deadline) => {
                let sleep = self.core.env().sleep(deadline);
                response.map(|body| DeadlineBody::wrap(body, sleep))
            }
        }
    }

    /// An attempt failed before its response: the policy is told, and it is tried again where the
    /// server's application cannot have seen it (gRFC A6).
    fn failed(&mut self, failure: SendFailure) -> Result<Stage, tonic::Status> {
        let SendFailure {
            kind,
            mut status,
            request,
        } = failure;
        if status.code() == tonic::Code::Cancelled
            && self.deadline.is_some_and(|at| at <= Instant::now())
        {
            // The server has looked at the clock first, and reset the stream.
            status = tonic::Status::deadline_exceeded(status.message());
        }
        if let Some(picked) = self.picked.take() {
            if !picked.done.is_none() {
                let error = from_tonic(&status);
                let info = DoneInfo::new()
                    .with_err(&error)
                    .with_bytes_sent(kind != FailureKind::NotSent)
                    .with_source(self.core.source());
                picked.done.complete(&info);
            }
            self.attempts = self.attempts.saturating_add(1);
            if !self.tried.contains(&picked.sub_conn) {
                self.tried.push(picked.sub_conn);
            }
        }
        let Some(mut request) = request else {
            return Err(status);
        };
        match kind {
            FailureKind::Failed => return Err(status),
            FailureKind::Refused if self.refused => return Err(status),
            FailureKind::Refused => self.refused = true,
            FailureKind::NotSent => self.unsent += 1,
        }
        if let Some(original) = self.original_headers.take() {
            *request.head.headers_mut() = *original;
        }
        self.request = Some(*request);
        self.rewrite_timeout = true;
        if kind == FailureKind::Refused {
            return Ok(Stage::Pick);
        }
        tracing::debug!(unsent = self.unsent, %status, "an RPC never left; it is picked for again");
        // The connection is gone but the policy may not know yet; let it hear.
        let pause = self.unsent.checked_sub(EAGER_RETRIES).map(|n| {
            Duration::from_millis(1)
                .saturating_mul(1 << n.min(10))
                .min(LONGEST_PAUSE)
        });
        let core = self.core.clone();
        Ok(Stage::Wait(Box::pin(async move {
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
        })))
    }

    /// The deadline has passed.
    fn expired(&mut self, in_flight: bool, sent: bool) -> tonic::Status {
        let text = match (in_flight, &self.waits_for) {
            (true, _) => "the deadline passed before the response began".to_owned(),
            (false, None) => "the deadline passed while waiting for a connection".to_owned(),
            (false, Some(why)) => {
                format!("the deadline passed while waiting for a connection: {why}")
            }
        };
        let status = tonic::Status::deadline_exceeded(text);
        if self.picked.is_some() {
            self.tell(&from_tonic(&status), sent);
        }
        status
    }

    /// Tells the policy that the attempt under way has ended without a response.
    fn tell(&mut self, error: &Status, sent: bool) {
        if let Some(picked) = self.picked.take() {
            let info = DoneInfo::new()
                .with_err(error)
                .with_bytes_sent(sent)
                .with_source(self.core.source());
            picked.done.complete(&info);
        }
    }
}

// === impl Stage ===

impl Stage {
    /// Whether a byte of the RPC may have left.
    fn sent(&self) -> bool {
        matches!(self, Self::Send(rpc) if rpc.is_open())
    }
}

// === impl CallEnd ===

impl EndHook for CallEnd {
    fn on_end(self, end: &RpcEnd<'_>) {
        let Some(core) = self.core else { return };
        let load = end.trailers.and_then(orca::load_report);
        let mut info = DoneInfo::new()
            .with_bytes_sent(end.bytes_sent > 0)
            .with_bytes_received(end.bytes_received > 0 || end.trailers.is_some())
            .with_source(core.source());
        let late;
        if let Some(status) = end.status {
            info = info.with_err(status);
            if status.code() == Code::Cancelled
                && end.trailers.is_none()
                && self.deadline.is_some_and(|at| at <= Instant::now())
            {
                // Its body was dropped, or reset by the server, since the time was over.
                late = Status::new(
                    Code::DeadlineExceeded,
                    "the deadline passed during the response",
                );
                info = info.with_err(&late);
            }
        }
        if let Some(trailers) = end.trailers {
            info = info.with_trailers(trailers);
        }
        if let Some(load) = &load {
            info = info.with_server_load(load);
        }
        self.done.complete(&info);
    }
}
