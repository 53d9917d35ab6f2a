//! What a connection's driver, its streams and its handles know of it together.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    task::{Poll, Waker},
};

use balancer_api::Status;
use balancer_channel_core::Lost;

use super::{
    admission::Admission,
    connection::WeakConnection,
    deadlines::Deadlines,
    line::Line,
    rouse::Rouse,
    sniff::{GoAway, NotHttp2, ReadEvent, WriteEvent},
};

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) admission: Admission<WeakConnection>,
    /// Wakes the driver for what `h2` would not wake it for.
    pub(super) driver: Rouse,
    /// Of responses that were handed out; the driver keeps them.
    pub(super) deadlines: Deadlines,
    /// Who the peer is, for messages.
    peer: Arc<str>,
    /// The highest stream whose header block the socket took.
    taken: AtomicU32,
    /// The connection is drained when `taken` passes this.
    last_stream_id: u32,
    /// How many reads brought bytes; for keepalive.
    reads: AtomicU64,
    /// The peer's SETTINGS came, and `h2` acknowledged them.
    ready: AtomicBool,
    /// No handle opens a stream any more. Sequentially consistent, as the count of streams is: a permit
    /// lowers the count and then looks here, the driver is woken from here and then looks at the count.
    closing: AtomicBool,
    /// The peer has answered an RPC of the application's.
    answered: AtomicBool,
    /// Guards which streams are calls of the channel's or its policy's own. Held while one of them is
    /// opened: its answer must not be there before its number. Otherwise a leaf.
    own_calls: Mutex<OwnCalls>,
    /// Everything ends at once.
    aborted: AtomicBool,
    /// Guards how the connection ends. A leaf; nothing is called under it.
    end: Mutex<End>,
}

#[derive(Debug)]
struct End {
    first_settings: bool,
    /// Why no new stream may be opened.
    lost: Option<Status>,
    /// The same as news, until it is heard.
    news: Option<Lost>,
    /// Woken by them.
    listener: Option<Waker>,
    /// Why the open streams end, where they do.
    broken: Option<Status>,
    /// Whether the socket is closed.
    closed: bool,
    /// Woken then.
    waiting: Vec<Waker>,
}

/// Numbers of streams, as runs of odd ones: calls that follow each other take no room.
#[derive(Debug, Default)]
struct OwnCalls(Vec<(u32, u32)>);

// === impl Shared ===

impl Shared {
    /// RPCs wait for the connection's streams in `line`.
    pub(super) fn new(
        peer: Arc<str>,
        last_stream_id: u32,
        line: Arc<Line<WeakConnection>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(line),
            driver: Rouse::new(),
            deadlines: Deadlines::new(),
            peer,
            taken: AtomicU32::new(0),
            last_stream_id,
            reads: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            own_calls: Mutex::default(),
            aborted: AtomicBool::new(false),
            end: Mutex::new(End {
                first_settings: true,
                lost: None,
                news: None,
                listener: None,
                broken: None,
                closed: false,
                waiting: Vec::new(),
            }),
        })
    }

    /// UNAVAILABLE, with the peer's name before `message`.
    pub(super) fn unavailable(&self, message: impl fmt::Display) -> Status {
        Status::unavailable(format!("{}: {message}", self.peer))
    }

    /// Whether the peer has answered an RPC of the application's: what it says to the channel's own
    /// calls does not show that it serves.
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Acquire)
    }

    /// Opens a stream for a call of the channel's own. `open` answers the stream's number.
    pub(super) fn open_own_call<T, E>(
        &self,
        open: impl FnOnce() -> Result<T, E>,
        number: impl FnOnce(&T) -> u32,
    ) -> Result<T, E> {
        let mut own_calls = self.own_calls();
        let opened = open()?;
        if !self.answered() {
            own_calls.add(number(&opened));
        }
        Ok(opened)
    }

    /// Whether the peer's SETTINGS are in force.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Acquire)
    }

    /// Whether the socket took the whole header block of `stream`. Streams are opened in order.
    pub(super) fn was_taken(&self, stream: u32) -> bool {
        stream <= self.taken.load(Acquire)
    }

    /// How many streams have left. Those of a client are 1, 3, 5 …
    pub(super) fn calls(&self) -> u64 {
        u64::from(self.taken.load(Acquire)).div_ceil(2)
    }

    /// Grows whenever bytes are read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    pub(super) fn count_read(&self) {
        // One writer: the driver.
        self.reads.store(self.reads.load(Relaxed) + 1, Relaxed);
    }

    /// Why open streams end.
    pub(super) fn broken(&self) -> Status {
        let known = self.end().broken.clone();
        known.unwrap_or_else(|| self.lost())
    }

    /// Why no stream can be opened: the first reason that there was.
    pub(super) fn lost(&self) -> Status {
        let known = self.end().lost.clone();
        known.unwrap_or_else(|| self.unavailable("connection lost"))
    }

    /// Nobody opens streams any more: the driver sees to it that the connection ends.
    pub(super) fn set_closing(&self) {
        self.closing.store(true, SeqCst);
        self.driver.wake();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// The socket is closed.
    pub(super) fn set_ended(&self) {
        let mut end = self.end();
        end.closed = true;
        let waiting = std::mem::take(&mut end.waiting);
        drop(end);
        waiting.into_iter().for_each(Waker::wake);
        if !std::thread::panicking() {
            // Observers are told, which are a policy's code.
            self.deadlines.end();
        }
    }

    /// Ends when the socket is closed.
    pub(super) fn ended(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let shared = self.clone();
        poll_fn(move |cx| {
            let mut end = shared.end();
            if end.closed {
                return Poll::Ready(());
            }
            if !end.waiting.iter().any(|it| it.will_wake(cx.waker())) {
                end.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Ends when no stream can be opened any more. For one listener: the news is told once.
    pub(super) fn news(self: &Arc<Self>) -> impl Future<Output = Lost> + use<> {
        let shared = self.clone();
        poll_fn(move |cx| {
            let mut end = shared.end();
            if let Some(lost) = end.news.take() {
                return Poll::Ready(lost);
            }
            let before = end.listener.replace(cx.waker().clone());
            // Dropping a waker may drop a task.
            drop(end);
            drop(before);
            Poll::Pending
        })
    }

    /// Whether no stream can be opened any more.
    pub(super) fn is_lost(&self) -> bool {
        self.end().lost.is_some()
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Acquire)
    }

    // --- what happens to the connection ---

    /// What the peer has done; an error when it must not.
    pub(super) fn read_event(&self, event: ReadEvent) -> Result<(), String> {
        match event {
            // A client must treat that as a protocol error (RFC 9113, 6.5.2); `h2` lets it pass.
            ReadEvent::Settings {
                server_push: true, ..
            } => {
                return Err("PROTOCOL_ERROR: the server enables server push".to_owned());
            }
            ReadEvent::Settings {
                max_concurrent_streams,
                ..
            } => {
                let first = std::mem::take(&mut self.end().first_settings);
                let limit = max_concurrent_streams
                    .map(|max| usize::try_from(max).unwrap_or(usize::MAX))
                    // Without a value there is no limit, until a later frame sets one.
                    .or(first.then_some(usize::MAX));
                if let Some(limit) = limit {
                    self.admission.set_limit(limit);
                }
            }
            // Before any GOAWAY behind it is heard, so that a loss never overtakes the answer.
            ReadEvent::Answer(stream) => {
                if self.was_taken(stream) && !self.own_calls().contains(stream) {
                    self.answered.store(true, Release);
                }
            }
            ReadEvent::GoAway(frame) => self.go_away(&frame),
            ReadEvent::NotHttp2(first) => return Err(first.to_string()),
        }
        Ok(())
    }

    pub(super) fn write_event(&self, event: WriteEvent) {
        match event {
            WriteEvent::Headers(id) => {
                // One writer, and streams are opened in order; trailers come later than their head.
                if id > self.taken.load(Relaxed) {
                    self.taken.store(id, Release);
                }
                if id > self.last_stream_id {
                    self.no_new_streams(self.unavailable("stream identifiers used up"), false);
                }
            }
            WriteEvent::SettingsAck => self.ready.store(true, Release),
        }
    }

    pub(super) fn io_failed(&self, error: &io::Error) {
        self.break_off(self.unavailable(Lowercase(error)));
    }

    pub(super) fn read_ended(&self, partial: Option<NotHttp2>) {
        self.break_off(match partial {
            Some(not_http2) => self.unavailable(not_http2),
            None if self.is_ready() => self.unavailable("connection closed by the peer"),
            None => self.unavailable("connection closed by the peer before its SETTINGS"),
        });
    }

    /// Open streams end with `status`, unless an earlier reason is known.
    pub(super) fn break_off(&self, status: Status) {
        self.end().broken.get_or_insert_with(|| status.clone());
        self.no_new_streams(status, false);
    }

    /// As [`break_off`](Self::break_off), at once, and by us.
    pub(super) fn abort(&self, status: Status) {
        self.end().broken = Some(status.clone());
        self.no_new_streams(status, false);
        self.aborted.store(true, Release);
        self.driver.wake();
    }

    /// Opens no more streams; the first reason is the one that is told.
    pub(super) fn no_new_streams(&self, status: Status, too_many_pings: bool) {
        let mut end = self.end();
        let first = end.lost.is_none();
        if first {
            end.lost = Some(status.clone());
        }
        drop(end);
        self.admission.close();
        if first {
            let mut lost = Lost::new(status);
            lost.too_many_pings = too_many_pings;
            let mut end = self.end();
            end.news = Some(lost);
            let listener = end.listener.take();
            drop(end);
            if let Some(listener) = listener {
                listener.wake();
            }
        }
    }

    fn go_away(&self, frame: &GoAway) {
        let reason = h2::Reason::from(frame.code);
        let calm = reason == h2::Reason::ENHANCE_YOUR_CALM && frame.debug == b"too_many_pings";
        let status = if frame.debug.is_empty() {
            self.unavailable(format_args!("server sent GOAWAY {}", ReasonName(reason)))
        } else {
            self.unavailable(format_args!(
                "server sent GOAWAY {} \"{}\"",
                ReasonName(reason),
                frame.debug.escape_ascii()
            ))
        };
        self.no_new_streams(status, calm);
    }

    fn own_calls(&self) -> MutexGuard<'_, OwnCalls> {
        // Every change under the lock is whole before anything can panic.
        self.own_calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> MutexGuard<'_, End> {
        // Every change under the lock is whole before anything can panic.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<Rouse> for Shared {
    fn as_ref(&self) -> &Rouse {
        &self.driver
    }
}

// === impl OwnCalls ===

impl OwnCalls {
    /// Streams are opened in order.
    fn add(&mut self, stream: u32) {
        match self.0.last_mut() {
            Some((_, last)) if stream - *last == 2 => *last = stream,
            _ => self.0.push((stream, stream)),
        }
    }

    fn contains(&self, stream: u32) -> bool {
        let mut runs = self.0.iter();
        runs.any(|(first, last)| (*first..=*last).contains(&stream))
    }
}

/// An error code by its name in RFC 9113.
pub(super) struct ReasonName(pub(super) h2::Reason);

impl fmt::Display for ReasonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            h2::Reason::NO_ERROR => "NO_ERROR",
            h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
            h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            h2::Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
            h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            h2::Reason::REFUSED_STREAM => "REFUSED_STREAM",
            h2::Reason::CANCEL => "CANCEL",
            h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            h2::Reason::CONNECT_ERROR => "CONNECT_ERROR",
            h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
            h2::Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
            other => return write!(f, "0x{:x}", u32::from(other)),
        };
        f.write_str(name)
    }
}

/// An error's text without the capital letter that the system gives it.
pub(super) struct Lowercase<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Lowercase<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut chars = text.chars();
        match (chars.next(), chars.clone().next()) {
            // Not an acronym.
            (Some(first), Some(second)) if second.is_lowercase() => {
                write!(f, "{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => f.write_str(&text),
        }
    }
}
