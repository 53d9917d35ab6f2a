//! The channel against peers that do what no HTTP/2 library would: faults of connect and handshake (C)
//! and of a working connection (H). Where each row of the catalogue is tested:
//!
//! | row | fault | tests |
//! |---|---|---|
//! | C1 | connection refused | `transport::tests::connect::a_refusal_names_address_and_errno`; `pains::one_dead_endpoint_fails_no_rpc_and_the_others_share_evenly`; scoreboard row 5 |
//! | C2 | SYN swallowed | `bad_servers::an_address_that_swallows_everything_ends_with_the_deadline`; channel-core `sub_conns::only_so_many_dial_at_once_but_a_black_hole_delays_nobody_long`; row 19 |
//! | C3 | accept, then close | `bad_servers::accept_and_close_is_named`; row 21 |
//! | C4 | accept, then silence | `bad_servers::accept_and_silence_ends_with_the_deadline`, `…::silence_longer_than_an_attempt_may_take_is_named`; row 21 |
//! | C5 | not HTTP/2 | `bad_servers::http1_is_named`, `…::garbage_is_shown`; row 21 |
//! | C6 | SETTINGS missing, illegal, unacknowledged | `transport::tests::connect::the_first_frame_must_be_settings`, `…::illegal_settings_are_not_ready`, `…::a_missing_acknowledgement_is_tolerated` |
//! | C7 | TLS against plaintext | `transport::tests::tls::a_plaintext_server_is_recognised`, `…::a_plaintext_client_is_no_match_for_a_tls_server` |
//! | C8 | bad certificates | `tls_matrix` |
//! | C9 | no ALPN, another ALPN | `tls_matrix` |
//! | C10 | a handshake that dribbles or stops | `connect::a_handshake_that_dribbles_is_given_up`, `…::a_tls_handshake_that_stops_is_given_up` |
//! | C11 | no descriptors | `connect::without_descriptors_it_waits_and_recovers` |
//! | C12 | no ports | row 43, where namespaces may be made |
//! | C13 | a dialer that panics or never ends | `connect::a_dialer_that_never_ends_is_given_up`, `…::a_dialer_that_panics_has_failed` |
//! | H1 | GOAWAY, streams open | `transport::tests::end::a_graceful_goaway_is_news_at_once_and_open_streams_finish`; row 3 |
//! | H2 | GOAWAY with a last stream | `goaways::rpcs_above_the_last_stream_are_sent_again` |
//! | H3 | GOAWAY "too_many_pings" | `goaways::too_many_pings_double_the_interval` |
//! | H4 | GOAWAY on every connection | `goaways::a_storm_is_backed_off`, `watches::a_goaway_storm_behind_them_is_backed_off` |
//! | H5 | GOAWAY twice, and close | `goaways::two_are_one_loss`, `…::what_was_above_the_last_stream_survives_the_close`, `…::what_may_have_been_seen_does_not` |
//! | H6 | REFUSED_STREAM | `streams::a_refused_one_is_tried_once_more_and_no_more`; `rpc::retry::transparent_retries_are_not_counted`; row 41 |
//! | H7 | RST_STREAM, every code | `transport::tests::faults::a_reset_instead_of_a_response`, `…::a_reset_in_the_middle_of_a_response` |
//! | H8 | stream limits | `transport::tests::admission`; `scaling` (gRFC A105); `streams::a_crowd_gets_through_any_door`; `rpc::limits::a_deadline_says_that_it_waited_for_a_stream` |
//! | H9, H10 | a peer that stalls | `streams::a_peer_that_hears_nothing_is_given_up_by_keepalive`, `…::nobody_pings_without_need`; row 20; half-open TCP: row 43 |
//! | H11 | windows that stay shut | `streams::a_request_that_is_stuck_holds_nobody_up`, `…::a_response_that_nobody_reads_holds_nobody_up` |
//! | H12, H13 | bombs and floods | `floods::each_is_ended_or_ignored_in_bounded_memory` |
//! | H14 | responses that are not right | `transport::tests::faults` |
//! | H15 | no close_notify | `endings::a_tls_connection_that_just_closes_is_no_failure` |
//! | H16 | stream identifiers run out | `transport::tests::end::streams_identifiers_do_not_run_out` |

#[path = "../support/mod.rs"]
mod support;

#[path = "../rpc/secured.rs"]
mod secured;

mod connect;
mod endings;
mod goaways;
mod scaling;
mod streams;
mod watches;
