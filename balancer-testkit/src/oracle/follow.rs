//! Following the log: what the policy was told, and what it asked.

use std::sync::Arc;

use balancer_api::{
    CallEvent, CallId, ConnectivityState as State, Endpoint, ResolvedAddrs, StateCause, Timestamp,
};

use super::{Callback, Known, OpenCall, Oracle, Resolved, Unanswered, checks::Now};
use crate::{
    Event, Law, SubId, World,
    conn::Inner,
    log::{Ask, Entry, Told},
    scripted::Heard,
};

impl Oracle {
    /// Reads what is new in the log, and says how things are now.
    pub(super) fn follow(&mut self, world: &World) -> Now {
        let inner = world.shared.lock();
        let has_cast = !inner.cast.actors.is_empty();
        self.has_cast = has_cast;
        let from = self.read;
        self.read = inner.log.entries.len();
        for entry in &inner.log.entries[from..] {
            match entry {
                Entry::Event(event) => {
                    if matches!(event, Event::ExitIdle | Event::Pick(_)) {
                        self.wanted_connection = true;
                    }
                    self.callback = Callback::None;
                }
                Entry::Told(told) => {
                    if has_cast {
                        self.run.told.extend(for_children(told));
                    }
                    if let Told::Call(id, event) = told {
                        self.told_call(*id, event, world.now());
                    }
                    self.told(told, &inner);
                }
                Entry::Answered(answer) => {
                    self.run.rejected = Some(answer.is_err());
                    self.take_list();
                }
                Entry::Asked { ask, outside } => {
                    if let Ask::StartCall(id, Some(sub), method) = ask {
                        self.started_call(*id, *sub, method, world.now(), &inner);
                    }
                    self.asked(ask, *outside, &inner);
                }
                Entry::Picked(_) => self.wanted_connection = true,
                Entry::Kicked(_) => self.wanted_connection = true,
                Entry::Panicked(_) | Entry::Child(..) => {}
            }
        }
        self.look_at(&inner, world)
    }

    fn told(&mut self, told: &Told, inner: &Inner) {
        if !matches!(told, Told::Settle) {
            self.run.callbacks += 1;
        }
        self.callback = match told {
            Told::Resolved(_) => Callback::Resolved,
            Told::State { .. } => Callback::State,
            Told::Stranger(_) => Callback::Stranger,
            Told::ExitIdle => Callback::ExitIdle,
            Told::Settle => Callback::Settle,
            Told::Close => Callback::Close,
            Told::Build | Told::Timer(_) | Told::Call(..) => Callback::Other,
        };
        match told {
            Told::Resolved(resolved) => self.told_resolved(resolved),
            Told::State {
                sub,
                state,
                error,
                cause,
                ..
            } => {
                self.told_state(*sub, *state, *cause, inner);
                if let Some(error) = error {
                    let text: Arc<str> = error.message().into();
                    self.known(*sub).error = Some(text.clone());
                    self.newest_error = Some(text);
                }
            }
            Told::Stranger(_) => self.run.strangers += 1,
            Told::Close => self.closed = true,
            _ => {}
        }
    }

    fn told_resolved(&mut self, resolved: &Result<Arc<ResolvedAddrs>, balancer_api::ResolveError>) {
        self.answered = true;
        match resolved {
            Err(error) => {
                self.resolver_error = Some(error.message().into());
                self.run.resolved = Some(Resolved::Error(error.message().into()));
            }
            Ok(resolved) => {
                let same = self.list.as_ref().is_some_and(|list| {
                    list.len() == resolved.endpoints.len()
                        && list
                            .iter()
                            .zip(&*resolved.endpoints)
                            .all(|(a, b)| a.is_identical(b))
                });
                self.run.resolved = Some(Resolved::List {
                    endpoints: resolved.endpoints.clone(),
                    // A list that could not be served wholly is worth another try.
                    same: same && !self.incomplete,
                });
                self.refused = false;
                self.refusals = 0;
                self.was_incomplete = self.incomplete;
                self.incomplete = false;
            }
        }
    }

    /// The policy has answered: the list counts, unless it was rejected.
    fn take_list(&mut self) {
        let Some(Resolved::List { endpoints, .. }) = &self.run.resolved else {
            return;
        };
        self.list_before = self.list.clone();
        if endpoints.is_empty() {
            self.list = None;
            self.wanted.clear();
            self.failed_as_a_whole = false;
        } else if self.run.rejected == Some(false) {
            self.list = Some(endpoints.clone());
            self.wanted = wanted(endpoints);
        }
    }

    pub(super) fn known(&mut self, sub: SubId) -> &mut Known {
        if self.subs.len() <= sub.index() {
            self.subs.resize(sub.index() + 1, Known::default());
        }
        &mut self.subs[sub.index()]
    }

    fn told_state(&mut self, id: SubId, state: State, cause: StateCause, inner: &Inner) {
        let lookaside = inner.subs[id.index()].lookaside;
        let known = self.known(id);
        let before = known.told;
        let had_connection = before == Some(State::Ready) || known.unhealthy;
        known.told = Some(state);
        known.asked = false;
        known.lookaside = lookaside;
        known.unhealthy = state == State::TransientFailure && cause == StateCause::Health;
        match state {
            State::TransientFailure => known.failed = true,
            State::Ready => known.failed = false,
            State::Shutdown => known.gone = true,
            State::Idle | State::Connecting => {}
        }
        if before != Some(state) {
            known.lost = had_connection && state == State::Idle;
        }
        let lost = had_connection && matches!(state, State::Idle | State::Connecting);
        // A move that follows from the policy's own new list is no reason to resolve again.
        let own_doing = lost && std::mem::take(&mut known.readdressed);
        let due = cause == StateCause::Connectivity
            && (lost || (state == State::TransientFailure && before != Some(state)))
            && !own_doing
            && !known.removed
            && !lookaside;
        self.run.gone |= state == State::Shutdown;
        self.run.failed |= state == State::TransientFailure;
        if state == State::TransientFailure && cause == StateCause::Connectivity {
            self.run.refused_by.push(id);
        }
        if due && !self.closed {
            self.run.resolve_due = Some((id, state));
        }
        if before != Some(state) {
            // Another connection, another peer.
            self.unanswered.retain(|gone| gone.sub != id);
        }
        if state == State::Idle && before != Some(State::Idle) {
            self.ever_wanted |= self.wanted_connection;
            self.wanted_connection = false;
        }
        if state == State::Ready {
            self.failed_as_a_whole = false;
            let addresses = &inner.subs[id.index()].addresses;
            self.failed_addresses
                .retain(|failed| !addresses.contains(failed));
        }
        if state == State::TransientFailure && self.profile.sticks_to_one() {
            let addresses = inner.subs[id.index()].addresses.iter();
            let new = addresses.filter(|address| !self.failed_addresses.contains(address));
            let new: Vec<_> = new.cloned().collect();
            self.failed_addresses.extend(new);
        }
    }

    fn started_call(
        &mut self,
        id: CallId,
        sub: SubId,
        method: &Arc<str>,
        now: Timestamp,
        inner: &Inner,
    ) {
        let again = self.unanswered.iter().any(|gone| {
            gone.sub == sub && gone.method == *method && gone.at == now && gone.times > 1
        });
        if again {
            let name = &inner.subs[sub.index()].name;
            self.broke(Law::CallsBackOff, || {
                format!("calls of {method} on {name} end without an answer and are made again at once, over and over")
            });
        }
        self.calls.push(OpenCall {
            id,
            sub,
            method: method.clone(),
            answered: false,
        });
    }

    fn told_call(&mut self, id: CallId, event: &CallEvent, now: Timestamp) {
        let Some(at) = self.calls.iter().position(|call| call.id == id) else {
            return;
        };
        if !event.is_end() {
            self.calls[at].answered = true;
            return;
        }
        let call = self.calls.swap_remove(at);
        let same = |gone: &&mut Unanswered| gone.sub == call.sub && gone.method == call.method;
        let known = self.unanswered.iter_mut().find(same);
        let times = usize::from(!call.answered);
        match known {
            Some(gone) if gone.at == now && times > 0 => gone.times += 1,
            Some(gone) => (gone.at, gone.times) = (now, times),
            None => self.unanswered.push(Unanswered {
                sub: call.sub,
                method: call.method,
                at: now,
                times,
            }),
        }
    }

    fn asked(&mut self, ask: &Ask, outside: bool, inner: &Inner) {
        if self.closed {
            self.asked_after_close(ask, outside, inner);
            return;
        }
        match ask {
            Ask::Connect(id) => self.asked_to_connect(*id, outside, inner),
            Ask::NewSubConn(id, _) => {
                *self.known(*id) = Known::default();
                self.run.created += 1;
                self.run.first_created.get_or_insert(*id);
            }
            Ask::Lookaside(id, _) => {
                *self.known(*id) = Known {
                    lookaside: true,
                    ..Known::default()
                };
            }
            Ask::NewSubConnRefused(_, error) => {
                self.newest_error = Some(error.to_string().into());
                self.run.refused = true;
                self.refused = true;
                self.refusals += 1;
                self.incomplete = true;
            }
            Ask::Remove(id) => {
                self.run.removed += 1;
                let known = self.known(*id);
                let again = std::mem::replace(&mut known.removed, true);
                let ready = known.told == Some(State::Ready);
                if again {
                    let name = inner.subs[id.index()].name.clone();
                    self.broke(Law::RemovedOnce, || format!("{name} was removed twice"));
                } else if ready && self.is_about_the_list() {
                    let addresses = inner.subs[id.index()].addresses.clone();
                    let set = Endpoint::new(addresses.iter().cloned());
                    let in_old = |list: &Arc<[Endpoint]>| {
                        let mut sets = list.iter().map(Endpoint::addresses);
                        sets.any(|at| Endpoint::new(at.iter().cloned()) == set)
                    };
                    let was_endpoint = match self.callback {
                        Callback::Settle => self.list_before.as_ref().is_some_and(in_old),
                        // The list is still the old one here.
                        _ => self.wanted.iter().any(|(want, _)| *want == set),
                    };
                    self.run.removed_ready.push((*id, addresses, was_endpoint));
                }
            }
            Ask::RemoveStranger => self.broke(Law::RemovedOnce, || {
                "a SubConn of somebody else was removed".to_owned()
            }),
            Ask::UpdateAddresses(id, addresses) => {
                self.run.readdressed += 1;
                let connected = inner.subs[id.index()].connected.as_ref();
                let dropped = connected.is_some_and(|at| !addresses.contains(at));
                self.known(*id).readdressed |= dropped;
            }
            Ask::Publish(State::Shutdown, _) => {
                self.broke(Law::NoShutdownPublished, || {
                    "SHUTDOWN was published".to_owned()
                });
            }
            Ask::Publish(state, _) => {
                self.run.publishes += 1;
                self.published = Some(*state);
                if *state == State::TransientFailure {
                    let failed = self.subs.iter().any(|known| known.failed && !known.removed);
                    self.failed_as_a_whole |= failed || self.refused || self.run.failed;
                }
            }
            Ask::ResolveNow => self.run.resolve_asked = true,
            Ask::Wake if outside => self.wanted_connection = true,
            Ask::StartCall(..) => self.uses_calls = true,
            _ => {}
        }
    }

    /// Whether what the policy does now comes of a new list, or of `exit_idle`: in that callback, or
    /// in the settle after it.
    fn is_about_the_list(&self) -> bool {
        match self.callback {
            Callback::Resolved | Callback::ExitIdle => true,
            Callback::Settle => self.run.resolved.is_some(),
            _ => false,
        }
    }

    fn asked_to_connect(&mut self, id: SubId, outside: bool, inner: &Inner) {
        let (lazy, on_demand, exit_idle) = (
            self.profile.lazy,
            self.profile.on_demand && !self.subs.iter().any(|known| known.failed && !known.gone),
            // The application may ask for what was asked already.
            self.callback == Callback::ExitIdle,
        );
        if !outside {
            self.run.connects.push(id);
        }
        let before = self.published_before;
        let wanted = self.wanted_connection || outside || exit_idle;
        let ever_wanted = self.ever_wanted || wanted;
        let known = self.known(id);
        let idle = matches!(known.told, None | Some(State::Idle)) && !known.removed;
        if !idle {
            return;
        }
        let again = std::mem::replace(&mut known.asked, true);
        let calm = matches!(before, None | Some(State::Ready | State::Idle));
        let unneeded = lazy && known.lost && !wanted && calm && before.is_some();
        let too_early = on_demand && known.told.is_none() && !ever_wanted && calm;
        let name = &inner.subs[id.index()].name;
        if again && !exit_idle {
            self.broke(Law::NoDoubleConnect, || {
                format!("{name} was told to connect twice while IDLE")
            });
        }
        if too_early {
            self.broke(Law::NoConnectWithoutNeed, || {
                format!("{name} is new and told to connect though no RPC wants it")
            });
        }
        if unneeded {
            self.broke(Law::NoConnectWithoutNeed, || {
                format!("{name} was lost and told to connect though no RPC wants it")
            });
        }
    }

    fn asked_after_close(&mut self, ask: &Ask, outside: bool, inner: &Inner) {
        let what = match ask {
            // An old picker or an observer may still ask; the channel ignores it.
            Ask::Connect(_) | Ask::Wake | Ask::ResolveNow if outside => return,
            Ask::Connect(id) => format!("connect {}", inner.subs[id.index()].name),
            Ask::NewSubConn(..) | Ask::NewSubConnRefused(..) => "for a SubConn".to_owned(),
            Ask::Lookaside(..) => "for a look-aside SubConn".to_owned(),
            Ask::UpdateAddresses(..) => "for other addresses".to_owned(),
            Ask::Publish(state, _) => format!("publish {state}"),
            Ask::SetTimer(..) => "for a timer".to_owned(),
            Ask::StartCall(..) => "for a call".to_owned(),
            Ask::ResolveNow => "to resolve again".to_owned(),
            Ask::Wake => "to be woken".to_owned(),
            _ => return,
        };
        self.broke(Law::SilentAfterClose, || {
            format!("after the close it asked: {what}")
        });
    }
}

/// What of it a child may have to hear.
fn for_children(told: &Told) -> Option<Heard> {
    Some(match told {
        Told::Resolved(Err(_)) => Heard::Error,
        Told::State { sub, state, .. } => Heard::State(Some(*sub), *state),
        Told::Timer(id) => Heard::Timer(*id),
        Told::Call(id, _) => Heard::Call(*id),
        Told::ExitIdle => Heard::ExitIdle,
        _ => return None,
    })
}

/// The distinct endpoints as address sets, with how many SubConns each should have: more than one
/// where endpoints differ only in attributes of their own.
fn wanted(endpoints: &[Endpoint]) -> Vec<(Endpoint, usize)> {
    let mut sets: Vec<(Endpoint, usize)> = Vec::with_capacity(endpoints.len());
    // Long lists are compared by a map; short ones, the usual case, faster without.
    let mut seen = std::collections::HashSet::new();
    let long = endpoints.len() > 16;
    let mut index = std::collections::HashMap::new();
    for (nth, endpoint) in endpoints.iter().enumerate() {
        let new = if long {
            seen.insert(endpoint)
        } else {
            !endpoints[..nth].contains(endpoint)
        };
        if !new || endpoint.addresses().is_empty() {
            continue;
        }
        let set = if endpoint.attributes().is_empty() {
            endpoint.clone()
        } else {
            Endpoint::new(endpoint.addresses().iter().cloned())
        };
        let at = if long {
            index.get(&set).copied()
        } else {
            sets.iter().position(|(known, _)| *known == set)
        };
        match at {
            Some(at) => sets[at].1 += 1,
            None => {
                if long {
                    index.insert(set.clone(), sets.len());
                }
                sets.push((set, 1));
            }
        }
    }
    sets
}
