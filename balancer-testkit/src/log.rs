//! The log: everything that happened between the channel and the policy, in its order.

use std::{borrow::Cow, cell::RefCell, fmt, mem, sync::Arc, time::Duration};

use balancer_api::{
    Address, CallEvent, CallId, ConnectivityState as State, NewSubConnError, Picker, Rejected,
    ResolveError, ResolvedAddrs, StateCause, Status, TimerId,
};

use bytes::Bytes;

use crate::{Event, Outcome, SubId, Variant};

/// What happened, totally ordered and complete. Displays as a conversation.
pub struct Log {
    pub(crate) entries: Vec<Entry>,
    /// Names by [`SubId`], as they were when the SubConn was made.
    pub(crate) names: Vec<Arc<str>>,
}

/// One line of the [`Log`].
#[derive(Clone)]
#[non_exhaustive]
pub enum Entry {
    /// The script did something.
    Event(Event),
    /// A callback of the policy began.
    Told(Told),
    /// The policy's answer to a resolver result.
    Answered(Result<(), Rejected>),
    /// The policy called its ClientConn or a SubConn.
    Asked {
        /// What it asked.
        ask: Ask,
        /// Whether it was outside of a callback: in a pick, at the end of an RPC, on another thread.
        outside: bool,
    },
    /// A [`ScriptedChild`](crate::ScriptedChild) heard or did something: its label, and what.
    Child(Arc<str>, Arc<str>),
    /// An RPC picked a SubConn that is IDLE, and the channel connects it by itself.
    Kicked(SubId),
    /// A picker was asked on behalf of the script.
    Picked(Outcome),
    /// The policy or its picker panicked with this message.
    Panicked(Arc<str>),
}

/// What a policy was told.
#[derive(Clone)]
#[non_exhaustive]
pub enum Told {
    /// `build` was called.
    Build,
    /// A resolver result.
    Resolved(Result<Arc<ResolvedAddrs>, ResolveError>),
    /// A SubConn's new state.
    State {
        /// Whose.
        sub: SubId,
        /// Which.
        state: State,
        /// Why, where that is known.
        error: Option<Status>,
        /// The address that is connected.
        address: Option<Address>,
        /// Connection or health.
        cause: StateCause,
    },
    /// A state of a SubConn that the policy never made.
    Stranger(State),
    /// A timer is due.
    Timer(TimerId),
    /// Something happened on a call.
    Call(CallId, CallEvent),
    /// `exit_idle`.
    ExitIdle,
    /// `settle`.
    Settle,
    /// `close`.
    Close,
}

/// What a policy asked.
#[derive(Clone)]
#[non_exhaustive]
pub enum Ask {
    /// A SubConn for these addresses, which it got.
    NewSubConn(SubId, Arc<[Address]>),
    /// A SubConn for these addresses, which it did not get.
    NewSubConnRefused(Arc<[Address]>, NewSubConnError),
    /// To connect.
    Connect(SubId),
    /// Another address list for a SubConn.
    UpdateAddresses(SubId, Arc<[Address]>),
    /// The end of a SubConn.
    Remove(SubId),
    /// The end of a SubConn of somebody else.
    RemoveStranger,
    /// To publish this state with this picker.
    Publish(State, Arc<dyn Picker>),
    /// The resolver to look again.
    ResolveNow,
    /// A timer.
    SetTimer(TimerId, Duration),
    /// No timer any more.
    CancelTimer(TimerId),
    /// A `settle`.
    Wake,
    /// A call of this method.
    StartCall(CallId, Option<SubId>, Arc<str>),
    /// A message to be sent on a call.
    SendMessage(CallId, Bytes),
    /// The end of what it sends on a call.
    CloseSend(CallId),
    /// The end of a call.
    CancelCall(CallId),
    /// A SubConn to something that is no backend.
    Lookaside(SubId, Arc<str>),
    /// A random number, this one.
    Random(u64),
}

thread_local! {
    /// The room of a log that is gone, for the next one: explorations make millions of them.
    static ROOM: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Longer ones are not kept.
const KEPT_ROOM: usize = 4_096;

// === impl Log ===

impl Default for Log {
    fn default() -> Self {
        let entries = ROOM.try_with(|room| mem::take(&mut *room.borrow_mut()));
        Self {
            entries: entries.unwrap_or_default(),
            names: Vec::new(),
        }
    }
}

impl Log {
    /// Nobody reads it any more.
    pub(crate) fn recycle(mut self) {
        self.entries.clear();
        if self.entries.capacity() <= KEPT_ROOM {
            // A thread that ends has no use for it.
            let _ = ROOM.try_with(|room| *room.borrow_mut() = self.entries);
        }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the script did.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The name that a SubConn had when it was made.
    pub fn name(&self, sub: SubId) -> &str {
        self.names.get(sub.index()).map_or("?", |name| name)
    }

    /// A number that differs when two logs differ in anything that a reader of them could see.
    pub fn digest(&self) -> u64 {
        // FNV-1a over the text: the same in every process.
        struct Fnv(u64);
        impl fmt::Write for Fnv {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                for byte in s.bytes() {
                    self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                Ok(())
            }
        }
        let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
        // Writing to a hasher cannot fail.
        let _ = fmt::write(&mut fnv, format_args!("{self}"));
        fnv.0
    }

    /// How many times something was asked that costs, timers apart, since the entry `from`.
    pub(crate) fn costs(&self, from: usize) -> usize {
        let new = self.entries.get(from..).unwrap_or_default().iter();
        let costs = new.filter(|entry| {
            let ask = match entry {
                Entry::Asked { ask, .. } => ask,
                _ => return false,
            };
            matches!(
                ask,
                Ask::Publish(..)
                    | Ask::NewSubConn(..)
                    | Ask::Remove(_)
                    | Ask::Connect(_)
                    | Ask::StartCall(..)
                    | Ask::ResolveNow
            )
        });
        costs.count()
    }

    fn line(&self, entry: &Entry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match entry {
            Entry::Event(event) => write!(f, "{event}"),
            Entry::Told(told) => {
                f.write_str("    -> ")?;
                self.told(told, f)
            }
            Entry::Answered(Ok(())) => f.write_str("    <- accepted"),
            Entry::Answered(Err(rejected)) => write!(f, "    <- rejected: {}", rejected.reason()),
            Entry::Asked { ask, outside } => {
                f.write_str(if *outside { "    <~ " } else { "    <- " })?;
                self.asked(ask, f)
            }
            Entry::Child(label, what) => write!(f, "        {label} {what}"),
            Entry::Kicked(sub) => write!(f, "    == {} is IDLE: connect", self.name(*sub)),
            Entry::Picked(outcome) => write!(f, "    == {outcome}"),
            Entry::Panicked(message) => write!(f, "    !! panicked: {message}"),
        }
    }

    fn told(&self, told: &Told, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match told {
            Told::Build => f.write_str("build"),
            Told::Resolved(Ok(resolved)) => {
                f.write_str("resolved [")?;
                for (i, endpoint) in resolved.endpoints.iter().enumerate() {
                    write!(f, "{}{endpoint}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Told::Resolved(Err(error)) => write!(f, "resolver error: {error}"),
            Told::State {
                sub,
                state,
                error,
                address,
                cause,
            } => {
                write!(f, "{} is {state}", self.name(*sub))?;
                if let Some(address) = address {
                    write!(f, " at {address}")?;
                }
                if *cause == StateCause::Health {
                    f.write_str(" by health")?;
                }
                match error {
                    Some(error) => write!(f, " ({error})"),
                    None => Ok(()),
                }
            }
            Told::Stranger(state) => write!(f, "a SubConn that is not the policy's is {state}"),
            Told::Timer(id) => write!(f, "timer {}", id.as_raw()),
            Told::Call(id, event) => write!(f, "call {}: {event:?}", id.as_raw()),
            Told::ExitIdle => f.write_str("exit_idle"),
            Told::Settle => f.write_str("settle"),
            Told::Close => f.write_str("close"),
        }
    }

    fn asked(&self, ask: &Ask, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ask {
            Ask::NewSubConn(sub, _) => write!(f, "new SubConn {}", self.name(*sub)),
            Ask::NewSubConnRefused(addresses, error) => {
                write!(f, "new SubConn {}: {error}", joined(addresses))
            }
            Ask::Connect(sub) => write!(f, "connect {}", self.name(*sub)),
            Ask::UpdateAddresses(sub, addresses) => {
                write!(f, "addresses of {}: {}", self.name(*sub), joined(addresses))
            }
            Ask::Remove(sub) => write!(f, "remove {}", self.name(*sub)),
            Ask::RemoveStranger => f.write_str("remove a SubConn that is not the policy's"),
            Ask::Publish(state, _) => write!(f, "publish {state}"),
            Ask::ResolveNow => f.write_str("resolve now"),
            Ask::SetTimer(id, after) => write!(f, "timer {} in {after:?}", id.as_raw()),
            Ask::CancelTimer(id) => write!(f, "no timer {}", id.as_raw()),
            Ask::Wake => f.write_str("wake"),
            Ask::StartCall(id, Some(sub), method) => {
                write!(f, "call {} of {method} on {}", id.as_raw(), self.name(*sub))
            }
            Ask::StartCall(id, None, method) => {
                write!(f, "call {} of {method} on a stranger", id.as_raw())
            }
            Ask::SendMessage(id, message) => {
                write!(f, "call {}: send {} bytes", id.as_raw(), message.len())
            }
            Ask::CloseSend(id) => write!(f, "call {}: half-close", id.as_raw()),
            Ask::CancelCall(id) => write!(f, "call {}: cancel", id.as_raw()),
            Ask::Lookaside(sub, target) => {
                write!(f, "look-aside {} to {target}", self.name(*sub))
            }
            Ask::Random(value) => write!(f, "random: {value}"),
        }
    }
}

/// Addresses as the name of a SubConn.
pub(crate) fn joined(addresses: &[Address]) -> Cow<'_, str> {
    if let [address] = addresses {
        return address_name(address);
    }
    let mut name = String::new();
    for address in addresses {
        if !name.is_empty() {
            name.push('+');
        }
        name.push_str(&address_name(address));
    }
    name.into()
}

/// An address as scripts write it: two peers at one address go by different names.
pub(crate) fn address_name(address: &Address) -> Cow<'_, str> {
    match address.attributes().get::<Variant>() {
        Some(Variant(n)) => format!("{}#{n}", address.addr()).into(),
        None => address.addr().into(),
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            // A settle in which nothing happens is noise; one that answers shows by its answers.
            self.line(entry, f)?;
            f.write_str("\n")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = Log::default();
        log.line(self, f)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Log::default().told(self, f)
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Log::default().asked(self, f)
    }
}
