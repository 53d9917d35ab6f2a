//! What a server does with each connection.

use crate::{Backend, Conn, PeerError};
use std::{collections::BTreeMap, fmt, ops::RangeInclusive, pin::Pin, sync::Arc};

type Run =
    dyn Fn(Conn) -> Pin<Box<dyn Future<Output = Result<(), PeerError>> + Send>> + Send + Sync;

/// What a server does with one connection, from accept to close.
///
/// The connection is closed when the behaviour returns.
#[derive(Clone)]
pub struct Behaviour(Arc<Run>);

/// Which behaviour each connection gets, counting from 1 in the order of acceptance.
///
/// ```
/// use balancer_testpeer::{Backend, Script, faults};
///
/// let flaky = Script::new()
///     .on_connection(1, faults::close_at_once())
///     .on_connections(2..=4, faults::silence())
///     .otherwise(Backend::new("a"));
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    by_number: BTreeMap<usize, Behaviour>,
    otherwise: Behaviour,
}

// === impl Behaviour ===

impl Behaviour {
    /// Makes a behaviour of an async closure.
    ///
    /// ```
    /// use balancer_testpeer::Behaviour;
    ///
    /// let one_call = Behaviour::new(|mut conn| async move {
    ///     conn.handshake().await?;
    ///     let call = conn.next_call().await?;
    ///     conn.reply_ok(call.stream, b"only once").await?;
    ///     conn.close().await;
    ///     Ok(())
    /// });
    /// ```
    pub fn new<F>(run: impl Fn(Conn) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), PeerError>> + Send + 'static,
    {
        Self(Arc::new(move |conn| Box::pin(run(conn))))
    }

    /// Plays the behaviour on a connection the test holds.
    ///
    /// # Errors
    /// What the behaviour answers: mostly that the client is gone.
    pub async fn run(&self, conn: Conn) -> Result<(), PeerError> {
        (self.0)(conn).await
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Behaviour(..)")
    }
}

impl From<Backend> for Behaviour {
    fn from(backend: Backend) -> Self {
        Self::new(move |conn| backend.clone().serve(conn))
    }
}

// === impl Script ===

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// A good backend on every connection, until told otherwise.
    pub fn new() -> Self {
        Self {
            by_number: BTreeMap::new(),
            otherwise: Backend::new("peer").into(),
        }
    }

    /// Gives connection `number`, from 1, a behaviour.
    pub fn on_connection(self, number: usize, behaviour: impl Into<Behaviour>) -> Self {
        self.on_connections(number..=number, behaviour)
    }

    /// Gives connections in a range, from 1, a behaviour.
    pub fn on_connections(
        mut self,
        numbers: RangeInclusive<usize>,
        behaviour: impl Into<Behaviour>,
    ) -> Self {
        let behaviour = behaviour.into();
        self.by_number
            .extend(numbers.map(|number| (number, behaviour.clone())));
        self
    }

    /// Gives every other connection a behaviour.
    pub fn otherwise(mut self, behaviour: impl Into<Behaviour>) -> Self {
        self.otherwise = behaviour.into();
        self
    }

    pub(crate) fn behaviour(&self, number: usize) -> Behaviour {
        self.by_number
            .get(&number)
            .unwrap_or(&self.otherwise)
            .clone()
    }
}

impl<B: Into<Behaviour>> From<B> for Script {
    /// The same behaviour on every connection.
    fn from(behaviour: B) -> Self {
        Self::new().otherwise(behaviour)
    }
}
