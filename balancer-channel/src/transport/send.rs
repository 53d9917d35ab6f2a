//! One attempt of an RPC on one connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::client::ResponseFuture;

use super::{
    connection::{H2Connection, Permit},
    line::{Admit, Ticket},
    replay::ReplayBody,
    request::{KeptHeaders, RpcRequest},
    response::{RpcResponse, Sent},
    status,
    upload::{Pump, PumpControl, Upload},
};

/// An RPC on a connection until its response begins, beside its request. Nothing happens before the
/// first poll.
///
/// Its parts are options, not the variants of an enum: a variant that becomes another would be
/// copied.
///
/// # Cancel safety
/// Dropping it resets the stream, where there is one; an RPC that waits for its turn is forgotten.
pub(crate) struct Exchange {
    /// The one that was picked, until the stream is open.
    connection: Option<H2Connection>,
    /// While it waits to be admitted.
    ticket: Option<Ticket>,
    /// From then on.
    open: Option<Open>,
    /// Beside the open stream.
    kept: Option<KeptHeaders>,
}

/// An [`Exchange`] that owns its request, and goes to no other connection.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct SendRpc {
    /// Before the request: the stream must end first.
    exchange: Exchange,
    request: Option<RpcRequest>,
}

/// A stream without a response. The order of the fields is the order of their end: the stream before
/// its permit.
struct Open {
    response: ResponseFuture,
    /// What is left to send of the body. In a box, since there is nothing left of most: an RPC that
    /// has none is moved with less.
    upload: Option<Box<Upload>>,
    sent: u64,
    permit: Permit,
}

/// Why an attempt brought no response.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What the server may have seen.
    pub(crate) kind: FailureKind,
    /// What the RPC ends with, unless it is tried again.
    pub(crate) status: tonic::Status,
    /// The request is whole and may be sent again: the kind allows it, and it is not committed.
    pub(crate) resend: bool,
    /// A byte of it may have left.
    pub(crate) opened: bool,
}

/// A [`Broken`] that gives its request back.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "a policy's call ends with the status; the transport's tests look at all"
    )
)]
pub(crate) struct SendFailure {
    /// What the server may have seen.
    pub(crate) kind: FailureKind,
    /// What the RPC ends with, unless it is tried again.
    pub(crate) status: tonic::Status,
    /// The request, to be sent again: where the kind allows it, and where it is not committed.
    pub(crate) request: Option<Box<RpcRequest>>,
}

/// What the server may have seen of an RPC that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Nothing: it never left this process.
    NotSent,
    /// The server's library saw it, the application did not.
    Refused,
    /// The application may have seen it.
    Failed,
    /// It is the RPC itself that cannot be sent: its body failed, or its headers are illegal.
    Local,
}

// === impl Exchange ===

impl Exchange {
    /// An RPC on `connection`.
    #[inline]
    pub(crate) fn new(connection: H2Connection) -> Self {
        Self {
            connection: Some(connection),
            ticket: None,
            open: None,
            kept: None,
        }
    }

    /// Whether its stream is open, so that a byte of it may have left.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The connection on which it waits for its turn, because the peer allows no more streams.
    pub(crate) fn waits_for_stream(&self) -> Option<&H2Connection> {
        self.ticket.as_ref().and(self.connection.as_ref())
    }

    /// Ready when the response begins. `request` is the same in every poll.
    pub(crate) fn poll(
        &mut self,
        request: &mut RpcRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RpcResponse, Broken>> {
        self.poll_on(false, request, cx)
    }

    /// As [`poll`](Self::poll). `only`: a call of the channel's own, for which no other connection of
    /// the SubConn will do.
    fn poll_on(
        &mut self,
        only: bool,
        request: &mut RpcRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RpcResponse, Broken>> {
        if let Some(connection) = self.connection.take() {
            let permit = if self.ticket.is_none() && connection.shared().admission.try_admit() {
                connection.into_permit()
            } else {
                ready!(self.poll_admit(only, connection, cx))?
            };
            self.start(only, permit, request, cx)?;
        }
        self.poll_response(request, cx)
    }

    /// Waits for a stream. The connection that has one may be another than `connection`, which was
    /// picked.
    #[cold]
    fn poll_admit(
        &mut self,
        only: bool,
        connection: H2Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, Broken>> {
        let admission = &connection.shared().admission;
        match admission.poll_admit(only, &mut self.ticket, cx) {
            Poll::Pending => {
                self.connection = Some(connection);
                Poll::Pending
            }
            Poll::Ready(Admit::Granted) => Poll::Ready(Ok(connection.into_permit())),
            Poll::Ready(Admit::Elsewhere(grant)) => Poll::Ready(match grant.whose.upgrade() {
                Some(other) => Ok(other.into_permit()),
                None => {
                    admission.give_back(&grant);
                    Err(Broken::not_sent(&connection))
                }
            }),
            Poll::Ready(Admit::Closed) => Poll::Ready(Err(Broken::not_sent(&connection))),
        }
    }

    /// Opens the stream and sends what is there of the body. `own`: it is a call of the channel's or its
    /// policy's, not an RPC of the application's.
    #[inline]
    fn start(
        &mut self,
        own: bool,
        permit: Permit,
        request: &mut RpcRequest,
        cx: &mut Context<'_>,
    ) -> Result<(), Broken> {
        // Before the body is touched: one that is too large to be remembered can still go elsewhere.
        let Some(mut sender) = permit.connection().sender() else {
            return Err(Broken::not_sent(permit.connection()));
        };
        let budget = permit.connection().setup().replay();
        // A body that is all there, as that of a unary RPC, goes out with the head in one go.
        let mut first = None;
        let mut last = false;
        match request.body.poll_chunk(budget, cx) {
            Poll::Ready(None) => last = true,
            Poll::Ready(Some(Ok(chunk))) => first = Some(chunk),
            Poll::Ready(Some(Err(status))) => return Err(Broken::local(status, false)),
            Poll::Pending => {}
        }
        let (head, kept) = request.lend_head(permit.connection().setup());
        let open = || sender.send_request(head, last);
        let opened = match own {
            false => open(),
            true => permit
                .connection()
                .shared()
                .open_own_call(open, |(response, _)| response.stream_id().as_u32()),
        };
        let (response, stream) = match opened {
            Ok(opened) => opened,
            Err(error) if error.is_go_away() || error.is_io() => {
                request.take_back(kept);
                request.body.put_back(first);
                return Err(Broken::not_sent(permit.connection()));
            }
            // Headers that HTTP/2 does not allow.
            Err(error) => {
                let status = tonic::Status::internal(error.to_string());
                return Err(Broken::local(status, false));
            }
        };
        drop(sender);
        self.kept = Some(kept);
        let mut upload = None;
        let mut sent = 0;
        if !last {
            let mut rest = Upload::new(stream, first);
            match rest.poll(&mut request.body, budget, cx) {
                Poll::Pending => upload = Some(Box::new(rest)),
                Poll::Ready(Ok(())) => sent = rest.sent(),
                Poll::Ready(Err(status)) => return Err(Broken::local(status, true)),
            }
        }
        permit.connection().shared().driver.pay();
        self.open = Some(Open {
            response,
            upload,
            sent,
            permit,
        });
        Ok(())
    }

    fn poll_response(
        &mut self,
        request: &mut RpcRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RpcResponse, Broken>> {
        let Some(open) = &mut self.open else {
            panic!("an RPC was polled after its end");
        };
        if let Some(upload) = &mut open.upload {
            let connection = open.permit.connection();
            let budget = connection.setup().replay();
            let polled = upload.poll(&mut request.body, budget, cx);
            connection.shared().driver.pay();
            if let Poll::Ready(done) = polled {
                open.sent = upload.sent();
                open.upload = None;
                if let Err(status) = done {
                    self.open = None;
                    return Poll::Ready(Err(Broken::local(status, true)));
                }
            }
        }
        let answer = ready!(Pin::new(&mut open.response).poll(cx));
        let Some(open) = self.open.take() else {
            unreachable!("it was there");
        };
        Poll::Ready(match answer {
            Ok(response) => Ok(open.begun(response, request)),
            Err(error) => Err(self.broken(open, request, &error)),
        })
    }

    /// The stream has ended without a response.
    fn broken(&mut self, open: Open, request: &mut RpcRequest, error: &h2::Error) -> Broken {
        let shared = open.permit.connection().shared();
        let connection_ended = error.is_go_away() || error.is_io();
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        let kind = if connection_ended && !shared.was_taken(open.response.stream_id().as_u32()) {
            FailureKind::NotSent
        } else if refused {
            FailureKind::Refused
        } else {
            FailureKind::Failed
        };
        let status = status::to_tonic(&status::of_stream_error(error, shared));
        let resend = kind != FailureKind::Failed && !request.body.is_committed();
        if let (true, Some(kept)) = (resend, self.kept.take()) {
            request.take_back(kept);
            request.body.rewind();
        }
        Broken {
            kind,
            status,
            resend,
            opened: kind != FailureKind::NotSent,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let (Some(ticket), Some(connection)) = (&self.ticket, &self.connection) {
            connection.shared().admission.forget(ticket);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("waiting", &self.ticket.is_some())
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

// === impl SendRpc ===

impl SendRpc {
    pub(super) fn new(connection: H2Connection, request: RpcRequest) -> Self {
        Self {
            exchange: Exchange::new(connection),
            request: Some(request),
        }
    }
}

impl Future for SendRpc {
    type Output = Result<RpcResponse, SendFailure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(request) = &mut this.request else {
            panic!("an RPC was polled after its end");
        };
        let result = ready!(this.exchange.poll_on(true, request, cx));
        let request = this.request.take();
        Poll::Ready(result.map_err(|broken| SendFailure {
            kind: broken.kind,
            status: broken.status,
            request: request.filter(|_| broken.resend).map(Box::new),
        }))
    }
}

impl fmt::Debug for SendRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exchange.fmt(f)
    }
}

// === impl Open ===

impl Open {
    /// The response has begun: the request is committed.
    fn begun(
        self,
        response: http::Response<h2::RecvStream>,
        request: &mut RpcRequest,
    ) -> RpcResponse {
        let sent = match self.upload {
            None => Sent::All {
                bytes: self.sent,
                permit: self.permit,
            },
            Some(upload) => {
                let nothing = ReplayBody::new(tonic::body::Body::empty(), 0);
                let body = std::mem::replace(&mut request.body, nothing);
                let connection = self.permit.connection().clone();
                let control = PumpControl::new(self.permit);
                connection.spawn(Pump::new(*upload, body, control.clone()));
                Sent::Pumping(control)
            }
        };
        RpcResponse::new(response, sent)
    }
}

// === impl Broken ===

impl Broken {
    /// The RPC itself is at fault: the connection has no part in it.
    fn local(status: tonic::Status, opened: bool) -> Self {
        Self {
            kind: FailureKind::Local,
            status,
            resend: false,
            opened,
        }
    }

    /// The connection takes no more streams; the request is as it was.
    fn not_sent(connection: &H2Connection) -> Self {
        Self {
            kind: FailureKind::NotSent,
            status: status::to_tonic(&connection.shared().lost()),
            resend: true,
            opened: false,
        }
    }
}
