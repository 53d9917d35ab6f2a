//! The table of mutants: each with the law that must catch it, and what became of it.

use std::{fmt, sync::Arc};

use balancer_api::{Builder, Reconnect};
use balancer_testkit::{
    Alike, Conformance, Failure, Knobs, Law, LawSet, Outcome, Profile, ScriptedChild, Setup, World,
};

use crate::{
    composite::{self, Halves, Wrapper},
    happy_first::{self, HappyFirst},
    least_busy::{self, least_busy},
    models::RoundRobinModel,
    newcomers::{self, grudging, newcomers},
    page_first::{self, PageFirst},
    pick_first::{self, PickFirst},
    priority::{self, Priority},
    prober::{self, prober},
    round_robin::{self, RoundRobin},
    unusual_more::LazyRoundRobin,
};

/// One wrong policy.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a builder has none")]
pub struct Mutant {
    /// A word for it.
    pub name: String,
    /// The wrong policy.
    pub builder: Arc<dyn Builder>,
    /// What it claims.
    pub profile: Profile,
}

/// What became of a mutant.
#[derive(Debug)]
pub struct Verdict {
    /// Whether it looks right at first sight.
    pub smoke: Result<(), String>,
    /// How it was caught.
    pub caught: Option<Failure>,
}

/// All of them.
pub fn mutants() -> Vec<Mutant> {
    use round_robin::Bug as R;
    let mut all = Vec::new();
    let mut add = |name: String, builder: Arc<dyn Builder>, profile: Profile| {
        all.push(Mutant {
            name,
            builder,
            profile,
        });
    };
    for bug in [
        R::KeepsRemovedInPicker,
        R::ForgetsIdle,
        R::ConnectsOnlyFirstList,
        R::ConnectsTwice,
        R::FailureOutranksConnecting,
        R::NotSticky,
        R::OnePerDuplicate,
        R::SkipsAtWrap,
        R::StartsAtZero,
        R::PanicsOnEmptyList,
        R::ErrorRemovesAll,
        R::FailsWhileConnecting,
        R::QueuesWhenDead,
        R::PublishesOnStateChangeOnly,
        R::RemovesTwice,
        R::ActsAfterClose,
        R::PublishesInClose,
        R::PickerDiesWithPolicy,
        R::NeverRemoves,
        R::RecreatesOnUpdate,
        R::NoResolveOnLoss,
        R::NoResolveOnFailure,
        R::AcceptsEmptyList,
        R::EmptyListHangs,
        R::FirstErrorIgnored,
        R::ErrorNotShown,
        R::FailsWithoutText,
        R::PublishesThrice,
        R::PublishesShutdown,
        R::WakesForEver,
        R::LeaksItself,
        R::CountsStrangers,
        R::PickerChangesLater,
        R::DeafAfterEmptyList,
        R::ReconnectsOnSameList,
        R::RemovesWrongOne,
        R::ConnectingNeverForgotten,
        R::ErrorAfterGoodListFails,
        R::RejectsGoodList,
        R::ChanceOfItsOwn,
        R::DropsSome,
        R::TimersPileUp,
        R::PicksForeign,
        R::PickOverflows,
        R::FailureForEver,
        R::IdleAfterFailureForgotten,
        R::RefusedIsRemembered,
        R::StateWithoutPicker,
        R::OrderIsIdentity,
        R::NewsIsIdentity,
        R::AttributesAreNoIdentity,
        R::RacyCounter,
        R::PanicsOnStranger,
        R::OldErrorForEver,
        R::ShutdownIsALoss,
        R::NoAnswerToIdleBatch,
        R::PanicsOnSecondEmptyList,
        R::StaleAfterReturn,
        R::RepublishesAlways,
        R::KindIsNoIdentity,
        R::ReplacesFailed,
        R::IgnoresListsWhileFailing,
        R::ForgetsReadyOnReorder,
        R::ReaddedNeverConnected,
        R::PublishesFromThreadAfterClose,
        R::RemembersRemoved,
        R::AsksToResolveAlways,
        R::ForgetsErrorWhenIdle,
        R::PicksUnhealthy,
        R::TimerLoop,
        R::ConnectsUnhealthy,
        R::QueuesWhenRefused,
        R::ServesEightOnly,
        R::RefusalEndsList,
        R::ExitIdleStartsAnew,
    ] {
        add(
            format!("round_robin/{bug:?}"),
            Arc::new(RoundRobin(bug)),
            Profile::exact(),
        );
    }
    // Right but for a model, or another policy, that says what is meant.
    let reversed = || Arc::new(RoundRobin(R::ReversedOrder));
    add(
        "modelled_round_robin/ReversedOrder".to_owned(),
        reversed(),
        Profile::exact().with_model(RoundRobinModel::default),
    );
    add(
        "rewritten_round_robin/ReversedOrder".to_owned(),
        reversed(),
        Profile::exact().like(balancer_roundrobin::builder(), Alike::Rotated),
    );
    // Wrong in one reconnect mode only.
    for bug in [R::LossByConnectingMissed, R::PicksConnecting] {
        add(
            format!("round_robin/{bug:?}"),
            Arc::new(RoundRobin(bug)),
            Profile::exact().either_mode(),
        );
    }
    use least_busy::Bug as L;
    for bug in [
        L::NotSentIsForgotten,
        L::DroppedIsForgotten,
        L::CountsBeforeItKnows,
        L::ObserverPanics,
        L::Biased,
        L::CountsTwiceOnError,
        L::ErrorIsForgotten,
        L::OldPickerIsForgotten,
        L::LossForgetsOpenRpcs,
        L::LimitIsNeverLifted,
    ] {
        let profile = match bug {
            L::Biased => Profile::even(),
            _ => Profile::spreads(),
        };
        add(format!("least_busy/{bug:?}"), least_busy(bug), profile);
    }
    use pick_first::Bug as P;
    for bug in [
        P::KeepsOldAddress,
        P::ReconnectsByItself,
        P::ConnectsOnEveryPick,
        P::StaysFailedAfterEmptyList,
        P::SilentOnEmptyList,
        P::PanicsOnEmptyList,
        P::UnknownForgetsCurrent,
        P::IdlePickerFiresOnce,
        P::ErrorShutsDown,
        P::IdleAfterFailureStays,
        P::StuckWhenLostWhileConnecting,
        P::ShowsFirstErrorOnly,
        P::UpdateInIdleForgetsPicker,
        P::ReadyWithoutTelling,
        P::MovesOnUpdate,
        P::RefusalIsSilent,
        P::DialsTwice,
    ] {
        add(
            format!("pick_first/{bug:?}"),
            Arc::new(PickFirst(bug)),
            Profile::sticks().lazy(),
        );
    }
    add(
        "page_first/PicksWhileConnecting".to_owned(),
        Arc::new(PageFirst(page_first::Bug::PicksWhileConnecting)),
        Profile::sticks().page_lazy().not_sticky(),
    );
    use happy_first::Bug as H;
    for bug in [
        H::FailsAfterFirstAddress,
        H::StopsAfterFirstPass,
        H::ForgetsLastAddress,
    ] {
        add(
            format!("happy_first/{bug:?}"),
            Arc::new(HappyFirst(bug)),
            Profile::sticks().lazy(),
        );
    }
    use prober::Bug as C;
    for bug in [
        C::NeverCancelsCalls,
        C::TimerForEachEvent,
        C::CallsAgainAtOnce,
        C::NeverTriesAgain,
    ] {
        add(format!("prober/{bug:?}"), prober(bug), Profile::spreads());
    }
    use composite::Bug as K;
    for bug in [
        K::ErrorsNotHandedOn,
        K::FirstErrorSwallowed,
        K::NewsToFirstChildOnly,
        K::TimersNotHandedOn,
        K::CallsNotHandedOn,
        K::WakesNotHandedOn,
        K::RemovedChildStaysOpen,
        K::ChildrenLeftOpen,
        K::UsesClosedChild,
        K::KeepsFirstReadyPicker,
        K::StateOfFirstChild,
        K::FailureOutranksConnecting,
        K::RepublishesAlways,
    ] {
        add(
            format!("halves/{bug:?}"),
            Arc::new(Halves(bug, balancer_roundrobin::builder())),
            Profile::spreads()
                .partitions()
                .aggregates()
                .with_scripted_instance(Halves(bug, Arc::new(ScriptedChild::new()))),
        );
    }
    for bug in [
        K::ExitIdleNotHandedOn,
        K::WaitsWhenChildFails,
        K::KeepsFirstReadyPicker,
    ] {
        add(
            format!("wrapped_pick_first/{bug:?}"),
            Arc::new(Wrapper(bug, balancer_pickfirst::builder())),
            Profile::sticks()
                .lazy()
                .passes_through()
                .with_scripted_instance(Wrapper(bug, Arc::new(ScriptedChild::new()))),
        );
    }
    use priority::Bug as F;
    for bug in [
        F::NeverWaitsWithATimer,
        F::TimerOnlyOnce,
        F::TimerIsNotCancelled,
        F::StaysWithSecond,
        F::SecondIsClosedTooEarly,
        F::SecondIsNeverTried,
    ] {
        let profile = Profile::spreads().partitions().fails_over();
        add(
            format!("priority/{bug:?}"),
            Arc::new(Priority(bug)),
            profile,
        );
    }
    use newcomers::Bug as N;
    for bug in [N::NewcomersGetAll, N::NeverWarms, N::TimerOutlivesBackend] {
        let profile = Profile::spreads().warms_up(newcomers::WARM_AFTER);
        add(format!("newcomers/{bug:?}"), newcomers(bug), profile);
    }
    use newcomers::Grudge as G;
    for bug in [G::NeverForgives, G::ForgivesLate] {
        let profile = Profile::spreads().leaves_out_for(newcomers::OUT_FOR);
        add(format!("grudging/{bug:?}"), grudging(bug), profile);
    }
    add(
        "grudging/SlotsOfAnOldList".to_owned(),
        grudging(newcomers::Grudge::SlotsOfAnOldList),
        Profile::spreads(),
    );
    add(
        "lazy_round_robin/ConnectsAtOnce".to_owned(),
        Arc::new(LazyRoundRobin {
            connects_at_once: true,
        }),
        Profile::spreads().on_demand().not_sticky(),
    );
    all
}

/// The settings of the table: those of a default run, whatever the environment says.
pub fn knobs() -> Knobs {
    let mut knobs = Knobs::from_env();
    knobs.script = None;
    knobs
}

impl Mutant {
    /// Whether it looks right: three backends come up, one flaps, 300 picks are OK, all are used.
    pub fn smoke(&self) -> Result<(), String> {
        let mut setup = Setup::new().seed(1);
        if self.profile_is_either() {
            setup = setup.reconnect(Reconnect::WhenAsked);
        }
        let mut world = World::new(self.builder.clone(), setup);
        let mut run = |script: &str| world.run(script).map_err(|error| error.to_string());
        let sticks = self.name.contains("_first/");
        if self.name.starts_with("priority/") {
            return standby_smoke(&mut world);
        }
        if sticks {
            run("update a b c")?;
            if self.name.starts_with("page") {
                run("pick")?;
            }
            let first = if self.name.starts_with("happy") {
                "a"
            } else {
                "a+b+c"
            };
            run(&format!(
                "connecting {first}; ready {first}; lost {first}; pick"
            ))?;
            // In the page's mode it does so by itself.
            let _ = run("connecting a");
            run("ready a")?;
        } else {
            run("update a b c; hold")?;
            for name in ["a", "b", "c"] {
                run(&format!("connecting {name}; ready {name}"))?;
            }
            run("settle")?;
            for name in ["a", "b", "c"] {
                // A policy that probes gets an answer.
                let _ = run(&format!("message {name} 00; end {name} OK"));
            }
        }
        let options = balancer_api_pick_options();
        let mut used: Vec<String> = Vec::new();
        let mut open = Vec::new();
        for n in 0..300 {
            if n == 150 && !sticks {
                // One flaps; a policy that leaves it at that still has two.
                for line in [
                    "lost b",
                    "connecting b",
                    "ready b",
                    "message b 00",
                    "end b OK",
                ] {
                    let _ = world.run(line);
                }
            }
            let rpc = world.start_rpc(&options);
            match rpc.outcome() {
                Outcome::SubConn { name, .. } => {
                    if !used.contains(&name.to_string()) {
                        used.push(name.to_string());
                    }
                }
                other => return Err(format!("pick {n}: {other}")),
            }
            open.push(rpc);
            if open.len() == 6 {
                open.drain(..).for_each(balancer_testkit::Rpc::ok);
            }
        }
        let wanted = if sticks { 1 } else { 3 };
        match used.len() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count} backends used: {used:?}")),
        }
    }

    fn profile_is_either(&self) -> bool {
        format!("{:?}", self.profile).contains("either_mode: true")
    }

    /// What the default run makes of it, held to `laws` only.
    pub fn judge(&self, laws: LawSet) -> Option<Failure> {
        let profile = self.profile.clone().only(laws);
        let suite = Conformance::with_knobs(self.builder.clone(), profile, knobs());
        suite.first_failure()
    }
}

/// As [`Mutant::smoke`], for a policy whose `b` and `c` stand by: `a` comes up and serves, then it
/// fails and they do.
fn standby_smoke(world: &mut World) -> Result<(), String> {
    let mut run = |script: &str| world.run(script).map_err(|error| error.to_string());
    run("update a b c; connecting a; ready a")?;
    let mut used = Vec::new();
    let mut serve = |world: &mut World| {
        for n in 0..150 {
            let rpc = world.start_rpc(&balancer_api_pick_options());
            match rpc.outcome().name() {
                Some(name) if used.iter().any(|known| known == name) => {}
                Some(name) => used.push(name.to_owned()),
                None => return Err(format!("pick {n}: {}", rpc.outcome())),
            }
            rpc.ok();
        }
        Ok(())
    };
    serve(world)?;
    world
        .run("lost a; connecting a; failed a")
        .map_err(|error| error.to_string())?;
    for line in ["connecting b", "connecting c", "ready b", "ready c"] {
        // One that never turns to them is found out by the suite.
        let _ = world.run(line);
    }
    if world.state() != Some(balancer_api::ConnectivityState::Ready) {
        return Ok(());
    }
    serve(world)?;
    match used.len() {
        3 => Ok(()),
        count => Err(format!("{count} backends used: {used:?}")),
    }
}

fn balancer_api_pick_options() -> balancer_api::PickOptions<'static> {
    balancer_api::PickOptions::new("/smoke.Smoke/Test")
}

/// One line of the table.
#[allow(missing_debug_implementations, reason = "it displays")]
pub struct Row<'a>(pub &'a Mutant, pub &'a Verdict);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mutant, verdict) = self;
        let smoke = match &verdict.smoke {
            Ok(()) => "ok",
            Err(_) => "FAILS",
        };
        write!(f, "| {:<44} | {smoke:<5} | ", mutant.name)?;
        match &verdict.caught {
            None => write!(f, "{:<24} | {:>5} | {:>5} |", "SURVIVED", "", ""),
            Some(failure) => write!(
                f,
                "{:<24} | {:>5} | {:>5} |",
                failure.violation.law.name(),
                failure.found_with,
                failure.script.events().len()
            ),
        }
    }
}

/// For each law a mutant that it must catch by itself, with all others off.
pub const ALONE: &[(Law, &str)] = &[
    (Law::NoPanic, "round_robin/PanicsOnEmptyList"),
    (Law::PickIsOurs, "round_robin/PicksForeign"),
    (Law::PickIsLive, "round_robin/KeepsRemovedInPicker"),
    (Law::PickIsReady, "round_robin/PublishesOnStateChangeOnly"),
    (Law::ReadyIsPicked, "round_robin/PublishesOnStateChangeOnly"),
    (Law::QueueNeedsProgress, "round_robin/ForgetsIdle"),
    (Law::DeadFailsFast, "round_robin/QueuesWhenDead"),
    (
        Law::FailOnlyWhenDead,
        "round_robin/FailureOutranksConnecting",
    ),
    (Law::FailureShowsError, "pick_first/ShowsFirstErrorOnly"),
    (Law::DropsOnlyByPlan, "round_robin/DropsSome"),
    (Law::StateMatchesSubConns, "round_robin/ForgetsIdle"),
    (Law::StateMatchesPicker, "round_robin/StateWithoutPicker"),
    (Law::StickyFailure, "round_robin/NotSticky"),
    (Law::FirstAnswerPublishes, "round_robin/FirstErrorIgnored"),
    (Law::NoShutdownPublished, "round_robin/PublishesShutdown"),
    (Law::NewIsConnected, "round_robin/ConnectsOnlyFirstList"),
    (Law::IdleIsConnected, "round_robin/ForgetsIdle"),
    (Law::NoDoubleConnect, "round_robin/ConnectsTwice"),
    (Law::NoConnectWithoutNeed, "pick_first/ReconnectsByItself"),
    (Law::OnePerEndpoint, "round_robin/OnePerDuplicate"),
    (Law::GoneIsRemoved, "round_robin/NeverRemoves"),
    (Law::ListedIsKept, "round_robin/RecreatesOnUpdate"),
    (Law::RemovedOnce, "round_robin/RemovesTwice"),
    (Law::StrangersIgnored, "round_robin/CountsStrangers"),
    (Law::ResolveNowAsked, "round_robin/NoResolveOnLoss"),
    (Law::ErrorKeepsList, "round_robin/ErrorRemovesAll"),
    (Law::FirstErrorFails, "round_robin/FirstErrorIgnored"),
    (Law::ErrorIsShown, "round_robin/ErrorNotShown"),
    (Law::EmptyListFails, "round_robin/AcceptsEmptyList"),
    (Law::GoodListAccepted, "round_robin/RejectsGoodList"),
    (Law::SameListIsNoop, "round_robin/ReconnectsOnSameList"),
    (Law::OldPickersCallable, "round_robin/PickerDiesWithPolicy"),
    (Law::PickersAreSnapshots, "round_robin/PickerChangesLater"),
    (Law::DoneKeepsBooks, "least_busy/NotSentIsForgotten"),
    (Law::SilentAfterClose, "round_robin/ActsAfterClose"),
    (Law::NoLeak, "round_robin/LeaksItself"),
    (Law::NoPileUp, "round_robin/TimersPileUp"),
    (Law::Deterministic, "round_robin/ChanceOfItsOwn"),
    (Law::PublishesBounded, "round_robin/PublishesThrice"),
    (Law::BackoffIsKept, "round_robin/ReplacesFailed"),
    (Law::QuietWithoutNews, "round_robin/RepublishesAlways"),
    (Law::CallsBackOff, "prober/CallsAgainAtOnce"),
    (Law::ComesToRest, "round_robin/WakesForEver"),
    (Law::Liveness, "pick_first/IdlePickerFiresOnce"),
    (Law::ExactCycles, "round_robin/SkipsAtWrap"),
    (Law::FairAcrossPickers, "round_robin/StartsAtZero"),
    (Law::EvenShare, "least_busy/Biased"),
    (
        Law::ExitIdleReachesChildren,
        "wrapped_pick_first/ExitIdleNotHandedOn",
    ),
    (Law::ErrorsReachChildren, "halves/ErrorsNotHandedOn"),
    (Law::NewsReachTheirChild, "halves/NewsToFirstChildOnly"),
    (Law::ChildrenAreSettled, "halves/WakesNotHandedOn"),
    (Law::ChildrenAreClosed, "halves/ChildrenLeftOpen"),
    (Law::ClosedChildIsUnused, "halves/UsesClosedChild"),
    (Law::ChildPickerIsCurrent, "halves/KeepsFirstReadyPicker"),
    (
        Law::ChildPickerIsUnaltered,
        "wrapped_pick_first/WaitsWhenChildFails",
    ),
    (Law::StateOfChildren, "halves/StateOfFirstChild"),
    (Law::AgreesWithModel, "modelled_round_robin/ReversedOrder"),
    (Law::AgreesWithOther, "rewritten_round_robin/ReversedOrder"),
    (Law::ThreadsAgree, "round_robin/RacyCounter"),
];
