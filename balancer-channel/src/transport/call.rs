//! Calls that policies make on a connection: gRPC framing by hand, no compression.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use balancer_api::{CallEvent, CallRequest, Code, Status};
use balancer_channel_core::{CallSender, PolicyCall};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery};
use http_body::Frame;
use tokio::{sync::mpsc, time::Sleep};

use super::{
    connection::{H2Connection, Setup},
    request::RpcRequest,
    response::Download,
    send::SendRpc,
    status,
};

/// The largest message that a policy can receive, as for applications.
const MAX_MESSAGE: usize = 4 << 20;

/// The length of a message's prefix: a flag and a length.
const PREFIX: usize = 5;

/// The events of a call. It moves only when it is polled, and so does the peer.
struct Events {
    state: State,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that are no whole message yet.
    buffer: BytesMut,
}

enum State {
    /// Boxed: it is large, and a call is made seldom.
    Sending(Box<SendRpc>),
    Receiving(Download),
    /// The last event is ready.
    Ending(Status, HeaderMap),
    Ended,
}

struct Sender(Option<mpsc::UnboundedSender<Bytes>>);

/// The messages of a call, as they come.
struct Messages(mpsc::UnboundedReceiver<Bytes>);

/// Starts `request` on `connection`.
pub(super) fn start(connection: &H2Connection, request: CallRequest) -> PolicyCall {
    let (sender, messages) = mpsc::unbounded_channel();
    let mut sender = Sender(Some(sender));
    if let Some(message) = &request.first_message {
        sender.send_message(message.clone());
    }
    if request.half_close {
        sender.close_send();
    }
    let deadline = request
        .timeout
        .map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    let state = match head(request, connection.setup()) {
        Ok(head) => {
            let body = tonic::body::Body::new(Messages(messages));
            State::Sending(Box::new(connection.send(RpcRequest::new(head, body))))
        }
        Err(status) => State::Ending(status, HeaderMap::new()),
    };
    PolicyCall {
        events: Box::pin(Events {
            state,
            deadline,
            buffer: BytesMut::new(),
        }),
        sender: Box::new(sender),
    }
}

/// The request's head: the policy's headers, and those that gRPC demands.
fn head(request: CallRequest, setup: &Setup) -> Result<Request<()>, Status> {
    let path = PathAndQuery::try_from(&*request.method)
        .ok()
        .filter(|path| path.as_str().starts_with('/'))
        .ok_or_else(|| Status::new(Code::Internal, "the method of a call must start with '/'"))?;
    let uri = Uri::builder()
        .scheme(setup.scheme.clone())
        .authority(setup.authority().clone())
        .path_and_query(path)
        .build()
        .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.version_mut() = Version::HTTP_2;
    *head.uri_mut() = uri;
    let mut headers = request.headers;
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::USER_AGENT, setup.user_agent().clone());
    if let Some(timeout) = request.timeout.and_then(grpc_timeout) {
        headers.insert("grpc-timeout", timeout);
    }
    *head.headers_mut() = headers;
    Ok(head)
}

/// At most eight digits and a unit, never less than asked.
fn grpc_timeout(timeout: Duration) -> Option<HeaderValue> {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = timeout.as_nanos();
    let (amount, unit) = UNITS
        .into_iter()
        .map(|(size, unit)| (nanos.div_ceil(size), unit))
        .find(|(amount, _)| *amount < 100_000_000)?;
    HeaderValue::try_from(format!("{amount}{unit}")).ok()
}

// === impl Events ===

impl Events {
    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        loop {
            match &mut self.state {
                State::Sending(rpc) => match ready!(Pin::new(&mut **rpc).poll(cx)) {
                    Ok(response) => match response.into_parts() {
                        (headers, Ok(download)) => {
                            self.state = State::Receiving(download);
                            return Poll::Ready(Some(CallEvent::Headers(headers)));
                        }
                        (trailers, Err(status)) => self.state = State::Ending(status, trailers),
                    },
                    Err(failure) => self.fail(status::from_tonic(&failure.status)),
                },
                State::Receiving(download) => {
                    match take_message(&mut self.buffer) {
                        Ok(Some(message)) => {
                            return Poll::Ready(Some(CallEvent::Message(message)));
                        }
                        Ok(None) => {}
                        Err(status) => {
                            self.fail(status);
                            continue;
                        }
                    }
                    match ready!(download.poll_data(cx)) {
                        Some(Ok(data)) => self.buffer.extend_from_slice(&data),
                        Some(Err(status)) => self.fail(status::from_tonic(&status)),
                        None => match ready!(download.poll_trailers(cx)) {
                            Ok(trailers) => self.end(trailers),
                            Err(status) => self.fail(status::from_tonic(&status)),
                        },
                    }
                }
                State::Ending(..) => {
                    let State::Ending(status, trailers) =
                        std::mem::replace(&mut self.state, State::Ended)
                    else {
                        unreachable!("it is ending");
                    };
                    return Poll::Ready(Some(CallEvent::End { status, trailers }));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        let status = match status::of_trailers(trailers.as_ref()) {
            Ok(()) if self.buffer.is_empty() => Status::new(Code::Ok, ""),
            Ok(()) => Status::new(Code::Internal, "the last message is not whole"),
            Err(status) => status,
        };
        self.state = State::Ending(status, trailers.unwrap_or_default());
    }

    fn fail(&mut self, status: Status) {
        self.state = State::Ending(status, HeaderMap::new());
    }
}

impl Stream for Events {
    type Item = CallEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        let this = self.get_mut();
        if let Poll::Ready(event) = this.poll_state(cx) {
            return Poll::Ready(event);
        }
        if let Some(deadline) = &mut this.deadline {
            ready!(deadline.as_mut().poll(cx));
            this.deadline = None;
            this.fail(Status::new(
                Code::DeadlineExceeded,
                "the call took too long",
            ));
            return this.poll_state(cx);
        }
        Poll::Pending
    }
}

/// The first message of `buffer`, when it is whole.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some([flag, length @ ..]) = buffer.first_chunk::<PREFIX>().copied() else {
        return Ok(None);
    };
    if flag != 0 {
        return Err(Status::new(
            Code::Internal,
            "a message is compressed; nobody asked for that",
        ));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("a message of {length} bytes; the limit is {MAX_MESSAGE}"),
        ));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

// === impl Sender ===

impl CallSender for Sender {
    fn send_message(&mut self, message: Bytes) {
        let Some(sender) = &self.0 else { return };
        let Ok(length) = u32::try_from(message.len()) else {
            return;
        };
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(length);
        framed.put(message);
        // Nobody listens when the call has ended.
        let _ = sender.send(framed.freeze());
    }

    fn close_send(&mut self) {
        self.0 = None;
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("open", &self.0.is_some())
            .finish()
    }
}

// === impl Messages ===

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.get_mut()
            .0
            .poll_recv(cx)
            .map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
