//! SubConns: handles to connections that a channel makes on a policy's word.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crate::{Address, ConnectivityState, Status};

/// A handle to one connection, or to the attempt to make one.
///
/// A SubConn has a list of addresses and connects to one of them. It starts IDLE and does nothing
/// until [`connect`](Self::connect) is called; what happens after a loss is chosen by
/// [`NewSubConnOptions::reconnect`]. Its state arrives through
/// [`Balancer::handle_sub_conn_state_change`](crate::Balancer::handle_sub_conn_state_change).
///
/// Equal and hashed by identity: two clones are equal, two SubConns of the same addresses are not.
///
/// # Threads
/// Every method may be called from any thread, also from a callback or a pick; it takes effect on
/// the channel's serial queue and never calls the balancer back before it returns.
#[derive(Clone)]
pub struct SubConn(Arc<dyn SubConnHandle>);

/// What stands behind a [`SubConn`]: implemented by the author of a ClientConn, never by a policy.
///
/// ```
/// use balancer_api::{Address, SubConn, SubConnHandle};
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct Fake;
/// impl SubConnHandle for Fake {
///     fn connect(&self) {}
///     fn update_addresses(&self, _: Vec<Address>) {}
/// }
///
/// let sc = SubConn::new(Arc::new(Fake));
/// assert!(sc.downcast_ref::<Fake>().is_some());
/// assert_eq!(sc, sc.clone());
/// ```
pub trait SubConnHandle: Any + Send + Sync {
    /// See [`SubConn::connect`].
    fn connect(&self);

    /// See [`SubConn::update_addresses`].
    fn update_addresses(&self, addresses: Vec<Address>);

    /// Writes what logs should call this SubConn. By default just `SubConn`.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubConn")
    }
}

/// What a SubConn does by itself after its connection is gone.
///
/// Neither mode goes from READY to TRANSIENT_FAILURE on a loss: that would fail RPCs whenever a
/// server drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// It reconnects: READY → CONNECTING after a loss or a GOAWAY, TRANSIENT_FAILURE → CONNECTING
    /// when the back-off is over. The default, as gRPC-Go's first `balancer` package had it.
    #[default]
    Immediately,
    /// It waits for [`SubConn::connect`]: READY → IDLE, TRANSIENT_FAILURE → IDLE. What gRPC does
    /// today, and all policies shipped with this workspace.
    WhenAsked,
}

/// Whether a SubConn reports the health of its backend as well as its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthReporting {
    /// READY means connected.
    #[default]
    Off,
    /// READY means connected and, where the service config asks for client-side health checking
    /// (gRFC A17) or a parent policy ejects backends (A50), also healthy. Such moves have the
    /// cause [`StateCause::Health`].
    On,
}

/// How a SubConn is made. Build it with [`new`](Self::new) and the `with_` methods.
///
/// ```
/// use balancer_api::{NewSubConnOptions, Reconnect};
/// use std::time::Duration;
/// let options = NewSubConnOptions::new()
///     .with_reconnect(Reconnect::WhenAsked)
///     .with_attempt_delay(Some(Duration::from_millis(250)));
/// assert_eq!(options.reconnect, Reconnect::WhenAsked);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewSubConnOptions {
    /// What happens after a loss.
    pub reconnect: Reconnect,
    /// `None`: the addresses are tried strictly one after the other. `Some(delay)`: when an attempt
    /// has no result after `delay` the next one starts beside it, and the first to connect wins
    /// (RFC 8305, gRFC A61). The channel clamps the delay to 100 ms..=2 s.
    pub attempt_delay: Option<Duration>,
    /// Whether health moves are wanted.
    pub health: HealthReporting,
    /// A word for logs and snapshots.
    pub tag: Option<Arc<str>>,
}

/// A SubConn's new state, as a balancer is told of it.
///
/// ```
/// use balancer_api::{ConnectivityState, Status, SubConnState};
/// let refused = Status::unavailable("127.0.0.1:1: connection refused");
/// let state = SubConnState::new(ConnectivityState::TransientFailure).with_error(&refused);
/// assert_eq!(state.error, Some(&refused));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SubConnState<'a> {
    /// Where the SubConn is now.
    pub state: ConnectivityState,
    /// Why, in TRANSIENT_FAILURE; and why the connection was lost, where that is known.
    pub error: Option<&'a Status>,
    /// Which address is connected, in READY.
    pub address: Option<&'a Address>,
    /// Whether the connection or the backend's health moved.
    pub cause: StateCause,
}

/// What made a SubConn move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateCause {
    /// The connection: dialled, established, lost, refused.
    #[default]
    Connectivity,
    /// The health of the backend behind a connection that stays up: READY ⇄ TRANSIENT_FAILURE.
    /// There is no back-off, nothing to connect and no reason to resolve again. Only for SubConns
    /// made with [`HealthReporting::On`].
    Health,
}

// === impl SubConn ===

impl SubConn {
    /// A handle to `inner`; for authors of a ClientConn.
    pub fn new(inner: Arc<dyn SubConnHandle>) -> Self {
        Self(inner)
    }

    /// Starts to connect when the SubConn is IDLE; otherwise, and after its removal, does nothing.
    /// Returns at once.
    pub fn connect(&self) {
        self.0.connect();
    }

    /// Replaces the address list.
    ///
    /// READY on an address that is still listed: the connection is kept, no state changes, and the
    /// new list counts from the next attempt on. READY on one that is not: the connection closes
    /// gracefully (its streams finish) and a new attempt starts. CONNECTING: attempts to addresses
    /// still listed go on. TRANSIENT_FAILURE: an address that was not in the old list ends the
    /// back-off. IDLE: the list is stored. An empty list makes the SubConn IDLE. An equal list does
    /// nothing.
    pub fn update_addresses(&self, addresses: Vec<Address>) {
        self.0.update_addresses(addresses);
    }

    /// The handle behind, if it is a `T`. A channel finds its own connection with this, without a
    /// map; `None` tells it that the SubConn is somebody else's.
    pub fn downcast_ref<T: SubConnHandle>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }
}

impl PartialEq for SubConn {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.identity(), other.identity())
    }
}

impl Eq for SubConn {}

impl Hash for SubConn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.identity() as usize);
    }
}

impl fmt::Debug for SubConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

// === impl NewSubConnOptions ===

impl NewSubConnOptions {
    /// The defaults: reconnects immediately, one address after the other, no health.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`reconnect`](Self::reconnect).
    #[must_use]
    pub fn with_reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Sets [`attempt_delay`](Self::attempt_delay).
    #[must_use]
    pub fn with_attempt_delay(mut self, delay: Option<Duration>) -> Self {
        self.attempt_delay = delay;
        self
    }

    /// Sets [`health`](Self::health).
    #[must_use]
    pub fn with_health(mut self, health: HealthReporting) -> Self {
        self.health = health;
        self
    }

    /// Sets [`tag`](Self::tag).
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tag = Some(tag.into());
        self
    }
}

// === impl SubConnState ===

impl<'a> SubConnState<'a> {
    /// A move to `state` by the connection, with no more known.
    pub fn new(state: ConnectivityState) -> Self {
        Self {
            state,
            error: None,
            address: None,
            cause: StateCause::Connectivity,
        }
    }

    /// Sets [`error`](Self::error).
    #[must_use]
    pub fn with_error(mut self, error: &'a Status) -> Self {
        self.error = Some(error);
        self
    }

    /// Sets [`address`](Self::address).
    #[must_use]
    pub fn with_address(mut self, address: &'a Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets [`cause`](Self::cause).
    #[must_use]
    pub fn with_cause(mut self, cause: StateCause) -> Self {
        self.cause = cause;
        self
    }
}
