//! What a policy claims, so that the kit knows what to hold it to.

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::{Builder, Reconnect};

use crate::{
    Alike, Law, LawSet, Model, Setup,
    differ::{MakeModel, Other},
};

/// What a policy claims, and so what it is held to. Claim as much as is true: each exemption is a
/// law less.
///
/// | a policy that | claims |
/// |---|---|
/// | takes turns (`round_robin`) | [`exact()`](Self::exact), and [`either_mode()`](Self::either_mode) if it is right in both |
/// | picks at random, evenly | [`even()`](Self::even) |
/// | weighs, hashes, counts RPCs in flight, takes the better of two | [`spreads()`](Self::spreads) |
/// | sticks to one backend, and connects to it when an RPC comes (`pick_first`) | [`sticks()`](Self::sticks)`.`[`lazy()`](Self::lazy) |
/// | does so in the reference page's way: hands out an IDLE SubConn | `sticks().`[`page_lazy()`](Self::page_lazy) |
/// | keeps all connected, and uses the first that is READY | `sticks()` |
/// | ejects the worst for a while | `spreads().`[`leaves_out_for(longest)`](Self::leaves_out_for) |
/// | leaves some out by a judgement of its own, for ever if need be | `spreads().`[`selective()`](Self::selective) |
/// | serves one group of endpoints, and turns to the next where that fails (`priority`) | `spreads().`[`fails_over()`](Self::fails_over) |
/// | connects to some of the endpoints only | `spreads().`[`subsets()`](Self::subsets) |
/// | hashes RPCs, and connects where one leads when it comes (`ring_hash`) | `spreads().`[`on_demand()`](Self::on_demand)`.`[`may_hold_all()`](Self::may_hold_all) |
/// | gives a new backend less at first | `spreads().`[`warms_up(longest)`](Self::warms_up) |
/// | warms a READY backend up before it uses it | `spreads().`[`may_hold_all()`](Self::may_hold_all) |
/// | probes backends by calls of its own | `spreads()`: the kit notices the calls |
/// | drops RPCs on purpose | `.`[`drops()`](Self::drops) |
/// | hands on to one child | what the child claims, and [`passes_through()`](Self::passes_through) |
/// | divides the endpoints among children | `spreads().`[`partitions()`](Self::partitions)`.`[`aggregates()`](Self::aggregates) |
/// | gives endpoints to several children | `spreads().`[`composite()`](Self::composite) |
///
/// A composite should also be run with children that do what scripts say:
/// [`with_scripted_children`](Self::with_scripted_children). A policy that must be like another, or
/// like a model of it: [`like`](Self::like), [`with_model`](Self::with_model).
///
/// ```
/// use balancer_testkit::Profile;
/// let round_robin = Profile::exact().either_mode();
/// let pick_first = Profile::sticks().lazy();
/// let weighted = Profile::spreads().with_config(r#"{"weight":2}"#);
/// ```
#[derive(Clone)]
pub struct Profile {
    pub(crate) spread: Spread,
    pub(crate) lazy: bool,
    pub(crate) page_lazy: bool,
    pub(crate) either_mode: bool,
    pub(crate) sticky: bool,
    pub(crate) drops: bool,
    pub(crate) selective: bool,
    /// How long a READY backend may be left out.
    pub(crate) leaves_out_for: Option<Duration>,
    /// How long a new backend may get less.
    pub(crate) warms_up: Option<Duration>,
    pub(crate) fails_over: Option<FailOver>,
    pub(crate) on_demand: bool,
    pub(crate) subsets: bool,
    pub(crate) may_hold_all: bool,
    pub(crate) division: Division,
    pub(crate) model: Option<MakeModel>,
    pub(crate) other: Option<Other>,
    pub(crate) aggregation: Aggregation,
    /// Configurations in which children are scripted; and the builder, where it is another one.
    pub(crate) scripted_configs: Vec<Arc<str>>,
    pub(crate) scripted_builder: Option<Arc<dyn Builder>>,
    /// Whether the children are scripted in this run.
    pub(crate) scripted: bool,
    pub(crate) config: Option<Arc<str>>,
    pub(crate) children: Vec<Arc<dyn Builder>>,
    pub(crate) laws: LawSet,
    pub(crate) regressions: Vec<Arc<str>>,
}

/// Who gets which endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Division {
    /// There is nobody but the policy.
    None,
    /// Each endpoint has one child.
    Parts,
    /// An endpoint may have several children.
    Shared,
}

/// What a policy that has failed over does when the better is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailOver {
    /// It goes back.
    Returns,
    /// It stays where it is.
    Stays,
}

/// What a composite makes of its children's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    /// What it likes.
    Free,
    /// Its one child's, which it passes on.
    Same,
    /// READY before CONNECTING before IDLE before TRANSIENT_FAILURE.
    Usual,
}

/// The laws that hold whatever the children of a composite do.
const SCRIPTED: &[Law] = &[
    Law::NoPanic,
    Law::PickIsOurs,
    Law::NoShutdownPublished,
    Law::RemovedOnce,
    Law::GoneIsRemoved,
    Law::SilentAfterClose,
    Law::NoLeak,
    Law::OldPickersCallable,
    Law::QuietWithoutNews,
    Law::ComesToRest,
    Law::ExitIdleReachesChildren,
    Law::ErrorsReachChildren,
    Law::NewsReachTheirChild,
    Law::ChildrenAreSettled,
    Law::ChildrenAreClosed,
    Law::ClosedChildIsUnused,
    Law::ChildPickerIsCurrent,
    Law::ChildPickerIsUnaltered,
    Law::StateOfChildren,
];

/// How RPCs are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Each cycle hits each once.
    Exact,
    /// Evenly in the long run.
    Even,
    /// Somehow: every one gets some.
    Some,
    /// All to one.
    Sticks,
}

// === impl Profile ===

impl Profile {
    fn new(spread: Spread) -> Self {
        Self {
            spread,
            lazy: false,
            page_lazy: false,
            either_mode: false,
            sticky: true,
            drops: false,
            selective: false,
            leaves_out_for: None,
            warms_up: None,
            fails_over: None,
            on_demand: false,
            subsets: false,
            may_hold_all: false,
            division: Division::None,
            model: None,
            other: None,
            aggregation: Aggregation::Free,
            scripted_configs: Vec::new(),
            scripted_builder: None,
            scripted: false,
            config: None,
            children: Vec::new(),
            laws: LawSet::all(),
            regressions: Vec::new(),
        }
    }

    /// Every READY backend gets RPCs; connects to all of them at once and keeps them connected.
    pub fn spreads() -> Self {
        Self::new(Spread::Some)
    }

    /// As [`spreads`](Self::spreads), and evenly in the long run: a χ² test is made.
    pub fn even() -> Self {
        Self::new(Spread::Even)
    }

    /// As [`spreads`](Self::spreads), and in exact turns, like `round_robin`.
    pub fn exact() -> Self {
        Self::new(Spread::Exact)
    }

    /// All RPCs go to one backend, like `pick_first`.
    pub fn sticks() -> Self {
        Self::new(Spread::Sticks)
    }

    /// A lost connection is made again only when an RPC is picked, or somebody asks.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Lazy in the manner of the reference page's `pick_first`: it hands out an IDLE SubConn and
    /// leaves it to the channel to connect it.
    #[must_use]
    pub fn page_lazy(mut self) -> Self {
        self.lazy = true;
        self.page_lazy = true;
        self
    }

    /// Right whatever the reconnect mode of its SubConns is: it is run in both.
    #[must_use]
    pub fn either_mode(mut self) -> Self {
        self.either_mode = true;
        self
    }

    /// A backend that failed counts as on its way as soon as it is dialled again, as before gRFC
    /// A62.
    #[must_use]
    pub fn not_sticky(mut self) -> Self {
        self.sticky = false;
        self
    }

    /// Some RPCs are dropped on purpose.
    #[must_use]
    pub fn drops(mut self) -> Self {
        self.drops = true;
        self
    }

    /// Some READY backends may get no RPCs, by the policy's own judgement: it ejects the worst, or
    /// serves one group while another waits. As long as one is READY it is used.
    #[must_use]
    pub fn selective(mut self) -> Self {
        self.selective = true;
        self
    }

    /// As [`selective`](Self::selective), and not for ever: a READY backend that is left out gets RPCs
    /// again once none has failed for `longest`, whatever was before. For a policy that doubles the
    /// time of an ejection this is the greatest time.
    #[must_use]
    pub fn leaves_out_for(mut self, longest: Duration) -> Self {
        self.leaves_out_for = Some(longest);
        self.selective()
    }

    /// A backend that has become READY gets less than its share until it has been READY for
    /// `longest`, and its share from then on.
    #[must_use]
    pub fn warms_up(mut self, longest: Duration) -> Self {
        self.warms_up = Some(longest);
        self
    }

    /// It serves one group of endpoints while others stand by, connected or not, and turns to them
    /// when those that it prefers have failed, or take longer to connect than a timer of its own
    /// allows (`priority`, gRFC A56). It needs such a timer: an attempt may take the whole connect
    /// deadline, and RPCs wait meanwhile. When they are READY again it goes back. Implies
    /// [`selective`](Self::selective) and [`may_hold_all`](Self::may_hold_all).
    #[must_use]
    pub fn fails_over(mut self) -> Self {
        self.fails_over = Some(FailOver::Returns);
        self.selective().may_hold_all()
    }

    /// As [`fails_over`](Self::fails_over), but it does not go back.
    #[must_use]
    pub fn fails_over_and_stays(mut self) -> Self {
        self = self.fails_over();
        self.fails_over = Some(FailOver::Stays);
        self
    }

    /// As [`lazy`](Self::lazy), and even the first connection is made only when an RPC is picked, or
    /// somebody asks, or another backend has failed (`ring_hash`, gRFC A42).
    #[must_use]
    pub fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self.lazy()
    }

    /// It connects to some of the endpoints only; implies [`selective`](Self::selective).
    #[must_use]
    pub fn subsets(mut self) -> Self {
        self.subsets = true;
        self.selective()
    }

    /// RPCs may wait, or fail, although something is READY: it probes a backend before it uses it,
    /// or waits for the better of two groups. A policy that makes calls on its SubConns may do so
    /// without this claim.
    #[must_use]
    pub fn may_hold_all(mut self) -> Self {
        self.may_hold_all = true;
        self
    }

    /// It divides the endpoints among children, each endpoint to one of them. One that moves from
    /// one child to another is connected anew; it still has one SubConn in all.
    #[must_use]
    pub fn partitions(mut self) -> Self {
        self.division = Division::Parts;
        self
    }

    /// It has children, and may give an endpoint to several of them, each of which connects to it.
    /// Where each endpoint has one child, [`partitions`](Self::partitions) claims more.
    #[must_use]
    pub fn composite(mut self) -> Self {
        self.division = Division::Shared;
        self
    }

    /// A model of the policy: in every script, state and picks must be as it says. See [`Model`].
    #[must_use]
    pub fn with_model<M: Model + 'static>(
        mut self,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        self.model = Some(Arc::new(move || Box::new(make())));
        self
    }

    /// Another policy that this one must be like, a rewrite like its original: every script is run
    /// on both, and after each event the published states, the answers to resolver results, the
    /// SubConns with their states, and the picks must agree.
    ///
    /// Both are built with the profile's configuration and see the same random numbers; where they
    /// draw them differently, ask for less than [`Alike::Exactly`]. When a script refuses one of them
    /// a SubConn and the other another, they part, and the rest of the script shows nothing.
    #[must_use]
    pub fn like(mut self, other: Arc<dyn Builder>, alike: Alike) -> Self {
        self.other = Some(Other {
            builder: other,
            alike,
        });
        self
    }

    /// A composite that hands on what its one child publishes, state and picker, as they are.
    #[must_use]
    pub fn passes_through(mut self) -> Self {
        self.aggregation = Aggregation::Same;
        self
    }

    /// A composite whose state is made of its children's as
    /// [`ConnectivityStateEvaluator`](balancer_api::ConnectivityStateEvaluator) does it, a failed
    /// child sticky or not.
    #[must_use]
    pub fn aggregates(mut self) -> Self {
        self.aggregation = Aggregation::Usual;
        self
    }

    /// A composite's configuration in which its children are
    /// [`ScriptedChild`](crate::ScriptedChild)ren, called `scripted_child`: the composite is then
    /// also run with these, under the laws of composites. Of several such configurations the first
    /// is the one to begin with, and scripts change between them.
    ///
    /// ```
    /// use balancer_testkit::Profile;
    /// let profile = Profile::spreads()
    ///     .with_config(r#"{"childPolicy":[{"round_robin":{}}]}"#)
    ///     .with_scripted_children(r#"{"childPolicy":[{"scripted_child":{"id":"one"}}]}"#)
    ///     .with_scripted_children(r#"{"childPolicy":[{"scripted_child":{"id":"two"}}]}"#)
    ///     .passes_through();
    /// ```
    #[must_use]
    pub fn with_scripted_children(mut self, json: impl Into<Arc<str>>) -> Self {
        self.scripted_configs.push(json.into());
        self
    }

    /// As [`with_scripted_children`](Self::with_scripted_children), for a composite that is made
    /// around its children: another instance of it, around
    /// [`ScriptedChild`](crate::ScriptedChild)ren.
    #[must_use]
    pub fn with_scripted_instance(mut self, composite: impl Builder + 'static) -> Self {
        self.scripted_builder = Some(Arc::new(composite));
        self
    }

    /// The configuration to run with: the JSON beside the policy's name in a service config.
    #[must_use]
    pub fn with_config(mut self, json: impl Into<Arc<str>>) -> Self {
        self.config = Some(json.into());
        self
    }

    /// A policy that the configuration of a composite names as a child. The profile then says what
    /// composite and child come to together.
    #[must_use]
    pub fn with_child(mut self, child: impl Builder + 'static) -> Self {
        self.children.push(Arc::new(child));
        self
    }

    /// Does not hold the policy to `law`. Say why, beside it.
    #[must_use]
    pub fn without(mut self, law: Law) -> Self {
        self.laws = self.laws.without(law);
        self
    }

    /// Holds the policy to these laws only.
    #[must_use]
    pub fn only(mut self, laws: LawSet) -> Self {
        self.laws = laws;
        self
    }

    /// A script that once failed, to be run first: one event per line. Keep it in a file beside the
    /// test and `include_str!` it.
    #[must_use]
    pub fn regression(mut self, script: impl Into<Arc<str>>) -> Self {
        self.regressions.push(script.into());
        self
    }

    /// The profile for the run with scripted children, if there is one, and the builder for it.
    pub(crate) fn scripted(&self, builder: &Arc<dyn Builder>) -> Option<(Arc<dyn Builder>, Self)> {
        if self.scripted_configs.is_empty() && self.scripted_builder.is_none() {
            return None;
        }
        let builder = self.scripted_builder.as_ref().unwrap_or(builder).clone();
        let mut profile = self.clone();
        profile.scripted = true;
        profile.either_mode = false;
        profile.config = self.scripted_configs.first().cloned();
        profile.laws = self.laws.and(LawSet::of(SCRIPTED));
        if profile.division == Division::None {
            profile.division = Division::Shared;
        }
        let scripted = Arc::new(crate::ScriptedChild::new());
        profile.children.push(scripted);
        Some((builder, profile))
    }

    /// Whether endpoints may have no SubConn.
    pub(crate) fn may_skip_endpoints(&self) -> bool {
        self.subsets || self.fails_over.is_some()
    }

    pub(crate) fn sticks_to_one(&self) -> bool {
        self.spread == Spread::Sticks
    }

    /// The set-ups to run in: one for each reconnect mode that counts.
    pub(crate) fn setups(&self) -> Vec<Setup> {
        let mut setup = Setup::new();
        setup.config.clone_from(&self.config);
        setup.children.clone_from(&self.children);
        if self.either_mode {
            vec![
                setup.clone().reconnect(Reconnect::WhenAsked),
                setup.reconnect(Reconnect::Immediately),
            ]
        } else {
            vec![setup]
        }
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("spread", &self.spread)
            .field("lazy", &self.lazy)
            .field("page_lazy", &self.page_lazy)
            .field("either_mode", &self.either_mode)
            .field("sticky", &self.sticky)
            .field("drops", &self.drops)
            .field("selective", &self.selective)
            .field("leaves_out_for", &self.leaves_out_for)
            .field("warms_up", &self.warms_up)
            .field("fails_over", &self.fails_over)
            .field("on_demand", &self.on_demand)
            .field("subsets", &self.subsets)
            .field("may_hold_all", &self.may_hold_all)
            .field("division", &self.division)
            .field("aggregation", &self.aggregation)
            .field("model", &self.model.is_some())
            .field("like", &self.other.as_ref().map(|other| other.alike))
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
