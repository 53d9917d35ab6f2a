//! The receiving half of a stream, as tonic reads it and as the channel accounts for it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use balancer_api::{Code, Status};
use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;

use super::{
    connection::{H2Connection, Permit},
    limit::{MessageLimit, Of},
    rouse::hush,
    shared::Shared,
    status,
    upload::PumpControl,
    watched::watched,
};

/// Received bytes are given back to the peer's window in portions of at least this size.
const RELEASE: usize = 16 * 1024;

/// A response that has begun.
#[derive(Debug)]
pub(crate) struct RpcResponse {
    parts: http::response::Parts,
    body: Result<Download, Ended>,
}

/// Told exactly once how an RPC ended whose response had begun: also when it was dropped.
pub(crate) trait EndHook: Send + 'static {
    /// The RPC is over.
    fn on_end(self, end: &RpcEnd<'_>);
}

/// How an RPC ended. Its request was sent, at least in part, and its response had begun.
#[derive(Debug)]
pub(crate) struct RpcEnd<'a> {
    /// `None` is OK. CANCELLED when the application dropped the response.
    pub(crate) status: Option<&'a Status>,
    /// The server's trailers; the headers of a response that is only trailers.
    pub(crate) trailers: Option<&'a HeaderMap>,
    /// Bytes of messages, prefixes included.
    pub(crate) bytes_sent: u64,
    /// Bytes of messages, prefixes included.
    pub(crate) bytes_received: u64,
}

/// A response that is only headers.
#[derive(Debug)]
struct Ended {
    status: Result<(), Status>,
    sent: u64,
}

/// A response body on its way. The order of the fields is the order of their end: the stream is
/// gone when its permit goes to the next RPC, and when [`hush`] ends.
pub(super) struct Download {
    recv: RecvStream,
    /// The peer has ended the stream.
    ended: bool,
    /// Bytes read and not yet given back to the peer's window.
    unreleased: usize,
    received: u64,
    limit: MessageLimit,
    sent: Sent,
}

/// What comes next of a response.
pub(super) enum Next {
    /// Bytes of messages.
    Data(Bytes),
    /// Trailers, or what came instead of them.
    End(Result<Option<HeaderMap>, tonic::Status>),
}

/// Where the count of sent bytes is, and what else is left of the request.
pub(super) enum Sent {
    All { bytes: u64, permit: Permit },
    Pumping(Arc<PumpControl>),
}

/// The body that tonic gets: the download, until it ends, and the hook, until it is told.
struct ObservedBody<H: EndHook> {
    download: Option<Download>,
    hook: Option<H>,
}

// === impl RpcResponse ===

impl RpcResponse {
    pub(super) fn new(response: http::Response<RecvStream>, sent: Sent) -> Self {
        let (mut parts, recv) = response.into_parts();
        let download = Download {
            recv,
            ended: false,
            unreleased: 0,
            received: 0,
            limit: MessageLimit::new(u32::MAX, Of::Response),
            sent,
        };
        let status = match status::in_headers(&parts.headers) {
            Some(status) => status,
            None => match status::of_foreign_response(parts.status, &parts.headers) {
                None => {
                    return Self {
                        parts,
                        body: Ok(download),
                    };
                }
                Some(status) => {
                    // What a proxy says is no gRPC: put it into words that tonic reads.
                    status::write(&status, &mut parts.headers);
                    Err(status)
                }
            },
        };
        status::mend(&mut parts.headers);
        let body = Err(Ended {
            status,
            sent: download.sent.bytes(),
        });
        Self { parts, body }
    }

    /// The status, when the response is over with its headers.
    pub(crate) fn status(&self) -> Option<&Result<(), Status>> {
        self.body.as_ref().err().map(|ended| &ended.status)
    }

    /// No message of more than `max` bytes is received: the first ends the RPC with
    /// RESOURCE_EXHAUSTED.
    #[inline]
    pub(crate) fn limit_messages(&mut self, max: u32) {
        if let Ok(download) = &mut self.body {
            download.limit.set_max(max);
        }
    }

    /// The response's headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The response for tonic. `hook` is told when it ends: at once, when it is over already.
    pub(crate) fn into_http<H: EndHook>(self, hook: H) -> http::Response<tonic::body::Body> {
        self.into_response(hook, |download, hook| {
            // In the box that tonic would make: it has errors of tonic's already, and is not wrapped.
            tonic::body::Body::new(UnsyncBoxBody::new(ObservedBody {
                download: Some(download),
                hook: Some(hook),
            }))
        })
    }

    /// As [`into_http`](Self::into_http); it ends with DEADLINE_EXCEEDED at `deadline`, read or not.
    pub(crate) fn into_http_until<H: EndHook>(
        self,
        deadline: Instant,
        hook: H,
        cx: &mut Context<'_>,
    ) -> http::Response<tonic::body::Body> {
        self.into_response(hook, |download, hook| watched(download, hook, deadline, cx))
    }

    fn into_response<H: EndHook>(
        self,
        hook: H,
        unfinished: impl FnOnce(Download, H) -> tonic::body::Body,
    ) -> http::Response<tonic::body::Body> {
        let body = match self.body {
            Ok(download) => unfinished(download, hook),
            Err(ended) => {
                hook.on_end(&RpcEnd {
                    status: ended.status.as_ref().err(),
                    trailers: Some(&self.parts.headers),
                    bytes_sent: ended.sent,
                    bytes_received: 0,
                });
                tonic::body::Body::empty()
            }
        };
        http::Response::from_parts(self.parts, body)
    }

    /// The stream itself, for a policy's call.
    pub(super) fn into_parts(self) -> (HeaderMap, Result<Download, Status>) {
        let body = self.body.map_err(|ended| match ended.status {
            Ok(()) => Status::new(Code::Ok, ""),
            Err(status) => status,
        });
        (self.parts.headers, body)
    }
}

// === impl Download ===

impl Download {
    /// The next bytes; `None` when only the trailers are left.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, tonic::Status>>> {
        match ready!(self.recv.poll_data(cx)) {
            Some(Ok(data)) => {
                if let Err(status) = self.limit.check(&data) {
                    return Poll::Ready(Some(Err(status)));
                }
                self.received += data.len() as u64;
                self.unreleased += data.len();
                if self.unreleased >= RELEASE {
                    // The rest is given back with the stream. An error means that it has ended.
                    let _ = self.recv.flow_control().release_capacity(self.unreleased);
                    self.shared().driver.pay();
                    self.unreleased = 0;
                }
                Poll::Ready(Some(Ok(data)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.error(&error)))),
            None => Poll::Ready(None),
        }
    }

    /// The trailers, after the last bytes.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, tonic::Status>> {
        match ready!(self.recv.poll_trailers(cx)) {
            Ok(mut trailers) => {
                self.ended = true;
                if let Some(trailers) = &mut trailers {
                    status::mend(trailers);
                }
                Poll::Ready(Ok(trailers))
            }
            Err(error) => Poll::Ready(Err(self.error(&error))),
        }
    }

    /// The next bytes, or the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        Poll::Ready(match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => Next::Data(data),
            Some(Err(error)) => Next::End(Err(error)),
            None => Next::End(ready!(self.poll_trailers(cx))),
        })
    }

    /// What the connection knows.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.sent.connection().shared()
    }

    fn error(&self, error: &h2::Error) -> tonic::Status {
        if let Sent::Pumping(control) = &self.sent
            && let Some(status) = control.take_error()
        {
            return status;
        }
        status::to_tonic(&status::of_stream_error(error, self.shared()))
    }

    /// Whether the stream has ended on both sides, so that the connection has nothing to do for its end.
    fn has_ended(&self) -> bool {
        match &self.sent {
            Sent::All { permit, .. } => self.ended && permit.connection().has_room(),
            Sent::Pumping(_) => false,
        }
    }

    /// Ends the stream and tells the hook.
    pub(super) fn end<H: EndHook>(
        self,
        hook: H,
        status: Option<&Status>,
        trailers: Option<&HeaderMap>,
    ) {
        let (bytes_sent, bytes_received) = (self.sent.bytes(), self.received);
        // The stream ends before its end is told: the hook may lead to the next RPC.
        if self.has_ended() {
            hush(|| drop(self));
        } else {
            drop(self);
        }
        hook.on_end(&RpcEnd {
            status,
            trailers,
            bytes_sent,
            bytes_received,
        });
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Sent::Pumping(control) = &self.sent {
            control.cancel();
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

// === impl Sent ===

impl Sent {
    fn bytes(&self) -> u64 {
        match self {
            Self::All { bytes, .. } => *bytes,
            Self::Pumping(control) => control.sent(),
        }
    }

    fn connection(&self) -> &H2Connection {
        match self {
            Self::All { permit, .. } => permit.connection(),
            Self::Pumping(control) => control.connection(),
        }
    }
}

// === impl ObservedBody ===

impl<H: EndHook> ObservedBody<H> {
    /// Ends the stream and tells the hook.
    fn end(&mut self, status: Option<&Status>, trailers: Option<&HeaderMap>) {
        let Some(download) = &self.download else {
            return;
        };
        let (bytes_sent, bytes_received) = (download.sent.bytes(), download.received);
        // As in `Download::end`, without moving it.
        if download.has_ended() {
            hush(|| self.download = None);
        } else {
            self.download = None;
        }
        if let Some(hook) = self.hook.take() {
            hook.on_end(&RpcEnd {
                status,
                trailers,
                bytes_sent,
                bytes_received,
            });
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Some(download) = &mut self.download else {
            return Poll::Ready(None);
        };
        match ready!(download.poll_data(cx)) {
            Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Err(error)) => {
                self.end(Some(&status::from_tonic(&error)), None);
                return Poll::Ready(Some(Err(error)));
            }
            None => {}
        }
        match ready!(download.poll_trailers(cx)) {
            Ok(trailers) => {
                let status = status::of_trailers(trailers.as_ref());
                self.end(status.as_ref().err(), trailers.as_ref());
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => {
                self.end(Some(&status::from_tonic(&error)), None);
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<H: EndHook> http_body::Body for ObservedBody<H> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.download.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

// Nothing in it is pinned: the hook is only ever moved out.
impl<H: EndHook> Unpin for ObservedBody<H> {}

impl<H: EndHook> Drop for ObservedBody<H> {
    fn drop(&mut self) {
        if self.download.is_some() {
            self.end(
                Some(&Status::new(Code::Cancelled, "the response was dropped")),
                None,
            );
        }
    }
}
