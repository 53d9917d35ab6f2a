//! What is played on a channel to see whether it keeps a law.

mod callbacks;
mod done;
mod effects;
mod end;
mod picks;
mod policies;
mod publishing;
mod retries;
mod sub_conns;

use super::{
    ChannelLaw,
    stage::{Check, Stage},
    under_test::Ability::{self, Rpcs},
};

/// A story, and what it takes beyond what its law takes.
type Trial = (&'static [Ability], fn(&mut Stage) -> Check);

/// The trials of a law, the simplest first.
pub(super) fn of(law: ChannelLaw) -> &'static [Trial] {
    use ChannelLaw as L;
    match law {
        L::NothingBeforeBuilt | L::OneAtATime => &[(&[], callbacks::look_on)],
        L::InlineBuild => &[(&[], callbacks::inline_build)],
        L::SilentAfterClose => &[
            (&[], callbacks::silent_after_close),
            (&[], callbacks::silent_after_switch),
        ],
        L::SettleFollows => &[(&[], callbacks::settle_follows)],
        L::WakeSettles => &[(&[], callbacks::wake_settles)],
        L::ResolverHeard => &[(&[], callbacks::resolver_heard)],
        L::NothingBeforeConnect => &[(&[], sub_conns::life)],
        L::LegalTransitions => &[(&[], sub_conns::life)],
        L::ShutdownOnce => &[(&[], sub_conns::shutdown_once), (&[], sub_conns::life)],
        L::OwnSubConns => &[(&[], sub_conns::own_sub_conns)],
        L::ConnectWhenIdle => &[(&[], sub_conns::connect_when_idle)],
        L::ReconnectMode => &[(&[], sub_conns::reconnect_mode)],
        L::BackOff => &[(&[], sub_conns::back_off)],
        L::ListedKept => &[(&[], sub_conns::listed_kept)],
        L::UnlistedDrained => &[(&[], sub_conns::unlisted_drained)],
        L::RemovalDrains => &[(&[], sub_conns::removal_drains)],
        L::GoawayDrains => &[(&[], sub_conns::goaway_drains)],
        L::ClockForward => &[(&[], effects::clock_forward)],
        L::TimersOnTime => &[(&[], effects::timers_on_time)],
        L::CallsInOrder => &[
            (&[], effects::call_in_order),
            (&[], effects::cancelled_call),
            (&[], effects::lost_call),
        ],
        L::DeadCallsEnd => &[(&[], effects::dead_calls_end)],
        L::PublishedTogether => &[(&[], publishing::published_together)],
        L::PickerWakes => &[(&[], publishing::picker_wakes)],
        L::ShutdownIgnored => &[(&[], publishing::shutdown_ignored)],
        L::OncePerPicker => &[(&[], picks::once_per_picker)],
        L::NotReadyWaits => &[(&[], picks::not_ready_waits), (&[], picks::removed_waits)],
        L::StrangeSubConns => &[(&[], picks::strange_sub_conns)],
        L::FailFast => &[(&[], picks::fail_fast)],
        L::WaitForReady => &[(&[], picks::wait_for_ready)],
        L::FailedFailsAll => &[(&[], picks::failed_fails_all)],
        L::DropIsFinal => &[(&[], picks::drop_is_final)],
        L::ControlPlaneCodes => &[(&[], picks::control_plane_codes)],
        L::DeadlineFirst => &[(&[], picks::deadline_first)],
        L::DeadlineEnds => &[(&[], picks::deadline_ends)],
        L::DoneOnce => &[(&[], done::once), (&[Rpcs], done::once_however)],
        L::DoneInTime => &[(&[], done::in_time)],
        L::DoneSaysTrue => &[(&[], done::says_true)],
        L::UnsentRetried => &[(&[], retries::unsent_retried)],
        L::RefusedOnce => &[(&[], retries::refused_once)],
        L::NoLateRetry => &[
            (&[], retries::not_after_headers),
            (&[], retries::not_when_it_may_have_run),
        ],
        L::ConfigChoice => &[
            (&[], policies::first_known_chosen),
            (&[], policies::first_known_decides),
        ],
        L::SamePolicyKept => &[(&[], policies::same_policy_kept)],
        L::BadConfigKept => &[(&[], policies::bad_config_kept), (&[], policies::bad_first)],
        L::SwitchGracefully => &[(&[], policies::switch_gracefully)],
        L::SwitchAtOnce => &[(&[], policies::switch_at_once)],
        L::NewestHears => &[(&[], policies::newest_hears)],
        L::PendingReplaced => &[(&[], policies::pending_replaced)],
        L::ClosedRefuses => &[(&[], end::closed_refuses)],
        L::ClosedIsDeaf => &[(&[], end::closed_is_deaf)],
        L::CloseCancels => &[(&[], end::close_cancels)],
        L::NothingLeft => &[(&[], end::nothing_left)],
    }
}
