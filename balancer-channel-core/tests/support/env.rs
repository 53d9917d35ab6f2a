//! The environment of a channel in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use balancer_api::{Builder, ChildConfig, LbConfig, Status, Timestamp};
use balancer_channel_core::{BoxFuture, ConnectRequest, Connected, Env, ParsedConfig};

use super::{
    Log, Sim,
    net::{Net, SimConnection},
};

/// Clock and tasks of a [`Sim`], connections of a [`Net`], policies by name.
pub(crate) struct SimEnv {
    pub(crate) sim: Arc<Sim>,
    pub(crate) net: Net,
    policies: Mutex<BTreeMap<String, Arc<dyn Builder>>>,
}

impl SimEnv {
    pub(crate) fn new(sim: Arc<Sim>, log: &Log) -> Arc<Self> {
        Arc::new(Self {
            sim,
            net: Net::new(log.clone()),
            policies: Mutex::default(),
        })
    }

    pub(crate) fn register(&self, builder: Arc<dyn Builder>) {
        let name = builder.name().to_owned();
        self.policies.lock().unwrap().insert(name, builder);
    }

    /// A service config is written `policy` or `policy/configuration`.
    pub(crate) fn config(&self, text: &str) -> Result<ParsedConfig<String>, String> {
        let (name, config) = match text.split_once('/') {
            Some((name, config)) => (name, Some(LbConfig::new(config, config.to_owned()))),
            None => (text, None),
        };
        let policies = self.policies.lock().unwrap();
        let builder = policies
            .get(name)
            .ok_or_else(|| format!("no policy {name:?}"))?;
        Ok(ParsedConfig {
            policy: ChildConfig::new(builder.clone(), config),
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

    /// `policy/health=name` asks for the health of `name`.
    fn health_service(&self, config: &String) -> Option<Arc<str>> {
        let (_, service) = config.split_once("health=")?;
        Some(service.into())
    }

    fn streams(&self) -> usize {
        self.net.wires().iter().map(|wire| wire.streams()).sum()
    }

    fn now(&self) -> Timestamp {
        self.sim.now()
    }

    fn random(&self) -> u64 {
        self.sim.random()
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.sim.spawn(task);
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()> {
        self.sim.sleep_until(at)
    }

    fn connect(
        &self,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<SimConnection>, Status>> {
        self.net.dial(request)
    }
}
