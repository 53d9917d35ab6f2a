//! A policy against its model.

use balancer_api::ConnectivityState as State;

use super::{Happened, Model};
use crate::{
    Event, Law, Refused, Violation, World,
    log::{Ask, Entry, Told},
    oracle::Verdict,
    world::Companion,
};

/// Lets the model hear what the policy hears, and compares when the policy is at rest.
pub(crate) struct AgainstModel {
    model: Box<dyn Model>,
    verdict: Verdict,
    lazy: bool,
    read: usize,
}

// === impl AgainstModel ===

impl AgainstModel {
    pub(crate) fn new(model: Box<dyn Model>, lazy: bool, verdict: Verdict) -> Self {
        Self {
            model,
            verdict,
            lazy,
            read: 0,
        }
    }

    fn follow(&mut self, world: &World) {
        let inner = world.shared.lock();
        let from = std::mem::replace(&mut self.read, inner.log.entries.len());
        for entry in inner.log.entries.get(from..).unwrap_or_default() {
            let told = match entry {
                Entry::Told(told) => told,
                Entry::Picked(_) => {
                    self.model.hear(&Happened::Picked);
                    continue;
                }
                Entry::Asked {
                    ask: Ask::NewSubConnRefused(addresses, error),
                    ..
                } => {
                    let why = error.to_string();
                    self.model.hear(&Happened::Refused(addresses, &why));
                    continue;
                }
                _ => continue,
            };
            match told {
                Told::Resolved(Ok(resolved)) => {
                    self.model.hear(&Happened::List(&resolved.endpoints));
                }
                Told::Resolved(Err(error)) => {
                    self.model.hear(&Happened::ResolverError(error.message()));
                }
                Told::State {
                    sub,
                    state,
                    error,
                    cause,
                    ..
                } => {
                    let sub = &inner.subs[sub.index()];
                    let name = crate::log::joined(&sub.addresses);
                    self.model.hear(&Happened::SubConn {
                        name: &name,
                        addresses: &sub.addresses,
                        state: *state,
                        error: error.as_ref().map(|error| error.message()),
                        cause: *cause,
                    });
                }
                Told::ExitIdle => self.model.hear(&Happened::ExitIdle),
                Told::Timer(_) => self.model.hear(&Happened::Timer),
                _ => {}
            }
        }
    }
}

impl Companion for AgainstModel {
    fn after(&mut self, _: &Event, _: &Result<(), Refused>, world: &mut World) {
        self.follow(world);
        if world.is_closed() || !world.is_at_rest() || self.verdict.is_broken() {
            return;
        }
        let expected = self.model.expect();
        let state = world.state();
        // Asking a lazy policy's idle picker is what makes it connect.
        let count = match state {
            Some(State::Idle) if self.lazy => 0,
            _ => expected.count(),
        };
        let picks: Vec<_> = (0..count).map(|_| world.ask()).collect();
        if let Some(message) = expected.differs(state, &picks) {
            self.verdict.set(Violation {
                law: Law::AgreesWithModel,
                message,
            });
        }
    }
}
