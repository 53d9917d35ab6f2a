//! How a test moves the channel and its world.

use std::{mem, sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, Status};
use balancer_testkit::{
    ChannelUnderTest,
    witness::{Ending, Peer, Resolved, RpcOptions},
};

use super::{Item, Reference, lock};

impl ChannelUnderTest for Reference {
    fn resolve(&mut self, answer: Result<Resolved, String>) {
        self.push(Item::Resolved(answer));
    }

    fn set_peer(&mut self, address: &str, peer: Peer) {
        self.peers.insert(address.to_owned(), peer);
    }

    fn end_connections(&mut self, address: &str, how: Ending) {
        self.end(address, how);
    }

    fn open_connections(&mut self) -> usize {
        self.conns.values().filter(|conn| conn.open).count()
    }

    fn start_rpc(&mut self, options: RpcOptions) -> usize {
        self.begin_rpc(options)
    }

    fn outcome(&mut self, rpc: usize) -> Option<Result<(), Status>> {
        self.rpcs[rpc].outcome.clone()
    }

    fn cancel_rpc(&mut self, rpc: usize) {
        self.cancel(rpc);
    }

    fn state_reader(&mut self) -> Arc<dyn Fn() -> State + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move || *lock(&shared.state))
    }

    fn run(&mut self) {
        Reference::run(self);
    }

    fn advance(&mut self, by: Duration) {
        self.pass(by);
    }

    fn close(&mut self) {
        Reference::run(self);
        if mem::replace(&mut self.closed, true) {
            return;
        }
        *lock(&self.shared.state) = State::Shutdown;
        self.cancel_all();
        self.close_policies();
        Reference::run(self);
    }
}
