//! What a channel owes its policies and its RPCs: each law with its reason and its source.

use std::fmt;

use super::under_test::Ability;

macro_rules! laws {
    ($($(#[doc = $doc:literal])+ $name:ident ($word:literal, [$($need:ident),*], $reason:literal, $source:literal),)+) => {
        /// What a channel owes its policies and its RPCs.
        ///
        /// Each law says what must be; [`reason`](Self::reason) and [`source`](Self::source) say why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ChannelLaw {
            $(
                $(#[doc = $doc])+
                ///
                #[doc = $reason]
                ///
                #[doc = concat!("Source: ", $source, ".")]
                $name,
            )+
        }

        impl ChannelLaw {
            /// Every law.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name in reports; also the name of its test.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Why it is a law.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)+ }
            }

            /// Where it comes from.
            pub const fn source(self) -> &'static str {
                match self { $(Self::$name => $source,)+ }
            }

            /// What a channel must be able to do for the law to be tried on it.
            pub const fn needs(self) -> &'static [Ability] {
                match self { $(Self::$name => &[$(Ability::$need),*],)+ }
            }
        }
    };
}

laws! {
    // --- callbacks ---
    /// No callback before `build` has returned.
    NothingBeforeBuilt ("nothing_before_built", [],
        "A policy that is still being made has nowhere to put the news. In safe Rust there is no policy to call yet; a channel behind another language's boundary has to take care.",
        "Builder::build; grpc-go before v1.11 started its watcher before the policy was assigned"),
    /// One callback of a policy at a time, none from within a call to the ClientConn.
    OneAtATime ("one_at_a_time", [],
        "A policy has no locks since it needs none. In safe Rust `&mut self` sees to it; a channel behind another language's boundary has to.",
        "Balancer, # Calls"),
    /// What a policy asks of the ClientConn while it is being built is done, once `build` has returned.
    InlineBuild ("inline_build", [],
        "Policies start their timers, their SubConns and their first picker where they are made.",
        "Builder::build; grpc-go gracefulswitch TestInlineCallbackInBuild"),
    /// Nothing once `close` began.
    SilentAfterClose ("silent_after_close", [],
        "A policy that has given everything back has nothing left to answer with.",
        "Balancer::close; grpc-go v1.7 could deliver one event more"),
    /// A run of at most 128 callbacks ends with a settle.
    SettleFollows ("settle_follows", [],
        "A policy publishes in settle: until then RPCs are sent by yesterday's picker.",
        "Balancer::settle"),
    /// `wake`, from any thread, leads to a settle.
    WakeSettles ("wake_settles", [],
        "Observers and pickers that found something out have no other way to say so.",
        "ClientConn::wake"),
    /// Every list, the empty one and the same one again included, and every error that the resolver
    /// gives is delivered, in order.
    ResolverHeard ("resolver_heard", [],
        "What an empty list or an error means is the policy's to say, and the config beside an equal list may differ.",
        "Balancer::handle_resolved_addrs; grpc-go before v1.25 never delivered an error"),
    // --- SubConns ---
    /// No state of a SubConn before `connect` was called on it. Known only for the witness's own
    /// [`policy`](crate::Witness::policy).
    NothingBeforeConnect ("nothing_before_connect", [],
        "Lazy policies make SubConns that they may never need.",
        "SubConn::connect; grpc-go TestBalancer_StateListenerBeforeConnect"),
    /// States follow each other as the state table says; none is left out.
    LegalTransitions ("legal_transitions", [],
        "A policy counts states: one that is left out, or a loss told as a failure, leaves its books wrong and fails RPCs at every GOAWAY.",
        "SubConnState, the state table"),
    /// A removed SubConn is told SHUTDOWN once, and then nothing; one that was not removed never.
    ShutdownOnce ("shutdown_once", [],
        "Policies forget a SubConn at its SHUTDOWN.",
        "ClientConn::remove_sub_conn; grpc-go TestSubConnShutdown"),
    /// A policy hears of its own SubConns only.
    OwnSubConns ("own_sub_conns", [],
        "While a channel switches, two policies live side by side, and neither knows the other's SubConns.",
        "grpc-go gracefulswitch TestUpdateSubConnStateRace"),
    /// `connect` on a SubConn that is not IDLE does nothing.
    ConnectWhenIdle ("connect_when_idle", [],
        "Policies connect freely; a second connection would be paid for and never used.",
        "SubConn::connect"),
    /// A SubConn that reconnects by itself goes from READY to CONNECTING when its connection is lost,
    /// one that waits to be asked to IDLE; neither to TRANSIENT_FAILURE.
    ReconnectMode ("reconnect_mode", [],
        "pick_first must not redial without a pick, round_robin must; and a loss is no failure as long as the server may be back.",
        "Reconnect"),
    /// After a pass over all addresses failed, the next waits 1 s, then 1.6 times as long, ± 20 %.
    BackOff ("back_off", [],
        "A fleet of clients that redial at once keeps a backend down that was about to come up.",
        "gRPC connection back-off"),
    /// An address list that still has the connected address keeps the connection, and nothing is told.
    ListedKept ("listed_kept", [],
        "A resolver that adds an address must not cost the connections there are.",
        "SubConn::update_addresses; grpc-java updateAddresses_intersecting_ready"),
    /// An address list without the connected address moves the SubConn, READY to CONNECTING; RPCs in
    /// flight run to their end where they are.
    UnlistedDrained ("unlisted_drained", [Rpcs],
        "A server that leaves the list is being drained, not dead.",
        "SubConn::update_addresses"),
    /// A removed SubConn takes no new RPC; those in flight run to their end.
    RemovalDrains ("removal_drains", [Rpcs],
        "A rolling restart of the servers must not show in the error rate.",
        "ClientConn::remove_sub_conn"),
    /// At a GOAWAY the SubConn leaves READY; RPCs in flight run to their end.
    GoawayDrains ("goaway_drains", [Rpcs],
        "Servers with a maximum connection age send a GOAWAY every few minutes.",
        "grpc-go goaway_test TestGracefulClientOnGoAway, TestServerGoAwayPendingRPC"),
    // --- the clock, timers, calls ---
    /// The clock goes forward only.
    ClockForward ("clock_forward", [],
        "Policies subtract.",
        "ClientConn::now"),
    /// A timer fires once, in its time, and not after it was cancelled in a callback, also when it
    /// was due already.
    TimersOnTime ("timers_on_time", [],
        "A policy forgets a timer that it cancels, and waits for one that it sets.",
        "ClientConn::set_timer, ClientConn::cancel_timer"),
    /// A call has headers at most once and first, then messages, then exactly one end; a cancelled
    /// one is not heard of again.
    CallsInOrder ("calls_in_order", [Calls],
        "A policy reads its load reports and probes as a stream.",
        "CallEvent, ClientConn::cancel_call"),
    /// A call on a SubConn that is not READY, or no more, gives exactly one end, UNAVAILABLE.
    DeadCallsEnd ("dead_calls_end", [],
        "A policy that heard nothing would wait for its probe for ever.",
        "ClientConn::start_call"),
    // --- publishing ---
    /// State and picker are published as one: who has seen the state meets the picker that came with
    /// it, and who meets the picker finds the state.
    PublishedTogether ("published_together", [],
        "An application that waits for READY and then makes its RPC must not meet the picker of the outage.",
        "ClientConn::update_balancer_state; grpc-go once set the state first"),
    /// A new picker wakes every waiting RPC, also when the state is the same as before.
    PickerWakes ("picker_wakes", [],
        "The next picker may have what the last one had not.",
        "ClientConn::update_balancer_state; grpc-go picker_wrapper_test TestBlockingPick"),
    /// SHUTDOWN is not a policy's to report.
    ShutdownIgnored ("shutdown_ignored", [],
        "Only the application ends a channel.",
        "ClientConn::update_balancer_state; grpc-java updateBalancingStateWithShutdownShouldBeIgnored"),
    // --- picks ---
    /// An RPC asks each picker at most once, and then waits for the next.
    OncePerPicker ("once_per_picker", [],
        "A picker that said no says no again: asking on is a busy loop.",
        "Picker, # Calls; grpc-go TestBlockingPickNoSubAvailable"),
    /// An RPC whose pick is not READY, or was removed, waits for the next picker; its observers are
    /// told at once, with nothing sent and no error.
    NotReadyWaits ("not_ready_waits", [],
        "A picker may be one state behind; that is nobody's failure.",
        "Picker, # Returns; grpc-go before v1.20 did not tell the observers"),
    /// A pick of a SubConn that is not this channel's fails the RPC with INTERNAL and names the policy.
    StrangeSubConns ("strange_sub_conns", [],
        "No later picker of such a policy is to be trusted, and its author should hear of it.",
        "Picker"),
    /// On TRANSIENT_FAILURE an RPC that fails fast fails at once with UNAVAILABLE and the detail.
    FailFast ("fail_fast", [],
        "Callers that fail fast have another place to go to.",
        "PickError::TransientFailure"),
    /// On TRANSIENT_FAILURE an RPC that waits for ready waits.
    WaitForReady ("wait_for_ready", [],
        "It was asked to.",
        "gRPC wait-for-ready; grpc-go TestBlockingPickTransientWaitforready"),
    /// `Failed` fails every RPC with UNAVAILABLE, those that wait for ready too.
    FailedFailsAll ("failed_fails_all", [],
        "It is the policy's word that waiting is of no use.",
        "PickError::Failed"),
    /// `Drop` fails every RPC with its status, those that wait for ready too; none is tried again.
    DropIsFinal ("drop_is_final", [],
        "A drop sheds load: one that is tried again adds to it.",
        "PickError::Drop; grpc-java waitForReadyRpcFailFromDropFromBalancer"),
    /// Status codes that only servers may give become INTERNAL when a policy drops with them.
    ControlPlaneCodes ("control_plane_codes", [Rpcs],
        "An application that sees NOT_FOUND believes that its server said so.",
        "gRFC A54"),
    /// A deadline that has passed already is seen before the picker is asked.
    DeadlineFirst ("deadline_first", [Rpcs],
        "A pick counts in the policy's books.",
        "grpc-java immediateDeadlineExceeded"),
    /// A waiting RPC ends with DEADLINE_EXCEEDED at its deadline.
    DeadlineEnds ("deadline_ends", [Rpcs],
        "Nothing may hold an RPC longer than its caller.",
        "grpc-go picker_wrapper_test TestBlockingPickTimeout"),
    // --- done ---
    /// Each pick's observers are told once, however the RPC ends: answered, failed, cancelled, past
    /// its deadline, or the channel closed.
    DoneOnce ("done_once", [],
        "A policy that counts RPCs in flight would count for ever.",
        "OnDone; grpc-go picks==dones test of v1.20"),
    /// The observers of an attempt are told when the attempt is over, before the next pick.
    DoneInTime ("done_in_time", [Rpcs],
        "The next pick reads the books.",
        "OnDone"),
    /// Observers are told the truth: no error when all went well, an error when not, nothing sent
    /// when nothing was.
    DoneSaysTrue ("done_says_true", [Rpcs],
        "Outlier detection and load reports rest on it.",
        "DoneInfo"),
    // --- transparent retries ---
    /// An RPC that never left is picked for again, as often as need be.
    UnsentRetried ("unsent_retried", [Rpcs],
        "No server has seen it.",
        "gRFC A6, transparent retries"),
    /// An RPC that a server refused unseen is picked for again, once.
    RefusedOnce ("refused_once", [Rpcs],
        "The first time may be bad luck; the second is a server that does not want it.",
        "gRFC A6, transparent retries"),
    /// An RPC that an application may have seen, or whose response has begun, is not tried again.
    NoLateRetry ("no_late_retry", [Rpcs],
        "It might run twice.",
        "gRFC A6; grpc-go v1.7 retried on any connection error"),
    // --- which policy ---
    /// The first policy of the list that is known decides; when its config is invalid, so is the
    /// whole list, and later entries are not looked at.
    ConfigChoice ("config_choice", [ServiceConfigs],
        "An operator's mistake must show, not turn into a policy that she never meant to run.",
        "gRFC A24; gRPC service config"),
    /// A config that names the policy at work is given to it; nothing is rebuilt.
    SamePolicyKept ("same_policy_kept", [],
        "A new weight must not cost the connections.",
        "grpc-java AutoConfiguredLoadBalancerFactory"),
    /// An invalid config after a good one changes nothing, but the addresses beside it are delivered;
    /// an invalid one at first fails every RPC with UNAVAILABLE.
    BadConfigKept ("bad_config_kept", [],
        "A typo must not take a service down that runs, nor hide from one that starts.",
        "gRFC A21; grpc-go TestResolverUpdate_InvalidServiceConfigAsFirstUpdate"),
    /// The old policy serves until the new one reports something else than CONNECTING; then the new
    /// one is published, and only then is the old one closed.
    SwitchGracefully ("switch_gracefully", [],
        "A change of policy must not be an outage.",
        "grpc-go gracefulswitch TestBalancerSwitch_Graceful"),
    /// When the old policy is not READY, the first report of either makes the switch.
    SwitchAtOnce ("switch_at_once", [],
        "Nobody is served by waiting.",
        "grpc-go gracefulswitch TestCurrentNotReadyPendingUpdate"),
    /// While a channel switches, lists and errors go to the newest policy only.
    NewestHears ("newest_hears", [],
        "The old one must not begin to move while it is on its way out.",
        "grpc-go gracefulswitch TestResolverError"),
    /// A third policy replaces the one that was to follow; back to the one at work gives the other
    /// up. The one at work goes on.
    PendingReplaced ("pending_replaced", [],
        "A change of mind must cost nobody a connection.",
        "grpc-java GracefulSwitchLoadBalancer"),
    // --- the end ---
    /// After its close a policy gets no new SubConn.
    ClosedRefuses ("closed_refuses", [],
        "Nobody would ever remove it.",
        "ClientConn, # After close"),
    /// What a policy publishes after its close is ignored.
    ClosedIsDeaf ("closed_is_deaf", [],
        "Its picker would take the place of its successor's.",
        "ClientConn, # After close; grpc-go before v1.9"),
    /// Closing ends every waiting RPC with CANCELLED, those that wait for ready too, and every RPC
    /// that comes later.
    CloseCancels ("close_cancels", [],
        "There will be no other picker.",
        "grpc-go clientconn_test TestClientConnClose_WithPendingRPC"),
    /// Closing leaves no connection behind, also of SubConns that the policy did not remove.
    NothingLeft ("nothing_left", [],
        "Sockets are somebody else's, too.",
        "Balancer::close"),
}

// === impl ChannelLaw ===

impl ChannelLaw {
    /// The law of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|law| law.name() == name)
    }

    /// Whether the compiler keeps it for a channel that is written in safe Rust: there is nothing to
    /// try then, and the suite only looks on.
    pub const fn is_held_by_types(self) -> bool {
        matches!(self, Self::NothingBeforeBuilt | Self::OneAtATime)
    }
}

impl fmt::Display for ChannelLaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
