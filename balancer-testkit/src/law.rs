//! The laws: what every policy must keep, with the reason and the source of each.

use std::fmt;

macro_rules! laws {
    ($($(#[doc = $doc:literal])+ $name:ident ($word:literal, $family:ident, $reason:literal, $source:literal),)+) => {
        /// One law that every policy must keep.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Law {
            $(
                $(#[doc = $doc])+
                ///
                #[doc = $reason]
                ///
                #[doc = concat!("Source: ", $source, ".")]
                $name,
            )+
        }

        impl Law {
            /// Every law.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The law's name in messages, settings and tables.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The family, and so the test, that it belongs to.
            pub const fn family(self) -> Family {
                match self { $(Self::$name => Family::$family,)+ }
            }

            /// What it says.
            pub const fn rule(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// Why it is a law.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)+ }
            }

            /// Where it is written.
            pub const fn source(self) -> &'static str {
                match self { $(Self::$name => $source,)+ }
            }
        }
    };
}

/// Laws that are judged together, by one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Family {
    /// What picks come to.
    Picks,
    /// What is published.
    States,
    /// Which SubConns there are, and who connects them.
    Connections,
    /// Resolver results and errors.
    Resolver,
    /// Pickers as snapshots.
    Pickers,
    /// The ends of RPCs.
    Done,
    /// Close, and what is left.
    Close,
    /// The same script, the same log.
    Determinism,
    /// What a policy may cost.
    Cost,
    /// It never stops trying.
    Liveness,
    /// Who gets how much.
    Fairness,
    /// Picks from many threads.
    Threads,
    /// Composites and their children.
    Composite,
    /// Against a model, and against another policy.
    Differential,
}

laws! {
    /// A policy, its pickers and its observers do not panic.
    NoPanic("no_panic", States,
        "A panic costs every RPC of the channel until the policy is rebuilt.",
        "Balancer, Picker and OnDone, # Panics"),
    /// A picker picks SubConns of its own channel only.
    PickIsOurs("pick_is_ours", Picks,
        "The RPC fails INTERNAL otherwise.",
        "Picker, # Returns"),
    /// A picker published after a SubConn was removed does not pick it.
    PickIsLive("pick_is_live", Picks,
        "The channel refuses such picks, so RPCs would wait for yet another picker.",
        "Balancer::handle_resolved_addrs"),
    /// A picker picks what was last told READY (with `page_lazy`, also what is IDLE).
    PickIsReady("pick_is_ready", Picks,
        "RPCs sent to a dead backend are the reason to have a policy at all.",
        "Picker, # Returns"),
    /// Where something is READY, RPCs are not kept waiting.
    ReadyIsPicked("ready_is_picked", Picks,
        "A picker that was not renewed keeps RPCs from a backend that could serve them.",
        "Picker, # Returns; rule 6 of round_robin"),
    /// RPCs are kept waiting only while something is on the way.
    QueueNeedsProgress("queue_needs_progress", Picks,
        "They would wait until their deadline.",
        "PickError::NoSubConnAvailable"),
    /// RPCs fail at once when every backend has failed.
    DeadFailsFast("dead_fails_fast", Picks,
        "Callers that fail fast want to hear of an outage, not to hang in it (gRFC A62).",
        "rule 8 of round_robin; gRFC A62"),
    /// RPCs do not fail while something is READY, or on its way for the first time.
    FailOnlyWhenDead("fail_only_when_dead", Picks,
        "They would fail at start-up, and whenever one backend of many is down.",
        "PickError::TransientFailure; rule 1 of round_robin"),
    /// A failing picker says the last real error.
    FailureShowsError("failure_shows_error", Picks,
        "It is what a user needs to read.",
        "rule 8 of round_robin; pick_first, steady state"),
    /// A policy drops RPCs only where its profile says that it may.
    DropsOnlyByPlan("drops_only_by_plan", Picks,
        "A dropped RPC is never retried, not even one that waits for ready.",
        "PickError::Drop"),

    /// The published state agrees with the SubConns: any READY is READY, else any that is on its way
    /// is CONNECTING or IDLE, else TRANSIENT_FAILURE.
    StateMatchesSubConns("state_matches_sub_conns", States,
        "Applications and parent policies act on it.",
        "rule 1 of round_robin; connectivity semantics"),
    /// The published state agrees with the published picker.
    StateMatchesPicker("state_matches_picker", States,
        "Whoever waits for READY must meet a picker that picks.",
        "ClientConn::update_balancer_state"),
    /// A backend that failed counts as failed until it is READY.
    StickyFailure("sticky_failure", States,
        "Dead backends that are dialled again would keep RPCs hanging (gRFC A62).",
        "rule 2 of round_robin; gRFC A62"),
    /// After the first resolver answer something is published.
    FirstAnswerPublishes("first_answer_publishes", States,
        "RPCs would wait without a picker.",
        "Balancer::settle"),
    /// SHUTDOWN is not published.
    NoShutdownPublished("no_shutdown_published", States,
        "It is the channel's to report, and ignored.",
        "ClientConn::update_balancer_state"),

    /// A new SubConn is told to connect at once.
    NewIsConnected("new_is_connected", Connections,
        "It would never be used.",
        "rule 4 of round_robin"),
    /// A SubConn that became IDLE is told to connect (by a lazy policy, while it reports failure).
    IdleIsConnected("idle_is_connected", Connections,
        "Capacity would shrink with every loss and GOAWAY, until nothing is left.",
        "rule 5 of round_robin"),
    /// A SubConn that was told to connect is not told again before it moves.
    NoDoubleConnect("no_double_connect", Connections,
        "A storm of them costs the channel's queue; one that means nothing hides one that does.",
        "SubConn::connect; pick_first, idle picker"),
    /// A SubConn that failed is not replaced at once by another of the same addresses.
    BackoffIsKept("backoff_is_kept", Connections,
        "A new SubConn knows of no back-off: a dead backend would be dialled in a hot loop.",
        "SubConn; connection back-off"),
    /// A lazy policy connects a lost connection only when an RPC is picked or somebody asks; one that
    /// connects on demand, the first one too.
    NoConnectWithoutNeed("no_connect_without_need", Connections,
        "Thousands of clients that need nothing would keep connections.",
        "pick_first, IDLE"),
    /// One SubConn for each distinct endpoint.
    OnePerEndpoint("one_per_endpoint", Connections,
        "Two give a backend a double share; none gives it nothing.",
        "rule 3 of round_robin"),
    /// SubConns of endpoints that are gone are removed in the same callback.
    GoneIsRemoved("gone_is_removed", Connections,
        "They leak, and RPCs go where no RPC should.",
        "rule 4 of round_robin"),
    /// A READY SubConn whose endpoint is still listed survives a new list, and `exit_idle`.
    ListedIsKept("listed_is_kept", Connections,
        "Every update of the list would cost all connections.",
        "Balancer::handle_resolved_addrs"),
    /// A SubConn is removed once.
    RemovedOnce("removed_once", Connections,
        "The second call means that the books do not agree.",
        "ClientConn::remove_sub_conn; rule 4 of round_robin"),
    /// What is not, or no longer, the policy's is ignored.
    StrangersIgnored("strangers_ignored", Connections,
        "Late news of a removed SubConn must not count, connect or publish.",
        "Balancer::handle_sub_conn_state_change"),

    /// After a connection was lost or could not be made, the resolver is asked to look again.
    ResolveNowAsked("resolve_now_asked", Resolver,
        "The address may be stale: the channel would be stuck on it.",
        "ClientConn::resolve_now"),
    /// A resolver error after a good list changes neither SubConns nor state.
    ErrorKeepsList("error_keeps_list", Resolver,
        "A hiccup of DNS must not be an outage.",
        "Balancer::handle_resolved_addrs; gRFC A21"),
    /// A resolver error with nothing to go on with is TRANSIENT_FAILURE, and RPCs fail with it.
    FirstErrorFails("first_error_fails", Resolver,
        "RPCs would hang without a reason.",
        "Balancer::handle_resolved_addrs"),
    /// In TRANSIENT_FAILURE, a resolver error is in the message.
    ErrorIsShown("error_is_shown", Resolver,
        "It is the newest reason why nothing works.",
        "Balancer::handle_resolved_addrs"),
    /// An empty list removes everything, is TRANSIENT_FAILURE, and is rejected.
    EmptyListFails("empty_list_fails", Resolver,
        "RPCs must fail rather than hang, and the resolver must try again.",
        "Balancer::handle_resolved_addrs"),
    /// A list with endpoints is accepted.
    GoodListAccepted("good_list_accepted", Resolver,
        "A rejection makes the resolver back off.",
        "Rejected"),
    /// The same list again changes nothing.
    SameListIsNoop("same_list_is_noop", Resolver,
        "Resolvers repeat themselves; connections must not suffer.",
        "Balancer::handle_resolved_addrs"),

    /// A picker that was replaced stays callable, after the close too.
    OldPickersCallable("old_pickers_callable", Pickers,
        "Some RPC always still holds one.",
        "Picker, # Threads"),
    /// A picker picks only what was READY when it was published.
    PickersAreSnapshots("pickers_are_snapshots", Pickers,
        "The channel publishes state and picker as one; a picker that changes later breaks the pair.",
        "Picker"),

    /// However RPCs end, the policy's books stay right: every backend keeps its share.
    DoneKeepsBooks("done_keeps_books", Done,
        "A counter that drifts starves a backend for ever.",
        "OnDone, # Calls"),

    /// From the close on a policy asks for nothing but the end of what it has; also when a callback
    /// comes late.
    SilentAfterClose("silent_after_close", Close,
        "Its successor's work would be undone.",
        "Balancer::close; rule 10 of round_robin"),
    /// A policy lets go of SubConns that it has removed; and when policy, pickers and RPCs are gone,
    /// nothing of them is left.
    NoLeak("no_leak", Close,
        "A cycle of references leaks connections for as long as the process lives.",
        "Balancer::close"),
    /// Timers and calls do not pile up: none stays for a SubConn that is gone, and what is left when all
    /// are gone does not become more each time that the same happens again.
    NoPileUp("no_pile_up", Close,
        "What is never cancelled or used up grows until the channel is closed.",
        "ClientConn::set_timer, ClientConn::start_call"),

    /// The same script and seed give the same log, in another process too.
    Deterministic("deterministic", Determinism,
        "A failure that cannot be replayed cannot be mended.",
        "ClientConn"),

    /// At most one publication per callback, and one for the settle.
    PublishesBounded("publishes_bounded", Cost,
        "Every publication wakes every waiting RPC.",
        "rule 6 of round_robin"),
    /// Woken again and again while nothing happens, a policy publishes nothing, and asks for no
    /// SubConn, connection, call or resolution.
    QuietWithoutNews("quiet_without_news", Cost,
        "Every publication wakes every waiting RPC, and wakes come from thousands of RPCs.",
        "Balancer::settle; rule 6 of round_robin"),
    /// A call that ended without an answer is made again at once one time at most; after that, time
    /// passes first.
    CallsBackOff("calls_back_off", Cost,
        "A peer that refuses calls would be asked in a hot loop.",
        "ClientConn::start_call; gRFC A17"),
    /// A policy comes to rest: it does not wake itself for ever.
    ComesToRest("comes_to_rest", Cost,
        "It would keep a core busy.",
        "ClientConn::wake"),

    /// Whatever happened before: when the world turns good the policy becomes READY and picks; one
    /// that fails over, also when a single backend is good.
    Liveness("liveness", Liveness,
        "Stuck policies are the commonest severe bug of every gRPC.",
        "gRPC C-core's fuzzer of pick_first, for every policy"),

    /// Where it is claimed, each run of as many picks as there are READY backends hits each once.
    ExactCycles("exact_cycles", Fairness,
        "That is what round robin means, also when its counter wraps.",
        "round_robin"),
    /// Pickers that are often replaced share as evenly as one that stays.
    FairAcrossPickers("fair_across_pickers", Fairness,
        "With index 0 in each new picker the first backend gets most of the load.",
        "round_robin, start index"),
    /// No backend gets nothing; where an even share is claimed, it is even by the χ² test.
    EvenShare("even_share", Fairness,
        "It is what the policy was chosen for.",
        "the policy's profile"),

    /// Picks from many threads, while pickers are replaced, are as right as picks from one.
    ThreadsAgree("threads_agree", Threads,
        "That is how channels pick.",
        "Picker, # Threads"),

    /// `exit_idle` reaches every child that is IDLE.
    ExitIdleReachesChildren("exit_idle_reaches_children", Composite,
        "A lazy child would never connect.",
        "Balancer::exit_idle; Child::exit_idle"),
    /// A resolver error reaches every child.
    ErrorsReachChildren("errors_reach_children", Composite,
        "A child that waits for its first list would let RPCs hang.",
        "Balancer::handle_resolved_addrs"),
    /// News of a SubConn, a timer or a call reaches the child whose it is, once, and no other.
    NewsReachTheirChild("news_reach_their_child", Composite,
        "A child would wait for ever, or count what is none of its own.",
        "Child::handle"),
    /// A child that was told something, or woke, is settled.
    ChildrenAreSettled("children_are_settled", Composite,
        "It publishes in its settle.",
        "Balancer::settle; ChildEvent::Settle"),
    /// A child is closed with its composite at the latest; a closed one hears nothing more, and
    /// leaves no SubConn, timer or call.
    ChildrenAreClosed("children_are_closed", Composite,
        "What is not closed leaks, and goes on to act.",
        "Child::close"),
    /// A closed child's picker is not asked, nor is what it publishes late.
    ClosedChildIsUnused("closed_child_is_unused", Composite,
        "Its SubConns are gone: RPCs would wait for another picker.",
        "Child::close"),
    /// Only the last picker of a child is asked.
    ChildPickerIsCurrent("child_picker_is_current", Composite,
        "An older one knows SubConns that are no longer READY.",
        "Child::take_output"),
    /// Where a composite claims to pass on, a pick is its child's, unaltered.
    ChildPickerIsUnaltered("child_picker_is_unaltered", Composite,
        "That is what passing on means.",
        "Profile::passes_through"),
    /// The published state is what the profile makes of those of the children.
    StateOfChildren("state_of_children", Composite,
        "Applications and parent policies act on it.",
        "Profile::passes_through, Profile::aggregates; ConnectivityStateEvaluator"),

    /// Where the profile has a model, state and picks are as it says whenever the policy is at rest.
    AgreesWithModel("agrees_with_model", Differential,
        "What is written down twice, in two ways, is seldom wrong in the same way.",
        "Profile::with_model"),
    /// Where the profile names another policy, both do the same under the same script.
    AgreesWithOther("agrees_with_other", Differential,
        "A rewrite must not change what users see.",
        "Profile::like"),
}

/// A set of laws.
///
/// ```
/// use balancer_testkit::{Law, LawSet};
/// let laws = LawSet::all().without(Law::Liveness);
/// assert!(laws.has(Law::NoPanic) && !laws.has(Law::Liveness));
/// assert_eq!(LawSet::of(&[Law::Liveness]).iter().count(), 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LawSet(u128);

/// A law that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// How.
    pub message: String,
}

// === impl Law ===

impl Law {
    /// The law of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|law| law.name() == name)
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl Family ===

impl Family {
    /// The name of its test.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Picks => "picks",
            Self::States => "states",
            Self::Connections => "connections",
            Self::Resolver => "resolver",
            Self::Pickers => "pickers",
            Self::Done => "done",
            Self::Close => "close",
            Self::Determinism => "determinism",
            Self::Cost => "cost",
            Self::Liveness => "liveness",
            Self::Fairness => "fairness",
            Self::Threads => "threads",
            Self::Composite => "composite",
            Self::Differential => "differential",
        }
    }

    /// Its laws.
    pub fn laws(self) -> impl Iterator<Item = Law> {
        let all = Law::ALL.iter().copied();
        all.filter(move |law| law.family() == self)
    }
}

// === impl LawSet ===

impl LawSet {
    /// Every law.
    pub const fn all() -> Self {
        Self(u128::MAX)
    }

    /// None.
    pub const fn none() -> Self {
        Self(0)
    }

    /// These.
    pub fn of(laws: &[Law]) -> Self {
        laws.iter().fold(Self::none(), |set, law| set.with(*law))
    }

    /// These and `law`.
    #[must_use]
    pub const fn with(self, law: Law) -> Self {
        Self(self.0 | (1 << law as u8))
    }

    /// These but for `law`.
    #[must_use]
    pub const fn without(self, law: Law) -> Self {
        Self(self.0 & !(1 << law as u8))
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `law` is one of them.
    pub const fn has(self, law: Law) -> bool {
        self.0 & (1 << law as u8) != 0
    }

    /// They, in their order.
    pub fn iter(self) -> impl Iterator<Item = Law> {
        Law::ALL.iter().copied().filter(move |law| self.has(*law))
    }
}

impl fmt::Debug for LawSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Law::name)).finish()
    }
}

// === impl Violation ===

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, message } = self;
        write!(
            f,
            "law `{law}`: {}\n  broken: {message}\n  why:    {}\n  source: {}",
            law.rule().trim(),
            law.reason(),
            law.source()
        )
    }
}

/// Laws fit a set of 128 bits.
const _: () = assert!(Law::ALL.len() <= 128);
