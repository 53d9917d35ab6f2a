//! What a policy claims, so that the kit knows what to hold it to.

use std::{fmt, sync::Arc};

use balancer_api::{Builder, Reconnect};

use crate::{Law, LawSet, Setup};

/// What a policy claims.
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
    pub(crate) composite: bool,
    pub(crate) config: Option<Arc<str>>,
    pub(crate) children: Vec<Arc<dyn Builder>>,
    pub(crate) laws: LawSet,
    pub(crate) regressions: Vec<Arc<str>>,
}

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
            composite: false,
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

    /// READY backends may be held back by the policy's own judgement: it ejects some, probes them
    /// first, uses a subset. Then READY backends without RPCs are no fault, and neither is READY with
    /// a picker that queues: claim it only for a policy that needs it, the others are held to more.
    #[must_use]
    pub fn selective(mut self) -> Self {
        self.selective = true;
        self
    }

    /// It divides the endpoints among children: an endpoint may move from one child to another, and
    /// is then connected anew, or be given to several, each of which connects to it.
    #[must_use]
    pub fn composite(mut self) -> Self {
        self.composite = true;
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
            .field("composite", &self.composite)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
