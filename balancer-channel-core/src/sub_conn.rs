//! What stands behind a `SubConn` of this channel: its connection, one atomic load away.

use std::fmt;

use balancer_api::{Address, ConnectivityState, NewSubConnOptions, Status, SubConn, SubConnHandle};

use crate::{
    env::Lookaside,
    queue::{Item, Queue},
    sync::{Arc, AtomicBool, Mutex, Swap, SwapGuard, lock},
};

/// The channel's own side of a SubConn.
pub(crate) struct SubConnCell<C> {
    /// Unique within the channel.
    pub(crate) id: u64,
    /// Which instance of which policy made it.
    pub(crate) instance: u64,
    /// The connection while READY; what an RPC uses.
    connection: Swap<C>,
    queue: Arc<Queue<C>>,
    /// Whether its policy has removed it; the balancer's task alone asks.
    pub(crate) removed: AtomicBool,
    pub(crate) options: NewSubConnOptions,
    /// Boxed: few have it.
    pub(crate) lookaside: Option<Box<Lookaside>>,
    /// For logs and snapshots; written by the balancer's task.
    pub(crate) info: Mutex<SubConnInfo<C>>,
}

/// What there is to say about a SubConn.
pub(crate) struct SubConnInfo<C> {
    pub(crate) state: ConnectivityState,
    pub(crate) addresses: Vec<Address>,
    pub(crate) connected: Option<Address>,
    pub(crate) last_error: Option<Status>,
    /// Oldest first.
    pub(crate) connections: Vec<Arc<C>>,
    /// Of connections that are gone.
    pub(crate) calls: u64,
}

// === impl SubConnCell ===

impl<C: Send + Sync + 'static> SubConnCell<C> {
    pub(crate) fn new(
        id: u64,
        instance: u64,
        queue: Arc<Queue<C>>,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
        lookaside: Option<Lookaside>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            instance,
            connection: Swap::empty(),
            queue,
            removed: AtomicBool::new(false),
            options,
            lookaside: lookaside.map(Box::new),
            info: Mutex::new(SubConnInfo {
                state: ConnectivityState::Idle,
                addresses,
                connected: None,
                last_error: None,
                connections: Vec::new(),
                calls: 0,
            }),
        })
    }

    /// The cell behind a SubConn of a channel with this kind of connection.
    pub(crate) fn of(sub_conn: &SubConn) -> Option<&Self> {
        sub_conn.downcast_ref()
    }

    pub(crate) fn belongs_to(&self, queue: &Arc<Queue<C>>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    #[inline]
    pub(crate) fn connection(&self) -> SwapGuard<C> {
        self.connection.load()
    }

    pub(crate) fn adopt(&self, connection: Arc<C>) {
        self.replace(Some(connection));
    }

    pub(crate) fn replace(&self, connection: Option<Arc<C>>) {
        self.connection.swap(connection);
    }

    pub(crate) fn release(&self) -> Option<Arc<C>> {
        self.connection.swap(None)
    }
}

impl<C: Send + Sync + 'static> SubConnHandle for SubConnCell<C> {
    fn connect(&self) {
        self.queue.push(Item::ConnectSubConn(self.id));
    }

    fn update_addresses(&self, addresses: Vec<Address>) {
        self.queue.push(Item::UpdateAddresses(self.id, addresses));
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubConn#{}", self.id)?;
        match (&self.options.tag, lock(&self.info).addresses.first()) {
            (Some(tag), _) => write!(f, " ({tag})"),
            (None, Some(address)) => write!(f, " ({address})"),
            (None, None) => Ok(()),
        }
    }
}
