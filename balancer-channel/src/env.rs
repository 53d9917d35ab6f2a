//! The core's environment on tokio: clock, tasks, chance, connections.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balancer_api::{Status, Timestamp};
use balancer_channel_core::{
    BoxFuture, Chatter, ConnectRequest, Connected, Connection as _, Env, Lookaside, ParsedConfig,
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

use crate::{
    credentials::CallCredentials,
    ledger::Ledger,
    rpc_config::{ConfigParser, RpcConfig},
    transport::{Connector, H2Connection, Line, Security, WeakConnection},
};

/// One channel's environment. Tasks run on the runtime that the channel was built on, and are
/// counted, so that closing can wait for the last one.
pub(crate) struct TokioEnv {
    start: Instant,
    runtime: Handle,
    ledger: Ledger,
    connector: Arc<Connector>,
    configs: ConfigParser,
    rules: CallRules,
    /// Guards nothing else; nothing is called under it.
    connections: Arc<Mutex<Connections>>,
    /// RPCs that have neither a stream nor a picker to wait for, and are under way all the same.
    elsewhere: Arc<AtomicUsize>,
    /// For what is told of RPCs. A leaf; nothing is called under it.
    chatter: Mutex<Chatter>,
}

/// Every connection that was made, those too that a SubConn has given up and that live on for the RPCs
/// on them, and some that are gone.
#[derive(Default)]
struct Connections {
    all: Vec<WeakConnection>,
    /// How many there were when those that are gone were taken out last.
    kept: usize,
}

/// While it is there, the channel does not fall asleep.
pub(crate) struct Awake(Arc<AtomicUsize>);

/// What the application has laid down for all RPCs of a channel.
#[derive(Clone)]
pub(crate) struct CallRules {
    /// How much of its body an RPC remembers.
    pub(crate) replay_limit: usize,
    pub(crate) max_request_message: Option<u32>,
    pub(crate) max_response_message: u32,
    pub(crate) credentials: Option<Arc<dyn CallCredentials>>,
    /// Whether service configs may ask for more than one attempt.
    pub(crate) retries: bool,
}

// === impl TokioEnv ===

impl TokioEnv {
    pub(crate) fn new(
        runtime: Handle,
        ledger: Ledger,
        connector: Connector,
        configs: ConfigParser,
        rules: CallRules,
    ) -> Self {
        let start = Instant::now();
        Self {
            start,
            runtime,
            ledger,
            connector: Arc::new(connector),
            configs,
            rules,
            connections: Arc::default(),
            elsewhere: Arc::default(),
            chatter: Mutex::default(),
        }
    }

    /// Keeps the channel awake for an RPC whose stream is yet to come.
    pub(crate) fn stay_awake(&self) -> Awake {
        // Relaxed: the balancer's task looks now and then, and sleeps after many looks in vain.
        self.elsewhere.fetch_add(1, Ordering::Relaxed);
        Awake(self.elsewhere.clone())
    }

    /// Ends every connection at once, and the RPCs on it with `status`.
    pub(crate) fn abort_connections(&self, status: &Status) {
        let connections = std::mem::take(&mut *lock(&self.connections));
        for connection in connections.alive() {
            connection.abort(status.clone());
        }
    }

    /// Ends when every task of the channel has ended.
    pub(crate) async fn tasks_ended(&self) {
        self.ledger.tasks.close();
        self.ledger.tasks.wait().await;
    }

    /// How many tasks run.
    pub(crate) fn task_count(&self) -> usize {
        self.ledger.tasks.len()
    }

    /// A point of tokio's clock on the channel's.
    pub(crate) fn timestamp(&self, at: Instant) -> Timestamp {
        Timestamp::ZERO + at.saturating_duration_since(self.start)
    }

    /// A sleep on the channel's own runtime, wherever it is polled.
    pub(crate) fn sleep(&self, until: Instant) -> Sleep {
        let _entered = self.runtime.enter();
        tokio::time::sleep_until(until)
    }

    /// Whether something may be told of an RPC now, and how much was not told before it. Asked only
    /// where somebody listens.
    pub(crate) fn may_speak(&self) -> Option<u64> {
        lock(&self.chatter).may_speak(self.now())
    }

    /// The `:authority` of RPCs, by which a log tells channels apart.
    pub(crate) fn authority(&self) -> &http::uri::Authority {
        &self.connector.authority
    }

    /// Makes a connection for the RPCs that wait in `line`.
    fn dial(
        &self,
        line: Arc<Line<WeakConnection>>,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<H2Connection>, Status>> {
        let mut connector = self.connector.clone();
        let connections = self.connections.clone();
        if request.keepalive_doublings > 0
            && let Some(keepalive) = &mut Arc::make_mut(&mut connector).options.keepalive
        {
            let factor = 2_u32.saturating_pow(request.keepalive_doublings);
            keepalive.time = keepalive.time.saturating_mul(factor);
        }
        Box::pin(async move {
            if let Some(Lookaside {
                target,
                credentials,
                dialer,
            }) = request.lookaside
            {
                let connector = Arc::make_mut(&mut connector);
                connector.authority = target
                    .parse()
                    .map_err(|_| Status::unavailable(format!("{target:?} is not host:port")))?;
                connector.security = match credentials {
                    None => connector.security.for_others(),
                    Some(credentials) => Security::Custom(credentials),
                };
                if dialer.is_some() {
                    connector.dialer = dialer;
                }
            }
            // A name from the resolver is not for it to choose: whoever can change addresses could
            // then present any certificate. The authority is what has to be proved.
            let address = request.address.addr();
            let connected = connector.connect_in(line, address, None).await?;
            lock(&connections).add(connected.connection.downgrade());
            Ok(connected)
        })
    }

    /// What the application has laid down for all RPCs.
    #[inline]
    pub(crate) fn rules(&self) -> &CallRules {
        &self.rules
    }
}

impl Env for TokioEnv {
    type Connection = H2Connection;
    type RpcConfig = RpcConfig;

    fn parse_config(&self, json: &str) -> Result<ParsedConfig<RpcConfig>, String> {
        let parsed = self.configs.parse(json);
        parsed.map_err(|error| error.to_string())
    }

    fn health_service(&self, config: &RpcConfig) -> Option<Arc<str>> {
        config.health_service()
    }

    fn max_connections(&self, config: &RpcConfig) -> usize {
        config.max_connections()
    }

    fn streams(&self) -> usize {
        let connections = lock(&self.connections);
        let streams: usize = connections
            .alive()
            .map(|connection| connection.streams() + connection.waiting())
            .sum();
        streams + self.elsewhere.load(Ordering::Relaxed)
    }

    fn connections(&self) -> Vec<H2Connection> {
        lock(&self.connections).alive().collect()
    }

    fn now(&self) -> Timestamp {
        self.timestamp(Instant::now())
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.ledger.tasks.spawn_on(task, &self.runtime);
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()> {
        let until = self.start.checked_add(at - Timestamp::ZERO);
        // Beyond what the clock can say is never, as far as anybody can tell.
        let far = || self.start + Duration::from_secs(60 * 60 * 24 * 365);
        let sleep = self.sleep(until.unwrap_or_else(far));
        let counted = self.ledger.timers.one();
        Box::pin(async move {
            sleep.await;
            drop(counted);
        })
    }

    fn connect(
        &self,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<H2Connection>, Status>> {
        self.dial(Arc::default(), request)
    }

    fn connect_beside(
        &self,
        first: &H2Connection,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<H2Connection>, Status>> {
        self.dial(first.setup().line.clone(), request)
    }
}

// === impl Connections ===

impl Connections {
    fn add(&mut self, connection: WeakConnection) {
        // Looking at all of them each time would take a time that grows with its square.
        if self.all.len() >= 16 + 2 * self.kept {
            self.all.retain(WeakConnection::is_alive);
            self.kept = self.all.len();
        }
        self.all.push(connection);
    }

    fn alive(&self) -> impl Iterator<Item = H2Connection> {
        self.all.iter().filter_map(WeakConnection::upgrade)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under the lock is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for TokioEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioEnv")
            .field("authority", &self.connector.authority)
            .field("tasks", &self.ledger.tasks.len())
            .finish_non_exhaustive()
    }
}
