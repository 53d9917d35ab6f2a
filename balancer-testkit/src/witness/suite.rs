//! The suite: one trial per law, played on a channel that was made for it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use balancer_api::Builder;

use super::{
    ChannelLaw,
    puppet::Book,
    stage::Stage,
    trials,
    under_test::{Ability, ChannelUnderTest, MakeChannel},
};

/// Shows that a channel keeps its side of the contract, law by law.
///
/// The channel is given as a [`ChannelUnderTest`]; one is made for each trial.
/// [`channel_conformance!`](crate::channel_conformance) makes a test of each law. By hand, a verdict
/// at a time:
///
/// ```no_run
/// use balancer_testkit::{ChannelLaw, ChannelSuite, ChannelUnderTest, witness::Verdict};
/// # use std::sync::Arc;
/// # fn my_channel(_: Vec<Arc<dyn balancer_api::Builder>>) -> Box<dyn ChannelUnderTest> { loop {} }
///
/// let suite = ChannelSuite::new(my_channel);
/// let verdict = suite.judge(ChannelLaw::FailFast);
/// assert!(matches!(verdict, Verdict::Kept), "{verdict}");
/// ```
///
/// `examples/channel_suite.rs` has a whole channel, though a tiny one, and what the suite finds that
/// it still lacks.
///
/// # What it does not see
/// The trials run on one thread. What only shows when threads race (a picker and a state read apart,
/// a wake-up lost) takes a model checker.
pub struct ChannelSuite {
    make: Box<MakeChannel>,
}

/// What a trial of one law came to.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing was found.
    Kept,
    /// The channel cannot do what a trial needs; those before it, if any, found nothing.
    Skipped(Ability),
    /// The law is broken.
    Broken(BrokenLaw),
}

/// How a channel broke a law. Printed, it is an account of the trial.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokenLaw {
    /// The law.
    pub law: ChannelLaw,
    /// What must have been, and what was.
    pub message: String,
    /// What happened, in order, in words.
    pub account: Vec<String>,
}

// === impl ChannelSuite ===

impl ChannelSuite {
    /// The suite for the channels that `make` makes.
    pub fn new<C: ChannelUnderTest + 'static>(
        make: impl Fn(Vec<Arc<dyn Builder>>) -> C + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Box::new(move |policies| Box::new(make(policies))),
        }
    }

    /// Tries one law.
    pub fn judge(&self, law: ChannelLaw) -> Verdict {
        for (needs, trial) in trials::of(law) {
            let mut book = Book::default();
            let played = catch_unwind(AssertUnwindSafe(|| {
                let mut stage = Stage::new(&*self.make);
                book = stage.book.clone();
                if let Some(missing) = stage.cannot(law.needs().iter().chain(*needs)) {
                    return Ok(Some(missing));
                }
                trial(&mut stage)?;
                let (complaints, untold) = stage.finish();
                if let Some(complaint) = complaints.iter().find(|c| c.law == law) {
                    return Err(complaint.message.clone());
                }
                if law == ChannelLaw::DoneOnce && untold > 0 {
                    return Err(format!(
                        "the observers of every pick must be told once; those of {untold} were not"
                    ));
                }
                Ok(None)
            }));
            let message = match played {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(missing))) => return Verdict::Skipped(missing),
                Ok(Err(message)) => message,
                Err(panic) => format!("the channel panicked: {}", said(&*panic)),
            };
            return Verdict::Broken(BrokenLaw {
                law,
                message,
                account: book.lines(),
            });
        }
        Verdict::Kept
    }

    /// The laws that are broken, each with its account.
    pub fn broken(&self) -> Vec<BrokenLaw> {
        let judged = ChannelLaw::ALL.iter().map(|law| self.judge(*law));
        judged
            .filter_map(|verdict| match verdict {
                Verdict::Broken(broken) => Some(broken),
                Verdict::Kept | Verdict::Skipped(_) => None,
            })
            .collect()
    }

    /// Tries one law; says so where it cannot be tried.
    ///
    /// # Panics
    /// The law is broken; the message is the account.
    #[track_caller]
    pub fn check(&self, law: ChannelLaw) {
        match self.judge(law) {
            Verdict::Kept => {}
            Verdict::Skipped(ability) => println!("SKIPPED {law}: it takes {ability:?}"),
            Verdict::Broken(broken) => panic!("{broken}"),
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why")
}

impl fmt::Debug for ChannelSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSuite").finish_non_exhaustive()
    }
}

// === impl Verdict, BrokenLaw ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Skipped(ability) => write!(f, "skipped: it takes {ability:?}"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

impl fmt::Display for BrokenLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            law,
            message,
            account,
        } = self;
        writeln!(f, "the channel broke `{law}`")?;
        writeln!(f, "  broken: {message}")?;
        writeln!(f, "  why:    {}", law.reason())?;
        writeln!(f, "  source: {}", law.source())?;
        writeln!(f, "  what happened:")?;
        for line in account {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

/// One test for each [`ChannelLaw`], over the channels that a function makes of the policies it is
/// given.
///
/// Laws that a channel cannot be tried for are skipped, and say so. Where it is known what that is, say
/// it with `without`: there are no tests then that pass and have tried nothing.
///
/// ```
/// # use balancer_testkit::ChannelUnderTest;
/// # use std::sync::Arc;
/// # fn my_channel(_: Vec<Arc<dyn balancer_api::Builder>>) -> Box<dyn ChannelUnderTest> { loop {} }
/// balancer_testkit::channel_conformance!(my_channel);
/// // Or, where there are several:
/// balancer_testkit::channel_conformance!(over_tls: my_channel);
/// // Or, for a channel whose user sends the RPCs (the names are those of `witness::Ability`):
/// balancer_testkit::channel_conformance!(core: my_channel, without Rpcs, ServiceConfigs);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! channel_conformance {
    ($make:expr $(, without $($unable:ident),+)? $(,)?) => {
        $crate::channel_conformance!(channel_conformance: $make $(, without $($unable),+)?);
    };
    ($name:ident : $make:expr $(, without $($unable:ident),+)? $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[allow(dead_code, reason = "its callers are tests, which a plain build leaves out")]
            fn suite() -> $crate::ChannelSuite {
                $crate::ChannelSuite::new($make)
            }

            #[allow(dead_code, reason = "its callers are tests, which a plain build leaves out")]
            const UNABLE: &[$crate::witness::Ability] =
                &[$($($crate::witness::Ability::$unable),+)?];

            $crate::channel_conformance!(@laws [$($($unable)+)?]
                nothing_before_built NothingBeforeBuilt [], one_at_a_time OneAtATime [],
                inline_build InlineBuild [], silent_after_close SilentAfterClose [],
                settle_follows SettleFollows [], wake_settles WakeSettles [],
                resolver_heard ResolverHeard [], nothing_before_connect NothingBeforeConnect [],
                legal_transitions LegalTransitions [], shutdown_once ShutdownOnce [],
                own_sub_conns OwnSubConns [], connect_when_idle ConnectWhenIdle [],
                reconnect_mode ReconnectMode [], back_off BackOff [], listed_kept ListedKept [],
                unlisted_drained UnlistedDrained [Rpcs], removal_drains RemovalDrains [Rpcs],
                goaway_drains GoawayDrains [Rpcs], clock_forward ClockForward [],
                timers_on_time TimersOnTime [], calls_in_order CallsInOrder [Calls],
                dead_calls_end DeadCallsEnd [], published_together PublishedTogether [],
                picker_wakes PickerWakes [], shutdown_ignored ShutdownIgnored [],
                once_per_picker OncePerPicker [], not_ready_waits NotReadyWaits [],
                strange_sub_conns StrangeSubConns [], fail_fast FailFast [],
                wait_for_ready WaitForReady [], failed_fails_all FailedFailsAll [],
                drop_is_final DropIsFinal [], control_plane_codes ControlPlaneCodes [Rpcs],
                deadline_first DeadlineFirst [Rpcs], deadline_ends DeadlineEnds [Rpcs],
                done_once DoneOnce [], done_in_time DoneInTime [Rpcs],
                done_says_true DoneSaysTrue [Rpcs], unsent_retried UnsentRetried [Rpcs],
                refused_once RefusedOnce [Rpcs], no_late_retry NoLateRetry [Rpcs],
                config_choice ConfigChoice [ServiceConfigs], same_policy_kept SamePolicyKept [],
                bad_config_kept BadConfigKept [], switch_gracefully SwitchGracefully [],
                switch_at_once SwitchAtOnce [], newest_hears NewestHears [],
                pending_replaced PendingReplaced [], closed_refuses ClosedRefuses [],
                closed_is_deaf ClosedIsDeaf [], close_cancels CloseCancels [],
                nothing_left NothingLeft []
            );
        }
    };
    (@laws $unable:tt $($test:ident $law:ident [$($need:ident)?]),+) => {
        $($crate::channel_conformance!(@law $unable [$($need)?] $test $law);)+

        /// A law without a test of its own would be no law, unless the channel cannot be tried for it.
        #[test]
        fn every_law_is_tried() {
            use $crate::{ChannelLaw, witness::{Ability, Verdict}};
            let listed: &[(ChannelLaw, &[Ability])] =
                &[$((ChannelLaw::$law, &[$(Ability::$need)?])),+];
            assert_eq!(listed.len(), ChannelLaw::ALL.len());
            for (law, needs) in listed {
                assert_eq!(law.needs(), *needs, "{law}");
                if needs.iter().any(|need| UNABLE.contains(need)) {
                    let verdict = suite().judge(*law);
                    assert!(matches!(verdict, Verdict::Skipped(_)), "{law} is left out: {verdict}");
                }
            }
        }
    };
    // Of each law: what the channel is unable to do, one after the other, and what the law takes.
    (@law [Rpcs $($rest:ident)*] [Rpcs] $test:ident $law:ident) => {};
    (@law [ServiceConfigs $($rest:ident)*] [ServiceConfigs] $test:ident $law:ident) => {};
    (@law [Calls $($rest:ident)*] [Calls] $test:ident $law:ident) => {};
    (@law [$other:ident $($rest:ident)*] $need:tt $test:ident $law:ident) => {
        $crate::channel_conformance!(@law [$($rest)*] $need $test $law);
    };
    (@law [] $need:tt $test:ident $law:ident) => {
        #[test]
        fn $test() {
            suite().check($crate::ChannelLaw::$law);
        }
    };
}
