//! Pickers: immutable snapshots that choose a SubConn for each RPC.

use std::{fmt, sync::Arc, sync::LazyLock};

use http::HeaderMap;

use crate::{Attributes, Done, OnDone, PickError, SubConn, Timestamp, client_conn::Source};

/// Chooses a SubConn for one RPC.
///
/// A picker is a snapshot: when a policy's state changes it publishes a new picker and never edits
/// one that it has published (counters that only steer the choice excepted).
///
/// # Calls
/// The channel calls the current picker once per attempt. When the answer is to wait it parks the
/// RPC until a *newer* picker is published and then calls that one once: a policy that never
/// publishes again keeps such an RPC waiting until its deadline.
///
/// # Returns
/// - [`Pick`] of a SubConn known to be READY: the RPC goes there. If it is no longer READY, the
///   pick's observers are told at once and the RPC waits for the next picker.
/// - [`PickError::NoSubConnAvailable`] while a connection is being made.
/// - another [`PickError`] when nothing is on the way; it says what then happens to the RPC.
///
/// A SubConn that was removed counts as not READY. One of another channel is a bug: the RPC fails
/// INTERNAL, naming the policy.
///
/// # Threads
/// Called from many tasks at once, at any time: during callbacks, and after the policy was closed.
/// An old picker stays callable as long as somebody holds it.
///
/// # Blocking
/// Takes no lock that a callback takes, does no I/O, allocates nothing. Time and chance come from
/// [`PickOptions::now`] and [`PickOptions::random`].
///
/// # Panics
/// A panic fails that RPC with INTERNAL; after three of them the channel replaces the picker by a
/// failing one.
///
/// ```
/// use balancer_api::{Pick, PickError, PickOptions, Picker, SubConn};
///
/// struct AlwaysThis(SubConn);
///
/// impl Picker for AlwaysThis {
///     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
///         Ok(Pick::new(&self.0))
///     }
/// }
/// ```
pub trait Picker: Send + Sync {
    /// Chooses a SubConn for the RPC described by `options`.
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError>;
}

/// What a picker may know of the RPC.
///
/// Made by channels, and by tests with [`new`](Self::new) and the `with_` methods.
///
/// ```
/// use balancer_api::PickOptions;
/// let options = PickOptions::new("/helloworld.Greeter/SayHello").with_wait_for_ready(true);
/// assert_eq!(options.method(), "/helloworld.Greeter/SayHello");
/// assert_eq!(options.attempt(), 0, "the first attempt");
/// assert!(options.headers().is_empty());
/// ```
#[derive(Clone, Copy)]
pub struct PickOptions<'a> {
    method: &'a str,
    headers: Option<&'a HeaderMap>,
    deadline: Option<Timestamp>,
    attempt: u32,
    tried: &'a [SubConn],
    wait_for_ready: bool,
    attributes: Option<&'a Attributes>,
    source: Option<&'a dyn Source>,
}

/// A chosen SubConn, who wants to know how the RPC ends, and metadata to send along.
///
/// A wrapping picker calls its child and adds to what it got:
///
/// ```
/// use balancer_api::{OnDone, Pick, PickError, PickOptions, Picker};
/// use std::sync::Arc;
///
/// struct Counting { child: Arc<dyn Picker>, counter: Arc<dyn OnDone> }
///
/// impl Picker for Counting {
///     fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
///         let started = options.now().as_nanos();
///         Ok(self.child.pick(options)?.on_done(self.counter.clone(), started))
///     }
/// }
/// ```
///
/// A pick that is dropped without being used tells its observers so.
#[derive(Debug)]
#[must_use = "a pick that is dropped counts as an abandoned RPC"]
pub struct Pick<'p> {
    sub_conn: Chosen<'p>,
    /// `None` for most: one word to write and one to look at.
    extras: Option<Extras>,
}

/// Keeps every RPC waiting for the next picker.
///
/// ```
/// use balancer_api::{ERR_NO_SUB_CONN_AVAILABLE, PickOptions, Picker, QueuePicker};
/// assert_eq!(QueuePicker.pick(&PickOptions::new("/s/m")).unwrap_err(), ERR_NO_SUB_CONN_AVAILABLE);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct QueuePicker;

/// Answers every pick with the same error.
///
/// ```
/// use balancer_api::{FailingPicker, PickError, PickOptions, Picker};
/// let picker = FailingPicker::new(PickError::transient_failure("connection refused"));
/// assert!(picker.pick(&PickOptions::new("/s/m")).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct FailingPicker(PickError);

#[derive(Debug)]
enum Chosen<'p> {
    Borrowed(&'p SubConn),
    Owned(SubConn),
}

/// What few picks have.
#[derive(Debug, Default)]
struct Extras {
    done: Done,
    metadata: Option<Box<HeaderMap>>,
}

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
static NO_ATTRIBUTES: Attributes = Attributes::new();

// === impl PickOptions ===

impl<'a> PickOptions<'a> {
    /// A first attempt of an RPC of `method` (as in `/package.Service/Method`) that fails fast, has
    /// no headers and no deadline; [`now`](Self::now) and [`random`](Self::random) answer zero.
    pub const fn new(method: &'a str) -> Self {
        Self {
            method,
            headers: None,
            deadline: None,
            attempt: 0,
            tried: &[],
            wait_for_ready: false,
            attributes: None,
            source: None,
        }
    }

    /// The full method name, with its leading slash.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The request's headers as the application gave them.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers.unwrap_or_else(|| &NO_HEADERS)
    }

    /// When the RPC must have ended, on the clock of [`now`](Self::now).
    pub const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// 0 for the first attempt, 1 for the first retry, and so on.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The SubConns that earlier attempts of this RPC went to; empty on the first attempt. A policy
    /// that spreads load looks for another one, within reason.
    pub const fn tried(&self) -> &'a [SubConn] {
        self.tried
    }

    /// Whether the RPC waits through [`PickError::TransientFailure`].
    pub const fn wait_for_ready(&self) -> bool {
        self.wait_for_ready
    }

    /// Values that the application or a config selector attached to this RPC, such as a hash key.
    pub fn attributes(&self) -> &'a Attributes {
        self.attributes.unwrap_or(&NO_ATTRIBUTES)
    }

    /// The channel's clock, read when this is called.
    pub fn now(&self) -> Timestamp {
        self.source.map_or(Timestamp::ZERO, Source::now)
    }

    /// 64 random bits from the channel.
    pub fn random(&self) -> u64 {
        self.source.map_or(0, Source::random)
    }

    /// Sets [`headers`](Self::headers).
    #[must_use]
    pub const fn with_headers(mut self, headers: &'a HeaderMap) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Sets [`deadline`](Self::deadline).
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Option<Timestamp>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets [`attempt`](Self::attempt) and [`tried`](Self::tried).
    #[must_use]
    pub const fn with_attempt(mut self, attempt: u32, tried: &'a [SubConn]) -> Self {
        self.attempt = attempt;
        self.tried = tried;
        self
    }

    /// Sets [`wait_for_ready`](Self::wait_for_ready).
    #[must_use]
    pub const fn with_wait_for_ready(mut self, wait_for_ready: bool) -> Self {
        self.wait_for_ready = wait_for_ready;
        self
    }

    /// Sets [`attributes`](Self::attributes).
    #[must_use]
    pub const fn with_attributes(mut self, attributes: &'a Attributes) -> Self {
        self.attributes = Some(attributes);
        self
    }

    /// Sets where [`now`](Self::now) and [`random`](Self::random) come from.
    #[must_use]
    pub const fn with_source(mut self, source: &'a dyn Source) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Debug for PickOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickOptions")
            .field("method", &self.method)
            // Values of headers may be secrets; their names are enough.
            .field("headers", &self.headers().keys().collect::<Vec<_>>())
            .field("deadline", &self.deadline)
            .field("attempt", &self.attempt)
            .field("tried", &self.tried)
            .field("wait_for_ready", &self.wait_for_ready)
            .finish_non_exhaustive()
    }
}

// === impl Pick ===

impl<'p> Pick<'p> {
    /// Picks `sub_conn`, which lives in the picker.
    #[inline]
    pub const fn new(sub_conn: &'p SubConn) -> Self {
        Self {
            sub_conn: Chosen::Borrowed(sub_conn),
            extras: None,
        }
    }

    /// Picks a SubConn that the picker does not own.
    pub const fn owned(sub_conn: SubConn) -> Pick<'static> {
        Pick {
            sub_conn: Chosen::Owned(sub_conn),
            extras: None,
        }
    }

    /// Cuts the tie to the picker, at the price of one reference count.
    pub fn into_owned(self) -> Pick<'static> {
        let sub_conn = match self.sub_conn {
            Chosen::Borrowed(sub_conn) => sub_conn.clone(),
            Chosen::Owned(sub_conn) => sub_conn,
        };
        Pick {
            sub_conn: Chosen::Owned(sub_conn),
            extras: self.extras,
        }
    }

    /// Adds an observer of the RPC's end; those added before, by inner pickers, are told first.
    pub fn on_done(mut self, observer: Arc<dyn OnDone>, token: u64) -> Self {
        let extras = self.extras.get_or_insert_default();
        extras.done.push(observer, token);
        self
    }

    /// Adds metadata to send with the RPC, such as a look-aside balancer's token.
    ///
    /// ```
    /// # use balancer_api::{Address, Pick, SubConn, SubConnHandle};
    /// # struct Fake;
    /// # impl SubConnHandle for Fake {
    /// #     fn connect(&self) {}
    /// #     fn update_addresses(&self, _: Vec<Address>) {}
    /// # }
    /// # let sub_conn = SubConn::new(std::sync::Arc::new(Fake));
    /// use http::{HeaderName, HeaderValue};
    /// let pick = Pick::new(&sub_conn)
    ///     .with_metadata(HeaderName::from_static("lb-token"), HeaderValue::from_static("t1"));
    /// assert_eq!(pick.metadata().unwrap()["lb-token"], "t1");
    /// ```
    pub fn with_metadata(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        let extras = self.extras.get_or_insert_default();
        extras.metadata.get_or_insert_default().append(name, value);
        self
    }

    /// The chosen SubConn.
    #[inline]
    pub fn sub_conn(&self) -> &SubConn {
        match &self.sub_conn {
            Chosen::Borrowed(sub_conn) => sub_conn,
            Chosen::Owned(sub_conn) => sub_conn,
        }
    }

    /// Metadata to send with the RPC.
    pub fn metadata(&self) -> Option<&HeaderMap> {
        self.extras.as_ref()?.metadata.as_deref()
    }

    /// Takes the pick apart: who wants to know how the RPC ends, and the metadata to send. For
    /// channels; read [`sub_conn`](Self::sub_conn) first.
    #[inline]
    pub fn into_parts(self) -> (Done, Option<Box<HeaderMap>>) {
        match self.extras {
            None => (Done::none(), None),
            Some(Extras { done, metadata }) => (done, metadata),
        }
    }
}

// === impl QueuePicker, FailingPicker ===

impl Picker for QueuePicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Err(PickError::NoSubConnAvailable)
    }
}

impl FailingPicker {
    /// A picker that answers `error`.
    pub const fn new(error: PickError) -> Self {
        Self(error)
    }
}

impl Picker for FailingPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Err(self.0.clone())
    }
}

impl fmt::Debug for dyn Picker + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Picker")
    }
}
