//! One attempt of an RPC on one connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::client::ResponseFuture;

use super::{
    admission::{Admit, Ticket},
    connection::{H2Connection, Permit},
    request::{KeptHead, ReplayBody, RpcRequest},
    response::{RpcResponse, Sent},
    status,
    upload::{Pump, PumpControl, Upload},
};

/// An RPC until its response begins. Nothing happens before the first poll.
///
/// Its parts are options, not the variants of an enum: they are large, and a variant that becomes
/// another would be copied.
///
/// # Cancel safety
/// Dropping it resets the stream, where there is one; an RPC that waits for its turn is forgotten.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct SendRpc {
    /// Until the stream is open.
    connection: Option<H2Connection>,
    /// While it waits to be admitted.
    ticket: Option<Ticket>,
    /// Until the stream is open.
    head: Option<http::Request<()>>,
    /// From then on. Before the head's copy and the body: the stream must end first.
    open: Option<Open>,
    /// Beside the open stream.
    kept: Option<KeptHead>,
    /// Until the response begins.
    body: Option<ReplayBody>,
}

/// A stream without a response. The order of the fields is the order of their end: the stream before
/// its permit.
struct Open {
    response: ResponseFuture,
    /// What is left to send of the body.
    upload: Option<Upload>,
    sent: u64,
    permit: Permit,
}

/// Why an attempt brought no response.
#[derive(Debug)]
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
}

// === impl SendRpc ===

impl SendRpc {
    pub(super) fn new(connection: H2Connection, request: RpcRequest) -> Self {
        Self {
            connection: Some(connection),
            ticket: None,
            head: Some(request.head),
            open: None,
            kept: None,
            body: Some(request.body),
        }
    }

    /// Whether its stream is open, so that a byte of it may have left.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn poll_admit(&mut self, connection: &H2Connection, cx: &mut Context<'_>) -> Poll<Admit> {
        let admission = &connection.shared().admission;
        if self.ticket.is_none() {
            match admission.try_admit() {
                Admit::Full => {}
                answer => return Poll::Ready(answer),
            }
        }
        admission.poll_admit(&mut self.ticket, cx)
    }

    /// Opens the stream and sends what is there of the body.
    fn start(&mut self, permit: Permit, cx: &mut Context<'_>) -> Result<(), SendFailure> {
        let (Some(mut head), Some(body)) = (self.head.take(), &mut self.body) else {
            unreachable!("a request is there until its stream opens");
        };
        // A body that is all there, as that of a unary RPC, goes out with the head in one go.
        let mut first = None;
        let mut last = false;
        match body.poll_chunk(cx) {
            Poll::Ready(None) => last = true,
            Poll::Ready(Some(Ok(chunk))) => first = Some(chunk),
            Poll::Ready(Some(Err(status))) => return Err(SendFailure::of_body(status)),
            Poll::Pending => {}
        }

        let Some(mut sender) = permit.connection().sender() else {
            return Err(self.not_sent(permit.connection(), Some(head)));
        };
        self.kept = Some(KeptHead::of(&mut head));
        let (response, stream) = match sender.send_request(head, last) {
            Ok(opened) => opened,
            Err(error) if error.is_go_away() || error.is_io() => {
                return Err(self.not_sent(permit.connection(), None));
            }
            // Headers that HTTP/2 does not allow.
            Err(error) => {
                return Err(SendFailure::of_body(tonic::Status::internal(
                    error.to_string(),
                )));
            }
        };
        drop(sender);
        let mut open = Open {
            response,
            upload: None,
            sent: 0,
            permit,
        };
        if !last {
            let mut upload = Upload::new(stream, first);
            match upload.poll(body, cx) {
                Poll::Pending => open.upload = Some(upload),
                Poll::Ready(Ok(())) => open.sent = upload.sent(),
                Poll::Ready(Err(status)) => return Err(SendFailure::of_body(status)),
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<RpcResponse, SendFailure>> {
        let (Some(open), Some(body)) = (&mut self.open, &mut self.body) else {
            panic!("an RPC was polled after its end");
        };
        if let Some(upload) = &mut open.upload
            && let Poll::Ready(done) = upload.poll(body, cx)
        {
            open.sent = upload.sent();
            open.upload = None;
            if let Err(status) = done {
                self.open = None;
                return Poll::Ready(Err(SendFailure::of_body(status)));
            }
        }
        let answer = ready!(Pin::new(&mut open.response).poll(cx));
        let (Some(open), Some(body)) = (self.open.take(), self.body.take()) else {
            unreachable!("both were there");
        };
        Poll::Ready(match answer {
            Ok(response) => Ok(open.begun(response, body)),
            Err(error) => Err(self.broken(open, body, &error)),
        })
    }

    /// The stream has ended without a response.
    fn broken(&mut self, open: Open, body: ReplayBody, error: &h2::Error) -> SendFailure {
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
        let request = match (kind, self.kept.take()) {
            (FailureKind::NotSent | FailureKind::Refused, Some(kept)) => {
                again(kept.restore(), body)
            }
            _ => None,
        };
        SendFailure {
            kind,
            status,
            request,
        }
    }

    /// The connection takes no more streams. `head`: unless it was kept.
    fn not_sent(
        &mut self,
        connection: &H2Connection,
        head: Option<http::Request<()>>,
    ) -> SendFailure {
        let head = head.or_else(|| self.kept.take().map(KeptHead::restore));
        let request = match (head, self.body.take()) {
            (Some(head), Some(body)) => again(head, body),
            _ => None,
        };
        let status = status::to_tonic(&connection.shared().lost());
        SendFailure {
            kind: FailureKind::NotSent,
            status,
            request,
        }
    }
}

impl Future for SendRpc {
    type Output = Result<RpcResponse, SendFailure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(connection) = this.connection.take() {
            match this.poll_admit(&connection, cx) {
                Poll::Pending => {
                    this.connection = Some(connection);
                    return Poll::Pending;
                }
                Poll::Ready(Admit::Granted) => this.start(connection.into_permit(), cx)?,
                Poll::Ready(_) => {
                    let head = this.head.take();
                    return Poll::Ready(Err(this.not_sent(&connection, head)));
                }
            }
        }
        this.poll_response(cx)
    }
}

impl Drop for SendRpc {
    fn drop(&mut self) {
        if let (Some(ticket), Some(connection)) = (&self.ticket, &self.connection) {
            connection.shared().admission.forget(ticket);
        }
    }
}

impl fmt::Debug for SendRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRpc")
            .field("waiting", &self.ticket.is_some())
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

// === impl Open ===

impl Open {
    /// The response has begun: the request is committed.
    fn begun(self, response: http::Response<h2::RecvStream>, body: ReplayBody) -> RpcResponse {
        let sent = match self.upload {
            None => Sent::All {
                bytes: self.sent,
                permit: self.permit,
            },
            Some(upload) => {
                let connection = self.permit.connection().clone();
                let control = PumpControl::new(self.permit);
                connection.spawn(Box::pin(Pump::new(upload, body, control.clone())));
                Sent::Pumping(control)
            }
        };
        RpcResponse::new(response, sent)
    }
}

/// The request, to be sent from its start, unless part of it is forgotten.
fn again(head: http::Request<()>, mut body: ReplayBody) -> Option<Box<RpcRequest>> {
    if body.is_committed() {
        return None;
    }
    body.rewind();
    Some(Box::new(RpcRequest { head, body }))
}

// === impl SendFailure ===

impl SendFailure {
    /// The application's own body failed: the connection has no part in it.
    fn of_body(status: tonic::Status) -> Self {
        Self {
            kind: FailureKind::Failed,
            status,
            request: None,
        }
    }
}
