//! Bugs that other implementations have had, and the tests that would have caught them here.

use super::rows::Test;

/// A bug, or several of one kind.
#[derive(Debug)]
pub struct Bug {
    /// Where it was reported.
    pub reported: &'static str,
    /// What went wrong.
    pub what: &'static str,
    /// What would have caught it.
    pub tests: &'static [Test],
}

const fn bug(reported: &'static str, what: &'static str, tests: &'static [Test]) -> Bug {
    Bug {
        reported,
        what,
        tests,
    }
}

const fn core(names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel-core", "channel", names)
}

const fn machine(names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel-core", "machine", names)
}

const fn transport(names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel", "balancer-channel", names)
}

const fn raw(names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel", "raw-peers", names)
}

const fn pick_first(names: &'static [&'static str]) -> Test {
    Test::new("balancer-pickfirst", "conversation", names)
}

const fn laws(package: &'static str, names: &'static [&'static str]) -> Test {
    Test::new(package, "conformance", names)
}

const PICK_FIRST: &str = "balancer-pickfirst";
const ROUND_ROBIN: &str = "balancer-roundrobin";

/// All that can happen here.
pub const BUGS: &[Bug] = &[
    bug(
        "grpc-go 954, 1444, 1648",
        "accept counts as connected, and the back-off starts anew",
        &[
            machine(&["backoff::accept_then_close_never_becomes_a_hot_loop"]),
            transport(&["connect::ready_means_that_the_peer_sent_settings"]),
        ],
    ),
    bug(
        "grpc-go 1772",
        "a good connection is killed when its time to connect is over",
        &[raw(&["streams::nobody_pings_without_need"])],
    ),
    bug(
        "grpc-go 2391",
        "a GOAWAY and then a close undo the next connection",
        &[raw(&[
            "goaways::two_are_one_loss",
            "goaways::what_was_above",
        ])],
    ),
    bug(
        "grpc-go 5652",
        "a GOAWAY and new streams wait for each other",
        &[raw(&["goaways::rpcs_above_the_last_stream_are_sent_again"])],
    ),
    bug(
        "grpc-go 7606",
        "close hangs on a peer that does not read",
        &[transport(&[
            "end::a_peer_that_does_not_read_cannot_keep",
            "end::a_socket_that_takes_nothing",
        ])],
    ),
    bug(
        "grpc-go 2767, 2919",
        "a drain fails RPCs",
        &[transport(&[
            "end::a_graceful_goaway_is_news_at_once_and_open_streams_finish",
        ])],
    ),
    bug(
        "grpc-go 4391, 3308",
        "a policy that asks for something in a callback deadlocks",
        &[core(&[
            "serial::callbacks_do_not_nest",
            "serial::another_thread_may_ask",
        ])],
    ),
    bug(
        "grpc-go 6783, grpc 35398",
        "going idle and a resolver's result deadlock",
        &[core(&[
            "idle::a_result_that_arrives_asleep",
            "idle::whatever_the_order",
        ])],
    ),
    bug(
        "grpc-go 4965",
        "pick_first is woken before it has addresses and crashes",
        &[laws(PICK_FIRST, &["liveness", "states"])],
    ),
    bug(
        "grpc-go 8615, grpc-java 12395",
        "pick_first stays idle when its addresses change after a loss",
        &[
            laws(PICK_FIRST, &["liveness"]),
            pick_first(&["an_update_while_idle"]),
        ],
    ),
    bug(
        "grpc 38714, 18598",
        "pick_first gives up after an empty list, or an odd first state",
        &[pick_first(&[
            "an_empty_list_removes_everything",
            "an_empty_list_first",
        ])],
    ),
    bug(
        "grpc 13581",
        "a policy that ends during a re-resolution is used once more",
        &[core(&[
            "switch::",
            "serial::a_closed_policy_can_do_nothing",
        ])],
    ),
    bug(
        "grpc 32486, 31766",
        "state and picker disagree",
        &[
            laws(PICK_FIRST, &["pickers", "picks"]),
            laws(ROUND_ROBIN, &["pickers", "picks"]),
        ],
    ),
    bug(
        "grpc 15000, 16070",
        "nobody asks the resolver after a failed connect",
        &[core(&[
            "resolving::a_loss_and_a_failed_pass_ask_the_resolver",
        ])],
    ),
    bug(
        "grpc 14170, grpc-node 2023",
        "a storm of DNS queries",
        &[core(&[
            "resolving::requests_after_a_success_wait",
            "resolving::errors_are_asked_again",
        ])],
    ),
    bug(
        "grpc 26754",
        "a connection that is there is not used for seconds",
        &[core(&["picks::a_waiting_rpc_goes_on_with_the_next_picker"])],
    ),
    bug(
        "grpc-java 2486, 2505",
        "an RPC that queues while the picker changes is forgotten",
        &[core(&[
            "threads::no_wake_up_is_lost",
            "threads::the_last_picker",
        ])],
    ),
    bug(
        "grpc-java 4630, 4207, 8714",
        "an RPC that meets a channel falling asleep is forgotten",
        &[core(&[
            "idle::an_rpc_that_waits_wakes",
            "idle::whatever_the_order",
        ])],
    ),
    bug(
        "grpc-java 2562, 3297, 5338",
        "a pick of a backend that is just removed fails its RPC",
        &[core(&[
            "picks::a_removed_subconn_is_waited_out",
            "picks::a_pick_that_is_not_ready",
        ])],
    ),
    bug(
        "grpc-java 8132, 12226, 7942",
        "a policy acts after its end, and crashes the channel",
        &[core(&[
            "serial::a_closed_policy",
            "close::no_callback_after",
            "close::closing_races",
        ])],
    ),
    bug(
        "grpc-java 4614, 10166, 6728, 9257",
        "a parser or a policy that throws kills the channel for ever",
        &[
            core(&["panics::a_panic_fails_rpcs_until_the_policy_is_back"]),
            Test::new("balancer-registry", "hostile", &["a_parser_that_panics"]),
        ],
    ),
    bug(
        "grpc-java 8950",
        "a control plane's NOT_FOUND reaches the application",
        &[core(&["picks::what_each_refusal_means"])],
    ),
    bug(
        "grpc-java 6650",
        "RPCs wait for backends that have failed",
        &[
            laws(ROUND_ROBIN, &["states"]),
            pick_first(&["failure_is_sticky"]),
        ],
    ),
    bug(
        "grpc-go 2688, 7656",
        "the end of a pick is not told",
        &[
            Test::new("balancer-channel", "dropped", &[""]),
            laws(ROUND_ROBIN, &["done"]),
        ],
    ),
    bug(
        "grpc-go 9405",
        "an RPC that waits for a window outlives its deadline",
        &[raw(&[
            "streams::a_request_that_is_stuck",
            "streams::a_response_that_nobody_reads",
        ])],
    ),
    bug(
        "grpc-go 5505, 659",
        "something is left of a stream that failed",
        &[transport(&[
            "streaming::dropping_at_any_poll_leaves_nothing_behind",
        ])],
    ),
    bug(
        "tonic 643, 1147, 2839",
        "a dead backend is picked",
        &[Test::new(
            "balancer-channel",
            "pains",
            &["one_dead_endpoint_fails_no_rpc"],
        )],
    ),
    bug(
        "grpc-rust 2746",
        "no limit to connecting: a rolling restart is an outage",
        &[
            Test::new(
                "balancer-channel",
                "bad-servers",
                &["an_address_that_swallows", "silence_longer"],
            ),
            raw(&["connect::a_dialer_that_never_ends"]),
        ],
    ),
    bug(
        "tower 824, 286, 293, linkerd2 2550",
        "backends are driven by requests only",
        &[Test::new(
            "balancer-channel",
            "pains",
            &["endpoints_replaced_while_idle"],
        )],
    ),
    bug(
        "tower 856",
        "an RPC goes to another backend than was picked",
        &[Test::new(
            "balancer-api",
            "ready-set",
            &["the_set_is_what_a_naive_list_would_be"],
        )],
    ),
    bug(
        "linkerd2 14954, 14333",
        "an empty answer, or one that is valid for no time, kills the worker",
        &[core(&[
            "resolving::an_empty_list_is_rejected",
            "resolving::a_resolver_that_panics",
            "refreshing::a_time_of_nothing",
        ])],
    ),
    bug(
        "linkerd2 6086",
        "endpoints that come and go crash the ready list",
        &[Test::new(
            "balancer-api",
            "ready-set",
            &["thousands_of_flaps"],
        )],
    ),
    bug(
        "linkerd2 2863",
        "connects that hang leak",
        &[transport(&[
            "connect::giving_up_on_a_silent_peer_closes_the_socket",
        ])],
    ),
    bug(
        "linkerd2 6842, 10406",
        "an endpoint that is gone is used for ever",
        &[core(&[
            "resolving::only_the_newest_unread_list_counts",
            "resolving::without_a_config",
        ])],
    ),
    bug(
        "hyper 2419, 3559",
        "many RPCs and few streams hang",
        &[raw(&["streams::a_crowd_gets_through_any_door"])],
    ),
    bug(
        "hyper 2500",
        "a GOAWAY loses what was in flight",
        &[transport(&[
            "end::a_goaway_refuses_the_streams_above_it",
            "end::what_the_socket_never_took",
        ])],
    ),
    bug(
        "hyper 3647, h2 502",
        "a connection whose handles are gone stays open",
        &[
            transport(&["end::dropping_the_last_handle_says_goodbye"]),
            Test::new(
                "balancer-channel",
                "callers",
                &["a_response_outlives_its_channel"],
            ),
        ],
    ),
    bug(
        "RUSTSEC-2023-0034, 2024-0003, 2024-0332, 2026-0258",
        "floods of frames fill the memory",
        &[
            Test::new("balancer-channel", "floods", &[""]),
            transport(&["streaming::windows_come_back_after_dropped_responses"]),
        ],
    ),
    bug(
        "RUSTSEC-2020-0019, 2024-0336",
        "a TLS handshake without end",
        &[raw(&[
            "connect::a_tls_handshake_that_stops",
            "connect::a_handshake_that_dribbles",
        ])],
    ),
    bug(
        "RUSTSEC-2020-0002, 2018-0005",
        "nested input overflows the stack",
        &[Test::new(
            "balancer-registry",
            "hostile",
            &["no_depth_overflows", "the_deepest_policies_fit"],
        )],
    ),
];
