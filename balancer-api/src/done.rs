//! What a policy learns when an RPC ends.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;

use crate::{Code, Status, Timestamp, client_conn::Source};

/// Observes the end of RPCs for which a picker gave a SubConn.
///
/// One observer serves many RPCs; the `token` given with it to
/// [`Pick::on_done`](crate::Pick::on_done) comes back and says which: an index, a start time.
///
/// # Calls
/// Exactly once for each successful pick that carried the observer, however the RPC ends: finished,
/// failed, cancelled, dropped, or never sent since the SubConn was not READY after all.
///
/// # What it is told
/// | the RPC | `err` | `bytes_sent` |
/// |---|---|---|
/// | ended with OK | none | yes |
/// | ended with another status | that status | yes |
/// | was cancelled or dropped after it was sent | CANCELLED | yes |
/// | passed its deadline | DEADLINE_EXCEEDED | if it was sent |
/// | failed on a connection that never took it, and will be picked for again | UNAVAILABLE | no |
/// | was picked for a SubConn that was not READY | none | no |
/// | had its [`Pick`](crate::Pick) dropped by a wrapping picker | CANCELLED | no |
///
/// # Threads
/// On the RPC's own task or thread, many at once, also after the policy was closed.
///
/// # Blocking
/// Runs on the RPC's path: a few atomic operations, no lock that a pick or a callback takes.
///
/// # Panics
/// A panic is contained: the RPC's result and the other observers do not notice.
///
/// ```
/// use balancer_api::{DoneInfo, OnDone};
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// #[derive(Default)]
/// struct InFlight(AtomicUsize);
///
/// impl OnDone for InFlight {
///     fn on_done(&self, _token: u64, _info: &DoneInfo<'_>) {
///         self.0.fetch_sub(1, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait OnDone: Send + Sync + 'static {
    /// The RPC of `token` ended as `info` says.
    fn on_done(&self, token: u64, info: &DoneInfo<'_>);
}

/// How an RPC ended. Made by channels (and kits) with [`new`](Self::new) and the `with_` methods.
///
/// ```
/// use balancer_api::{Code, DoneInfo, Status};
/// let status = Status::new(Code::Unavailable, "connection reset");
/// let info = DoneInfo::new().with_err(&status).with_bytes_sent(true);
/// assert_eq!(info.err().map(Status::code), Some(Code::Unavailable));
/// assert!(info.bytes_sent() && !info.bytes_received());
/// ```
#[derive(Clone, Copy, Default)]
pub struct DoneInfo<'a> {
    err: Option<&'a Status>,
    trailers: Option<&'a HeaderMap>,
    bytes_sent: bool,
    bytes_received: bool,
    server_load: Option<&'a Bytes>,
    source: Option<&'a dyn Source>,
}

/// The observers of one RPC, innermost first. Each is told exactly once: by
/// [`complete`](Self::complete), or when this is dropped.
///
/// Up to four observers live inline, so that completion accounting through four levels of
/// composites allocates nothing.
///
/// ```
/// use balancer_api::{Done, DoneInfo, OnDone};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// struct Sum(AtomicU64);
/// impl OnDone for Sum {
///     fn on_done(&self, token: u64, _: &DoneInfo<'_>) {
///         self.0.fetch_add(token, Ordering::Relaxed);
///     }
/// }
///
/// let sum = Arc::new(Sum(AtomicU64::new(0)));
/// let mut done = Done::none();
/// done.push(sum.clone(), 7);
/// drop(done); // the RPC's future was dropped
/// assert_eq!(sum.0.load(Ordering::Relaxed), 7);
/// ```
#[derive(Default)]
#[must_use = "dropping it tells the observers that the RPC was abandoned"]
pub struct Done(
    /// `None` is one word to write and one to look at, which is all that most RPCs need.
    Option<Observers>,
);

type Observers = SmallVec<[(Arc<dyn OnDone>, u64); 4]>;

/// Made once: dropping an RPC allocates nothing either.
static DROPPED: LazyLock<Status> =
    LazyLock::new(|| Status::new(Code::Cancelled, "the RPC was dropped"));

// === impl DoneInfo ===

impl<'a> DoneInfo<'a> {
    /// An RPC that ended with OK before anything was sent or received.
    pub const fn new() -> Self {
        Self {
            err: None,
            trailers: None,
            bytes_sent: false,
            bytes_received: false,
            server_load: None,
            source: None,
        }
    }

    /// The status, when the RPC did not end with OK.
    pub const fn err(&self) -> Option<&'a Status> {
        self.err
    }

    /// The trailers, when the server sent some.
    pub const fn trailers(&self) -> Option<&'a HeaderMap> {
        self.trailers
    }

    /// Whether any byte of the RPC may have reached the server.
    pub const fn bytes_sent(&self) -> bool {
        self.bytes_sent
    }

    /// Whether any byte of an answer came back.
    pub const fn bytes_received(&self) -> bool {
        self.bytes_received
    }

    /// The server's load report: the raw bytes of the ORCA protobuf message in the trailer
    /// `endpoint-load-metrics-bin`.
    pub const fn server_load(&self) -> Option<&'a Bytes> {
        self.server_load
    }

    /// The channel's clock, read when this is called.
    pub fn now(&self) -> Timestamp {
        self.source.map_or(Timestamp::ZERO, Source::now)
    }

    /// Sets [`err`](Self::err).
    #[must_use]
    pub const fn with_err(mut self, err: &'a Status) -> Self {
        self.err = Some(err);
        self
    }

    /// Sets [`trailers`](Self::trailers).
    #[must_use]
    pub const fn with_trailers(mut self, trailers: &'a HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }

    /// Sets [`bytes_sent`](Self::bytes_sent).
    #[must_use]
    pub const fn with_bytes_sent(mut self, sent: bool) -> Self {
        self.bytes_sent = sent;
        self
    }

    /// Sets [`bytes_received`](Self::bytes_received).
    #[must_use]
    pub const fn with_bytes_received(mut self, received: bool) -> Self {
        self.bytes_received = received;
        self
    }

    /// Sets [`server_load`](Self::server_load).
    #[must_use]
    pub const fn with_server_load(mut self, load: &'a Bytes) -> Self {
        self.server_load = Some(load);
        self
    }

    /// Sets where [`now`](Self::now) comes from.
    #[must_use]
    pub const fn with_source(mut self, source: &'a dyn Source) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Debug for DoneInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoneInfo")
            .field("err", &self.err)
            // Values of trailers may be secrets; their names are enough.
            .field(
                "trailers",
                &self.trailers.map(|map| map.keys().collect::<Vec<_>>()),
            )
            .field("bytes_sent", &self.bytes_sent)
            .field("bytes_received", &self.bytes_received)
            .field("server_load", &self.server_load.map(Bytes::len))
            .finish_non_exhaustive()
    }
}

// === impl Done ===

impl Done {
    /// Nobody wants to know.
    #[inline]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Adds an observer, to be told after those that are already there.
    pub fn push(&mut self, observer: Arc<dyn OnDone>, token: u64) {
        let observers = self.0.get_or_insert_with(SmallVec::new);
        observers.push((observer, token));
    }

    /// Whether nobody wants to know, so that a channel need not gather a [`DoneInfo`].
    #[inline]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Tells every observer how the RPC ended and answers how many of them panicked.
    pub fn complete(mut self, info: &DoneInfo<'_>) -> usize {
        self.tell(info)
    }

    /// Afterwards nobody wants to know any more, also where one of them panics.
    fn tell(&mut self, info: &DoneInfo<'_>) -> usize {
        let told = |(observer, token): (Arc<dyn OnDone>, u64)| {
            // The reference is dropped inside, too: the last one may run a policy's own Drop.
            catch_unwind(AssertUnwindSafe(move || observer.on_done(token, info))).is_err()
        };
        self.0
            .take()
            .into_iter()
            .flatten()
            .map(told)
            .filter(|panicked| *panicked)
            .count()
    }
}

impl Drop for Done {
    #[inline]
    fn drop(&mut self) {
        if !self.is_none() {
            self.tell(&DoneInfo::new().with_err(&DROPPED));
        }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observers = self.0.as_ref().map_or(0, SmallVec::len);
        write!(f, "Done({observers} observers)")
    }
}
