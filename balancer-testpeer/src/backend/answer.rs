//! What a backend does with one request.

use crate::{Request, conn, frame::Frame, grpc};
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

/// What a backend does with one request.
///
/// [`Echo`](Self::Echo) answers message by message; [`Reset`](Self::Reset) and
/// [`Frames`](Self::Frames) act on the request's headers; [`Respond`](Self::Respond) waits for the
/// whole request, as a unary server does, unless it is [`Early`](Self::Early).
#[derive(Clone)]
#[non_exhaustive]
pub enum Answer {
    /// Each message as it comes, then OK.
    Echo,
    /// A response put together by the test.
    Respond(Response),
    /// The answer, as soon as the headers have come.
    Early(Box<Answer>),
    /// The answer, so much later. Other streams are not held up.
    After(Duration, Box<Answer>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// Nothing, ever.
    Never,
    /// Any frames, made for the request.
    Frames(Arc<MakeFrames>),
}

/// Makes the frames of [`Answer::Frames`].
pub type MakeFrames = dyn Fn(&Request) -> Vec<Frame> + Send + Sync;

/// A response, step by step. Nothing is added: no header, no status, no end.
///
/// ```
/// use balancer_testpeer::Response;
///
/// let no_status = Response::new().headers([(":status", "200")]).message(b"hi").end();
/// let html = Response::new()
///     .headers([(":status", "502"), ("content-type", "text/html")])
///     .body("<h1>Bad Gateway</h1>")
///     .end();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Headers(Bytes),
    Body(Bytes),
    Trailers(Bytes),
    End,
    Reset(u32),
}

// === impl Answer ===

impl Answer {
    /// One message and OK.
    pub fn ok(message: impl AsRef<[u8]>) -> Self {
        Self::Respond(Response::grpc().message(message).status(grpc::OK, ""))
    }

    /// Headers, then a status in trailers.
    pub fn status(code: u32, message: &str) -> Self {
        Self::Respond(Response::grpc().status(code, message))
    }

    /// A status in the only header block.
    pub fn trailers_only(code: u32, message: &str) -> Self {
        let mut fields = conn::response_headers();
        fields.extend(conn::trailers(code, message));
        Self::Respond(Response::new().trailers(fields))
    }

    /// One message and the end of the stream, without `grpc-status`.
    pub fn missing_status(message: impl AsRef<[u8]>) -> Self {
        Self::Respond(Response::grpc().message(message).end())
    }

    /// One message, then a `grpc-status` that need not be a number.
    pub fn bad_status(value: &str) -> Self {
        Self::Respond(
            Response::grpc()
                .message(b"")
                .trailers([("grpc-status", value)]),
        )
    }

    /// An HTTP status with a little text for a body, as a proxy answers; no `grpc-status`.
    pub fn http_status(status: u16) -> Self {
        let status = status.to_string();
        let headers = [(":status", status.as_str()), ("content-type", "text/plain")];
        Self::Respond(Response::new().headers(headers).body("not gRPC").end())
    }

    /// HTTP status 200 and a body of another content type.
    pub fn content_type(value: &str) -> Self {
        let headers = [(":status", "200"), ("content-type", value)];
        Self::Respond(
            Response::new()
                .headers(headers)
                .body("<p>not gRPC</p>")
                .end(),
        )
    }

    /// `count` informational responses of `status` (100, 103 …), then one message and OK.
    pub fn informational_first(status: u16, count: usize, message: impl AsRef<[u8]>) -> Self {
        let status = status.to_string();
        let informed = (0..count).fold(Response::new(), |response, _| {
            response.headers([(":status", status.as_str())])
        });
        let rest = Response::grpc().message(message).status(grpc::OK, "");
        Self::Respond(Response {
            steps: [informed.steps, rest.steps].concat(),
        })
    }

    /// The answer, when the headers have come and not when the request is whole.
    pub fn early(self) -> Self {
        Self::Early(Box::new(self))
    }

    /// The answer, so much later.
    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }

    /// Frames made for each request.
    pub fn frames(make: impl Fn(&Request) -> Vec<Frame> + Send + Sync + 'static) -> Self {
        Self::Frames(Arc::new(make))
    }

    /// Whether it waits for the whole request.
    pub(super) fn waits(&self) -> bool {
        match self {
            Self::Respond(_) => true,
            Self::After(_, answer) => answer.waits(),
            _ => false,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("Echo"),
            Self::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
            Self::Early(answer) => f.debug_tuple("Early").field(answer).finish(),
            Self::After(delay, answer) => {
                f.debug_tuple("After").field(delay).field(answer).finish()
            }
            Self::Reset(code) => f.debug_tuple("Reset").field(code).finish(),
            Self::Never => f.write_str("Never"),
            Self::Frames(_) => f.write_str("Frames(..)"),
        }
    }
}

// === impl Response ===

impl Response {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The headers of a gRPC response.
    pub fn grpc() -> Self {
        Self::new().headers(conn::response_headers())
    }

    /// A header block.
    pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        fields: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.step(Step::Headers(crate::hpack::encode(fields).into()))
    }

    /// A gRPC message.
    pub fn message(self, message: impl AsRef<[u8]>) -> Self {
        self.step(Step::Body(grpc::message(message.as_ref())))
    }

    /// Body octets that need not be a gRPC message, or a whole one.
    pub fn body(self, octets: impl Into<Bytes>) -> Self {
        self.step(Step::Body(octets.into()))
    }

    /// Trailers with a status; the stream ends.
    pub fn status(self, code: u32, message: &str) -> Self {
        self.trailers(conn::trailers(code, message))
    }

    /// Any last header block; the stream ends.
    pub fn trailers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        fields: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.step(Step::Trailers(crate::hpack::encode(fields).into()))
    }

    /// The end of the stream, without trailers.
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// RST_STREAM.
    pub fn reset(self, code: u32) -> Self {
        self.step(Step::Reset(code))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}
