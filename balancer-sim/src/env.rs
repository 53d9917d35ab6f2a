//! The channel's environment in a world.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll};

use balancer_api::{Builder, ChildConfig, Status, Timestamp};
use balancer_channel_core::{BoxFuture, ConnectRequest, Connected, Env, ParsedConfig};

use crate::{
    net::{Net, SimConnection},
    sabotage::Sabotage,
    sim::{Owner, Sim},
};

/// Clock and tasks of a [`Sim`], connections of a [`Net`].
pub(crate) struct SimEnv {
    pub(crate) sim: Arc<Sim>,
    pub(crate) net: Arc<Net>,
    pub(crate) policies: BTreeMap<String, Arc<dyn Builder>>,
    pub(crate) max_connections: usize,
}

impl SimEnv {
    /// A service config is the name of a policy; what follows a `+` is for calls alone. With
    /// `+health` the backends are asked for theirs, with `+other` a SubConn has one connection.
    pub(crate) fn config(&self, text: &str) -> Result<ParsedConfig<String>, String> {
        let name = text.split('+').next().unwrap_or_default();
        let builder = self.policies.get(name);
        let builder = builder.ok_or_else(|| format!("no policy {name:?}"))?;
        Ok(ParsedConfig {
            policy: ChildConfig::new(builder.clone(), None),
            rpc: Arc::new(text.to_owned()),
            json: text.into(),
        })
    }
}

impl Env for SimEnv {
    type Connection = SimConnection;
    type RpcConfig = String;

    fn parse_config(&self, json: &str) -> Result<ParsedConfig<String>, String> {
        self.config(json)
    }

    fn health_service(&self, config: &String) -> Option<Arc<str>> {
        config.contains("+health").then(|| "service".into())
    }

    fn max_connections(&self, config: &String) -> usize {
        match config.contains("+other") {
            true => 1,
            false => self.max_connections,
        }
    }

    fn streams(&self) -> usize {
        self.net.streams()
    }

    fn now(&self) -> Timestamp {
        let now = self.sim.now();
        match self.sim.is_sabotaged(Sabotage::FastClock, 1) {
            true => Timestamp::from_nanos(now.as_nanos() * 2),
            false => now,
        }
    }

    fn random(&self) -> u64 {
        self.sim.random()
    }

    fn spawn(&self, task: BoxFuture<()>) {
        if self.sim.is_sabotaged(Sabotage::LeakedTask, 5) {
            let task = async move {
                task.await;
                std::future::pending().await
            };
            return self.sim.spawn(Owner::Channel, Box::pin(task));
        }
        if self.sim.is_sabotaged(Sabotage::Spin, 5) {
            let spin = poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            self.sim.spawn(Owner::Channel, Box::pin(spin));
        }
        self.sim.spawn(Owner::Channel, task);
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()> {
        match self.sim.is_sabotaged(Sabotage::FastClock, 1) {
            true => self
                .sim
                .sleep_until(Timestamp::from_nanos(at.as_nanos().div_ceil(2))),
            false => self.sim.sleep_until(at),
        }
    }

    fn connect(
        &self,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<SimConnection>, Status>> {
        self.net.dial(None, &request)
    }

    fn connect_beside(
        &self,
        first: &SimConnection,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<SimConnection>, Status>> {
        self.net.dial(Some(first), &request)
    }
}
