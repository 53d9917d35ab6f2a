//! The oracle: looks on after every settle and says which law was broken.
//!
//! It follows the log, so that what it knows of the policy is what the policy was told and asked,
//! and it interrogates the picker that is published, as RPCs would.

mod checks;
mod children;
mod follow;
mod picks;
mod probe;

use std::sync::{Arc, Mutex, PoisonError};

use balancer_api::{Address, CallId, ConnectivityState as State, Endpoint, Picker, Timestamp};

use crate::{Law, LawSet, Profile, SubId, Violation, World, scripted::Heard, world::Watcher};

use children::Kid;
pub(crate) use probe::{Probe, probe};

/// Where a violation is put, for whoever drives the world.
#[derive(Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Violation>>>);

pub(crate) struct Oracle {
    profile: Arc<Profile>,
    laws: LawSet,
    verdict: Verdict,
    broken: bool,
    /// What happens has been judged before, as a script of its own.
    keeps_up_only: bool,

    /// How much of the log was read.
    read: usize,
    subs: Vec<Known>,
    /// The last list that was accepted, if it was not empty.
    list: Option<Arc<[Endpoint]>>,
    /// The list before that one.
    list_before: Option<Arc<[Endpoint]>>,
    /// What the list asks for: address sets, each with the number of SubConns it should have.
    wanted: Vec<(Endpoint, usize)>,
    answered: bool,
    /// A SubConn was refused since the last list.
    refused: bool,
    /// How many were.
    refusals: usize,
    /// A SubConn was refused for the list in force, so that the same list is worth another try.
    incomplete: bool,
    /// One was for the list before.
    was_incomplete: bool,
    /// The policy makes calls on its SubConns, so it may hold READY ones back.
    uses_calls: bool,
    /// A pick waits, or somebody asked to connect, since the last IDLE.
    wanted_connection: bool,
    /// One did once.
    ever_wanted: bool,
    closed: bool,
    callback: Callback,
    run: Run,
    published: Option<State>,
    published_before: Option<State>,
    /// The newest connection error, or refusal, that the policy was told.
    newest_error: Option<Arc<str>>,
    resolver_error: Option<Arc<str>>,
    /// A policy that sticks to one has reported failure since something was READY.
    failed_as_a_whole: bool,
    /// What failed and was not READY since; kept for policies that stick to one.
    failed_addresses: Vec<Address>,
    /// Pickers that were published, with what was READY then.
    old: Vec<(Arc<dyn Picker>, Vec<SubId>)>,
    /// Calls that are open.
    calls: Vec<OpenCall>,
    /// Calls that ended without an answer.
    unanswered: Vec<Unanswered>,
    /// There are scripted children.
    has_cast: bool,
    /// Scripted children, at the last settle.
    kids: Vec<Kid>,
    /// Kept to save allocations.
    backends: Vec<Backend>,
    picked: Vec<SubId>,
}

/// What the policy knows of one SubConn.
#[derive(Clone, Default)]
struct Known {
    /// Why it last failed.
    error: Option<Arc<str>>,
    told: Option<State>,
    /// Sticky failure: since the last TRANSIENT_FAILURE it was not READY.
    failed: bool,
    /// IDLE comes after READY: a lost connection.
    lost: bool,
    asked: bool,
    removed: bool,
    gone: bool,
    readdressed: bool,
    unhealthy: bool,
    lookaside: bool,
}

struct OpenCall {
    id: CallId,
    sub: SubId,
    method: Arc<str>,
    answered: bool,
}

/// How often calls of a method on a SubConn ended without an answer, at one and the same time.
struct Unanswered {
    sub: SubId,
    method: Arc<str>,
    at: Timestamp,
    times: usize,
}

/// One SubConn that lives, at the time of a settle.
#[derive(Clone, Copy)]
struct Backend {
    id: SubId,
    told: Option<State>,
    failed: bool,
    /// On the way: asked, or moved by a new address list.
    asked: bool,
    /// Connected to an address that is not in its list any more.
    leaving: bool,
    has_addresses: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Callback {
    None,
    Resolved,
    State,
    Stranger,
    ExitIdle,
    Settle,
    Other,
    Close,
}

/// What happened since the last settle.
#[derive(Default)]
struct Run {
    callbacks: usize,
    publishes: usize,
    resolved: Option<Resolved>,
    /// Rejected, where there was an answer.
    rejected: Option<bool>,
    strangers: usize,
    connects: Vec<SubId>,
    created: usize,
    /// The first SubConn that was made; those after it are as new.
    first_created: Option<SubId>,
    removed: usize,
    /// READY ones that were removed by a list, with whether each was for one endpoint of the old.
    removed_ready: Vec<(SubId, Arc<[Address]>, bool)>,
    readdressed: usize,
    resolve_asked: bool,
    /// Somebody was lost or failed.
    resolve_due: Option<(SubId, State)>,
    refused: bool,
    gone: bool,
    /// Somebody was told TRANSIENT_FAILURE.
    failed: bool,
    /// Who, by the connection.
    refused_by: Vec<SubId>,
    /// What scripted children may have to hear.
    told: Vec<Heard>,
}

enum Resolved {
    Error(Arc<str>),
    List {
        endpoints: Arc<[Endpoint]>,
        same: bool,
    },
}

// === impl Verdict ===

impl Verdict {
    pub(crate) fn take(&self) -> Option<Violation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    pub(crate) fn set(&self, violation: Violation) {
        let mut verdict = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.get_or_insert(violation);
    }
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn new(profile: Arc<Profile>, laws: LawSet) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let oracle = Self {
            profile,
            laws,
            verdict: verdict.clone(),
            broken: false,
            keeps_up_only: false,
            read: 0,
            subs: Vec::new(),
            list: None,
            list_before: None,
            wanted: Vec::new(),
            answered: false,
            refused: false,
            refusals: 0,
            incomplete: false,
            was_incomplete: false,
            uses_calls: false,
            wanted_connection: false,
            ever_wanted: false,
            closed: false,
            callback: Callback::None,
            run: Run::default(),
            published: None,
            published_before: None,
            newest_error: None,
            resolver_error: None,
            failed_as_a_whole: false,
            failed_addresses: Vec::new(),
            old: Vec::new(),
            calls: Vec::new(),
            unanswered: Vec::new(),
            has_cast: false,
            kids: Vec::new(),
            backends: Vec::new(),
            picked: Vec::new(),
        };
        (oracle, verdict)
    }

    /// Notes that a law is broken, unless it is off or another was broken before.
    fn broke(&mut self, law: Law, message: impl FnOnce() -> String) {
        if !self.broken && self.laws.has(law) {
            self.broken = true;
            self.verdict.set(Violation {
                law,
                message: message(),
            });
        }
    }
}

impl Watcher for Oracle {
    fn let_go(&mut self) {
        self.old.clear();
    }

    fn keep_up_only(&mut self, only: bool) {
        self.keeps_up_only = only;
    }

    fn settled(&mut self, world: &mut World) {
        if self.broken {
            return;
        }
        let now = self.follow(world);
        if let Some(message) = world.panic_message() {
            let message = message.to_owned();
            self.broke(Law::NoPanic, || format!("panicked: {message}"));
            return;
        }
        if world.is_restless() {
            self.broke(Law::ComesToRest, || {
                "one event had a thousand follow-ups".to_owned()
            });
            return;
        }
        if self.keeps_up_only {
            let subs = self.subs.iter().zip(0..);
            let ready =
                subs.filter(|(known, _)| known.told == Some(State::Ready) && !known.removed);
            let ready: Vec<SubId> = ready.map(|(_, id)| SubId(id)).collect();
            self.keep_picker(&now, ready.into_iter());
        } else {
            self.check(world, now);
        }
        self.check_children(world);
        let run = &mut self.run;
        run.callbacks = 0;
        run.publishes = 0;
        run.resolved = None;
        run.rejected = None;
        run.strangers = 0;
        run.connects.clear();
        run.created = 0;
        run.first_created = None;
        run.removed = 0;
        run.removed_ready.clear();
        run.readdressed = 0;
        run.resolve_asked = false;
        run.resolve_due = None;
        run.refused = false;
        run.gone = false;
        run.failed = false;
        run.refused_by.clear();
        self.published_before = self.published;
    }
}
