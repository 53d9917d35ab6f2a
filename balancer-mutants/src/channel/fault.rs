//! What can be wrong with a channel.

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident => $law:ident,)+) => {
        /// What is wrong with the channel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            /// Nothing.
            None,
            $($(#[doc = $doc])+ $name,)+
        }

        impl Fault {
            /// Every fault, and the law that it breaks.
            pub const ALL: &'static [(Self, balancer_testkit::ChannelLaw)] =
                &[$((Self::$name, balancer_testkit::ChannelLaw::$law),)+];
        }
    };
}

faults! {
    // --- callbacks ---
    /// What a policy asks during build is lost: nobody knows the policy yet.
    DeafDuringBuild => InlineBuild,
    /// C9: callbacks are delivered after close.
    NewsAfterClose => SilentAfterClose,
    /// A timer of a policy that was replaced fires all the same.
    TimerAfterSwitch => SilentAfterClose,
    /// Nobody is ever told to settle.
    NeverSettles => SettleFollows,
    /// The settle comes when the queue is empty, however long that takes.
    SettlesAtTheEnd => SettleFollows,
    /// A wake is forgotten.
    WakeForgotten => WakeSettles,
    /// A resolver error is logged and goes no further, as in the reference era.
    ErrorSwallowed => ResolverHeard,
    /// An empty list is held back.
    EmptyListSwallowed => ResolverHeard,
    /// A list that is equal to the last is held back.
    EqualListSwallowed => ResolverHeard,
    // --- SubConns ---
    /// A SubConn moves before anybody told it to.
    StateBeforeConnect => NothingBeforeConnect,
    /// A new list connects every SubConn that is IDLE.
    ListConnects => NothingBeforeConnect,
    /// CONNECTING is not told.
    LeavesOutConnecting => LegalTransitions,
    /// CONNECTING is not told of a SubConn that was READY before.
    RedialUntold => LegalTransitions,
    /// A SubConn is TRANSIENT_FAILURE before it is IDLE at a loss.
    LossIsAFailure => LegalTransitions,
    /// SHUTDOWN is told twice.
    ShutdownTwice => ShutdownOnce,
    /// SHUTDOWN is never told.
    ShutdownNever => ShutdownOnce,
    /// A removed SubConn goes on to tell.
    NewsAfterShutdown => ShutdownOnce,
    /// Everybody hears of every SubConn.
    EverybodyHears => OwnSubConns,
    /// While the channel switches, only the new policy hears of SubConns.
    OldHearsNothing => OwnSubConns,
    /// A connect on a READY SubConn connects once more.
    ConnectsAgain => ConnectWhenIdle,
    /// Every SubConn reconnects when asked.
    AlwaysWhenAsked => ReconnectMode,
    /// A loss leaves every SubConn IDLE; only failures are retried as the policy chose.
    LossStaysIdle => ReconnectMode,
    /// Every SubConn reconnects by itself.
    AlwaysImmediately => ReconnectMode,
    /// It is redialled every second.
    BackOffDoesNotGrow => BackOff,
    /// There is no back-off.
    NoBackOff => BackOff,
    /// C13: a new list closes the connection though its address is still listed.
    ListedClosed => ListedKept,
    /// A new list without the connected address cuts the connection's RPCs off.
    UnlistedCut => UnlistedDrained,
    /// A new list without the connected address is only looked at after the next loss.
    UnlistedStays => UnlistedDrained,
    /// A removal cuts the RPCs off.
    RemovalCuts => RemovalDrains,
    /// A GOAWAY cuts the RPCs off.
    GoawayCuts => GoawayDrains,
    // --- the clock, timers, calls ---
    /// The clock goes back.
    ClockGoesBack => ClockForward,
    /// A timer fires twice.
    TimerTwice => TimersOnTime,
    /// A timer fires when it is set.
    TimerEarly => TimersOnTime,
    /// A cancelled timer fires.
    CancelledTimerFires => TimersOnTime,
    /// A timer that was due when it was cancelled fires.
    DueTimerFires => TimersOnTime,
    /// A timer never fires.
    TimerNever => TimersOnTime,
    /// Headers come after the message as well.
    HeadersAfterMessage => CallsInOrder,
    /// A call ends twice.
    TwoEnds => CallsInOrder,
    /// A cancelled call goes on.
    CallAfterCancel => CallsInOrder,
    /// A call does not end with its connection.
    CallOutlivesConnection => CallsInOrder,
    /// A call on a dead SubConn is never heard of again.
    DeadCallSilent => DeadCallsEnd,
    /// A call on a dead SubConn ends OK.
    DeadCallOk => DeadCallsEnd,
    // --- publishing ---
    /// The state is published first and the picker a little later.
    StateFirst => PublishedTogether,
    /// The picker is published first and the state at the next settle.
    PickerFirst => PublishedTogether,
    /// A picker that comes with the same state wakes nobody.
    SameStateSleeps => PickerWakes,
    /// A policy may report SHUTDOWN.
    ShutdownBelieved => ShutdownIgnored,
    // --- picks ---
    /// An RPC that was told to wait asks the same picker once more.
    AsksTwice => OncePerPicker,
    /// C1: a fail-fast RPC fails when its pick is not READY.
    NotReadyFails => NotReadyWaits,
    /// An RPC whose pick was removed fails.
    RemovedFails => NotReadyWaits,
    /// A pick that was not READY is told an error.
    NotReadyIsAnError => NotReadyWaits,
    /// An RPC with a strange SubConn waits for ever.
    StrangeWaits => StrangeSubConns,
    /// A fail-fast RPC waits through TRANSIENT_FAILURE.
    FailFastWaits => FailFast,
    /// A fail-fast RPC is not told why.
    FailFastSaysNothing => FailFast,
    /// C5: an RPC that waits for ready fails on TRANSIENT_FAILURE.
    WaitForReadyFails => WaitForReady,
    /// An RPC that waits for ready waits through `Failed`.
    FailedWaits => FailedFailsAll,
    /// An RPC that waits for ready waits through a drop.
    DropWaits => DropIsFinal,
    /// A drop is picked for once more.
    DropRetried => DropIsFinal,
    /// A policy's status goes out as it is.
    CodesAsTheyAre => ControlPlaneCodes,
    /// The deadline is looked at after the pick.
    PicksBeforeDeadline => DeadlineFirst,
    /// A waiting RPC has no deadline.
    WaitsForEver => DeadlineEnds,
    // --- done ---
    /// C3: the observers are not told when the stream could not be opened.
    UnopenedUntold => DoneOnce,
    /// The observers are not told when an RPC is cancelled.
    CancelUntold => DoneOnce,
    /// The observers are not told when the channel is closed.
    CloseUntold => DoneOnce,
    /// The observers of a failed attempt are told when the RPC has ended.
    DoneLate => DoneInTime,
    /// The observers are never told of an error.
    ErrorsUntold => DoneSaysTrue,
    /// The observers are told that what never left was sent.
    UnsentWasSent => DoneSaysTrue,
    // --- transparent retries ---
    /// An RPC that never left fails.
    UnsentFails => UnsentRetried,
    /// An RPC that never left is tried again once only.
    UnsentOnce => UnsentRetried,
    /// An RPC that was refused fails.
    RefusedFails => RefusedOnce,
    /// An RPC that was refused is tried again as long as it takes.
    RefusedAgain => RefusedOnce,
    /// C7: an RPC is tried again after its response began.
    RetriesAfterHeaders => NoLateRetry,
    /// An RPC is tried again when its connection broke, as in the reference era.
    RetriesOnLoss => NoLateRetry,
    // --- which policy ---
    /// C15: the second entry is used when the first known one is invalid.
    SecondEntry => ConfigChoice,
    /// The last known entry is used.
    LastEntry => ConfigChoice,
    /// Every config makes a new policy.
    AlwaysRebuilds => SamePolicyKept,
    /// The addresses beside an invalid config are thrown away.
    BadConfigEatsAddresses => BadConfigKept,
    /// The first config is invalid, and RPCs wait.
    BadFirstWaits => BadConfigKept,
    /// C11: a switch closes the old policy before the new one's picker is published.
    ClosesFirst => SwitchGracefully,
    /// The new policy is published at once.
    SwitchesBlindly => SwitchGracefully,
    /// The switch waits for READY.
    SwitchWaitsForReady => SwitchGracefully,
    /// The switch waits for the new policy, whatever the old one says.
    OldOutageKept => SwitchAtOnce,
    /// Both policies hear of lists and errors.
    BothHear => NewestHears,
    /// Only the old policy hears of errors.
    OldHearsErrors => NewestHears,
    /// A third policy leaves the second alive.
    PendingLeaks => PendingReplaced,
    /// Back to the policy at work builds it once more.
    BackRebuilds => PendingReplaced,
    // --- the end ---
    /// A closed policy gets SubConns.
    SubConnAfterClose => ClosedRefuses,
    /// A closed policy may publish.
    GhostPublishes => ClosedIsDeaf,
    /// RPCs that wait for ready survive the close.
    WaitSurvivesClose => CloseCancels,
    /// Closing says UNAVAILABLE.
    CloseIsUnavailable => CloseCancels,
    /// Closing leaves the connections of SubConns that the policy did not remove.
    ConnectionsLeak => NothingLeft,
}
