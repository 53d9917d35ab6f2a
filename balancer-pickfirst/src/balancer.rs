//! The balancer: one SubConn that holds the whole list.

use std::{mem, sync::Arc, time::Duration};

use balancer_api::{
    Address, Balancer, ClientConn, ConnectivityState as State, Endpoint, FailingPicker, LbConfig,
    NewSubConnOptions, PickError, Picker, QueuePicker, Reconnect, Rejected, ResolveError,
    ResolvedAddrs, StateCause, Status, SubConn, SubConnState,
};

use crate::{
    addresses,
    builder::PickFirstConfig,
    picker::{IdlePicker, ReadyPicker, Wish},
};

/// When the next address is tried beside one that has no result yet (gRFC A61).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

pub(crate) struct PickFirstBalancer {
    cc: Arc<dyn ClientConn>,
    /// What was last asked for, to recognise the same result again: an order that was shuffled
    /// once is not shuffled again without news.
    endpoints: Arc<[Endpoint]>,
    config: PickFirstConfig,

    /// What the SubConn was last given.
    addresses: Vec<Address>,
    /// Exists while there is an address to connect to.
    connection: Option<Connection>,

    /// `None` until there is something to report.
    reported: Option<State>,
    connection_error: Option<Status>,
    resolver_error: Option<ResolveError>,
    /// Whether there is something to publish.
    dirty: bool,
    /// Silent from then on, even if a callback came late.
    closed: bool,
}

struct Connection {
    sub_conn: SubConn,
    /// In READY; `None` also where the channel does not say.
    address: Option<Address>,
    /// In IDLE: to connect, when somebody wants it.
    wish: Option<Arc<Wish>>,
}

// === impl PickFirstBalancer ===

impl PickFirstBalancer {
    pub(crate) fn new(cc: Arc<dyn ClientConn>) -> Self {
        Self {
            cc,
            endpoints: Arc::new([]),
            config: PickFirstConfig::new(),
            addresses: Vec::new(),
            connection: None,
            reported: None,
            connection_error: None,
            resolver_error: None,
            dirty: false,
            closed: false,
        }
    }

    fn report(&mut self, state: State) {
        self.reported = Some(state);
        self.dirty = true;
    }

    fn handle_list(&mut self, resolved: &ResolvedAddrs) -> Result<(), Rejected> {
        let config = parsed(resolved.config.as_ref()).inspect_err(|rejected| {
            // With nothing to go on with, RPCs must hear of it; otherwise all stays as it was.
            if self.reported.is_none() {
                self.resolver_error = Some(ResolveError::new(rejected.reason()));
                self.report(State::TransientFailure);
            }
        })?;
        let same = self.connection.is_some()
            && self.config == config
            && are_identical(&self.endpoints, &resolved.endpoints);
        let forgets_error = self.resolver_error.take().is_some();
        self.dirty |= forgets_error && self.reported == Some(State::TransientFailure);
        if same {
            return Ok(());
        }
        self.config = config;
        self.endpoints = resolved.endpoints.clone();

        let addresses = match config.shuffle_address_list {
            true => {
                let mut endpoints = resolved.endpoints.to_vec();
                addresses::shuffle(&mut endpoints, &*self.cc);
                addresses::flatten(&endpoints)
            }
            false => addresses::flatten(&resolved.endpoints),
        };
        if addresses.is_empty() {
            return Err(self.give_up(resolved.note.as_deref()));
        }
        match &mut self.connection {
            None => self.start(addresses),
            Some(connection) => {
                if self.addresses != addresses {
                    connection.sub_conn.update_addresses(addresses.clone());
                    self.addresses = addresses;
                }
                // Kept where its address is still listed. Otherwise the SubConn is on its way to
                // another one: no RPC may be sent to this one from here on.
                let dropped = self.reported == Some(State::Ready) && !self.is_listed();
                if dropped {
                    self.report(State::Connecting);
                }
                Ok(())
            }
        }
    }

    /// Makes the SubConn and connects. Whatever was reported before: TRANSIENT_FAILURE for want of
    /// addresses is not the sticky one of gRFC A62.
    fn start(&mut self, addresses: Vec<Address>) -> Result<(), Rejected> {
        let options = NewSubConnOptions::new()
            .with_reconnect(Reconnect::WhenAsked)
            .with_attempt_delay(Some(ATTEMPT_DELAY));
        match self.cc.new_sub_conn(addresses.clone(), options) {
            Ok(sub_conn) => {
                sub_conn.connect();
                self.connection = Some(Connection {
                    sub_conn,
                    address: None,
                    wish: None,
                });
                self.addresses = addresses;
                self.connection_error = None;
                self.report(State::Connecting);
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                self.connection_error = Some(Status::unavailable(reason.as_str()));
                self.report(State::TransientFailure);
                // There is nothing else to use, so the resolver's back-off times the next try.
                Err(Rejected::new(reason))
            }
        }
    }

    /// There is no address to connect to.
    fn give_up(&mut self, note: Option<&str>) -> Rejected {
        if let Some(mut connection) = self.connection.take() {
            connection.withdraw();
            self.cc.remove_sub_conn(&connection.sub_conn);
        }
        self.addresses.clear();
        let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
        let reason = format!("resolver produced zero addresses{note}");
        // The error of a connection that is not wanted any more would mislead.
        self.connection_error = None;
        self.resolver_error = Some(ResolveError::new(reason.clone()));
        self.report(State::TransientFailure);
        Rejected::new(reason)
    }

    /// Whether the connected address is in the list; yes where it is not known.
    fn is_listed(&self) -> bool {
        let connected = self.connection.as_ref().and_then(|c| c.address.as_ref());
        connected.is_none_or(|address| self.addresses.contains(address))
    }

    fn picker(&self) -> (State, Arc<dyn Picker>) {
        match (self.reported, &self.connection) {
            (Some(State::Ready), Some(connection)) => {
                let picker = ReadyPicker(connection.sub_conn.clone());
                (State::Ready, Arc::new(picker))
            }
            (Some(State::Connecting), Some(_)) => (State::Connecting, Arc::new(QueuePicker)),
            (
                Some(State::Idle),
                Some(Connection {
                    wish: Some(wish), ..
                }),
            ) => (State::Idle, Arc::new(IdlePicker(wish.clone()))),
            _ => {
                let picker = FailingPicker::new(self.failure());
                (State::TransientFailure, Arc::new(picker))
            }
        }
    }

    /// The last connection error and the last resolver error, whichever there are.
    fn failure(&self) -> PickError {
        let connection = self.connection_error.as_ref().map(Status::message);
        let resolver = self.resolver_error.as_ref().map(ResolveError::message);
        match (connection, resolver) {
            (None, None) => PickError::TransientFailure(None),
            (Some(text), None) => PickError::transient_failure(text),
            (None, Some(text)) => PickError::transient_failure(format!("resolver: {text}")),
            (Some(connection), Some(resolver)) => {
                PickError::transient_failure(format!("{connection}; resolver: {resolver}"))
            }
        }
    }
}

impl Balancer for PickFirstBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        // Another one: removed before, and still on its way out.
        if connection.sub_conn != *sub_conn || self.closed {
            return;
        }
        // Told once more what is known: the wish that is out there stands.
        if new.state == State::Idle && self.reported == Some(State::Idle) {
            return;
        }
        connection.address = match new.state {
            State::Ready => new.address.cloned(),
            _ => None,
        };
        connection.withdraw();
        let sticky = self.reported == Some(State::TransientFailure);
        match new.state {
            State::Ready => {
                // On an address that a list dropped meanwhile: the SubConn leaves it by itself.
                if !self.is_listed() {
                    return;
                }
                self.connection_error = None;
                self.report(State::Ready);
            }
            // A whole pass over the list failed before, and nothing has been READY since.
            State::Connecting if sticky => {}
            State::Connecting => {
                if self.reported != Some(State::Connecting) {
                    self.report(State::Connecting);
                }
            }
            // The back-off is over.
            State::Idle if sticky => connection.sub_conn.connect(),
            // Lost; also right after it was made, before it was told READY.
            State::Idle => {
                connection.wish = Some(Arc::new(Wish::new(connection.sub_conn.clone())));
                self.report(State::Idle);
                self.cc.resolve_now();
            }
            State::TransientFailure => {
                if let Some(error) = new.error {
                    self.connection_error = Some(error.clone());
                }
                self.report(State::TransientFailure);
                if new.cause == StateCause::Connectivity {
                    self.cc.resolve_now();
                }
            }
            // Not asked for: the channel took it away. The next result makes another one.
            State::Shutdown => {
                self.connection = None;
                self.addresses.clear();
                self.report(State::TransientFailure);
            }
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        if self.closed {
            return Ok(());
        }
        match resolved {
            Ok(resolved) => self.handle_list(&resolved),
            Err(error) => {
                // Shown only while everything fails; otherwise the old list serves on.
                self.resolver_error = Some(error);
                if matches!(self.reported, None | Some(State::TransientFailure)) {
                    self.report(State::TransientFailure);
                }
                Ok(())
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        if let Some(connection) = &mut self.connection {
            connection.withdraw();
        }
    }

    fn exit_idle(&mut self) {
        if let Some(wish) = self.connection.as_ref().and_then(|c| c.wish.as_ref()) {
            wish.speak();
        }
    }

    fn settle(&mut self) {
        if mem::take(&mut self.dirty) && !self.closed {
            let (state, picker) = self.picker();
            self.cc.update_balancer_state(state, picker);
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Pickers that are out of date ask for nothing any more.
    fn withdraw(&mut self) {
        if let Some(wish) = self.wish.take() {
            wish.withdraw();
        }
    }
}

/// The configuration that came with a result; the defaults where none did.
fn parsed(config: Option<&LbConfig>) -> Result<PickFirstConfig, Rejected> {
    match config {
        None => Ok(PickFirstConfig::new()),
        Some(config) => config
            .downcast_ref()
            .copied()
            .ok_or_else(|| Rejected::new("the configuration is not one of pick_first")),
    }
}

fn are_identical(old: &[Endpoint], new: &[Endpoint]) -> bool {
    std::ptr::eq(old, new)
        || (old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.is_identical(b)))
}
