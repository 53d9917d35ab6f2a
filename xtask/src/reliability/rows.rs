//! The rows of the scoreboard: what is measured, how, and against what.

use anyhow::Result;

use crate::report::Outcome;
use crate::workspace::Workspace;
use crate::{conformance, interop, sim_channel, tidy};

/// One row.
#[derive(Debug)]
pub struct Row {
    /// Its number, which it keeps for ever.
    pub id: u32,
    /// What is measured.
    pub what: &'static str,
    /// What it must come to.
    pub goal: &'static str,
    /// What others are known to come to.
    pub peer: &'static str,
    /// How it is measured.
    pub how: How,
    /// Whether CI runs it, at a small size.
    pub in_ci: bool,
    /// Whether only a full run does.
    pub full_only: bool,
}

/// How a row is measured.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// By an ignored test among the channel's `reliability` tests, which prints what it measured.
    Scenario(&'static str),
    /// By these tests: all must pass.
    Tests(&'static [Test]),
    /// By these targets of `cargo xtask fuzz`.
    Fuzz(&'static [&'static str]),
    /// By an ignored test of another package, which prints what it measured; built for release.
    Release(&'static str, &'static str, &'static str),
    /// By the tests of [`BUGS`](super::BUGS).
    Bugs,
    /// By all tests of these packages, again and again.
    Repeat(&'static [&'static str]),
    /// By counting the tests that look for leaks, and by these, which plant some.
    Leaks(&'static [Test]),
    /// By exploring the models of channel and core; with more preemptions in a full run.
    Loom,
    /// By another command of ours.
    Command(&'static str, fn(&Workspace) -> Result<Outcome>),
    /// It is not, and this is why.
    NotYet(&'static str),
}

/// Tests of one program.
#[derive(Debug)]
pub struct Test {
    /// The package.
    pub package: &'static str,
    /// What cargo calls the program; the package's own name for the tests inside the library.
    pub program: &'static str,
    /// Names of tests, or the part they have in common.
    pub names: &'static [&'static str],
}

const fn row(id: u32, what: &'static str, goal: &'static str, peer: &'static str, how: How) -> Row {
    Row {
        id,
        what,
        goal,
        peer,
        how,
        in_ci: false,
        full_only: false,
    }
}

const fn core(program: &'static str, names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel-core", program, names)
}

const fn channel(program: &'static str, names: &'static [&'static str]) -> Test {
    Test::new("balancer-channel", program, names)
}

// === impl Test ===

impl Test {
    /// These tests of that program.
    pub const fn new(
        package: &'static str,
        program: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            package,
            program,
            names,
        }
    }
}

/// Random scripts of the policies that ship.
fn policies(workspace: &Workspace) -> Result<Outcome> {
    conformance::random(
        workspace,
        &["balancer-roundrobin", "balancer-pickfirst"],
        20_000,
    )
}

/// The scoreboard.
pub const ROWS: &[Row] = &[
    row(
        1,
        "kill -9 of one of three under load: failed RPCs whose HEADERS the client's socket never took",
        "0",
        "– (A6 promises 0)",
        How::Scenario("fleet::one_of_three_is_killed_again_and_again"),
    )
    .in_ci(),
    row(
        2,
        "the same: failed RPCs in all",
        "never more than were in flight on that connection",
        "–",
        How::Scenario("fleet::one_of_three_is_killed_again_and_again"),
    )
    .in_ci(),
    row(
        3,
        "graceful drain (GOAWAY) of each of three, 100 times, under 2,000 RPC/s",
        "0 failed",
        "grpc-go aims at 0",
        How::Scenario("fleet::each_of_three_is_drained_again_and_again"),
    )
    .in_ci(),
    row(
        4,
        "rolling restart of ten backends under 2,000 RPC/s",
        "0 failed",
        "–",
        How::Scenario("fleet::ten_are_restarted_one_after_the_other"),
    )
    .in_ci(),
    row(
        5,
        "half the backends dead: picks that were not READY / failed RPCs",
        "0 / 0",
        "tonic: every other RPC fails",
        How::Scenario("fleet::half_the_backends_are_dead"),
    )
    .in_ci(),
    row(
        6,
        "random cancellations: picks whose end was not told exactly once",
        "0 of 1,000,000",
        "one test in grpc-go",
        How::Scenario("cancellations::at_random_polls"),
    )
    .in_ci(),
    row(
        7,
        "unary and streaming RPCs dropped at each poll",
        "every poll; nothing left",
        "–",
        How::Tests(&[channel("dropped", &[""])]),
    ),
    row(
        8,
        "leaks after 1,000 channels: descriptors / tasks / memory",
        "0 / 0 / ≤ 1 MiB",
        "grpc-go: no goroutine, no timer",
        How::Scenario("leaks::of_a_thousand_channels"),
    )
    .in_ci(),
    row(
        9,
        "tests of the channel and its core after which tasks, sockets and timers are counted",
        "all (a rule of `cargo xtask tidy`); a planted leak is seen",
        "grpc-go's vet.sh",
        How::Leaks(&[channel("leaks", &[""])]),
    ),
    row(
        10,
        "policy panics are contained and recovered from, in every callback",
        "INTERNAL on that channel only; back after the back-off",
        "grpc-java: 5 tests, no recovery",
        How::Tests(&[core("channel", &["panics::", "switch::a_pending_policy_that_panics", "switch::a_current_policy_that_panics"])]),
    ),
    row(
        11,
        "hostile policies: foreign, removed, never, re-entrant, too often, after close",
        "every one; no RPC hangs",
        "–",
        How::Tests(&[core("channel", &["picks::", "serial::", "panics::"])]),
    ),
    row(
        12,
        "service configs from random bytes and trees",
        "no panic, no abort, an answer to each",
        "C-core OSS-Fuzz",
        How::Fuzz(&["config-bytes", "config-trees"]),
    ),
    row(
        13,
        "the worst service configs of 64 KiB: time to parse",
        "≤ 5 ms; no abort",
        "–",
        How::Release("balancer-registry", "hostile", "the_worst_text_takes_milliseconds"),
    ),
    row(
        14,
        "liveness of each shipped policy over random scripts",
        "0 violations",
        "C-core: pick_first only",
        How::Command("20,000 random scripts of round_robin and pick_first", policies),
    ),
    row(
        15,
        "every script of events for three backends, round_robin and pick_first (seven events: `cargo xtask conformance --deep`)",
        "0 violations",
        "–",
        How::Command("every script of five events", conformance::run_what_fits_ci),
    ),
    row(
        16,
        "loom, twelve races: a publication, an idle channel, a close, a removed backend, a GOAWAY against RPCs that wait, pick, end or are cancelled",
        "0 lost wake-ups, 0 ends told twice or not at all",
        "tokio: 95 models",
        How::Loom,
    ),
    row(
        17,
        "shuttle: channel-core over a simulated transport",
        "100,000 schedules",
        "–",
        How::Command("100,000 schedules of six models", crate::ci::shuttle),
    ),
    row(
        18,
        "deterministic simulation with faults: seeds",
        "2,000; same seed, same events",
        "FoundationDB: 10,000 a night",
        How::Command("cargo xtask sim-channel", sim_channel::run_what_fits_ci),
    ),
    row(
        19,
        "one of three swallows every SYN, default settings: p99.9",
        "≤ 2 × without it, or 10 ms",
        "tonic: hangs",
        How::Scenario("stalls::one_of_three_swallows_everything"),
    ),
    row(
        20,
        "a stopped process (SIGSTOP), keepalive 10 s / 5 s: last RPC sent there",
        "≤ 15.1 s",
        "A8 arithmetic",
        How::Scenario("stalls::a_stopped_process_is_given_up_by_keepalive"),
    ),
    row(
        21,
        "accept, then close, silence or garbage, for 60 s: READY / attempts",
        "0 / ≤ 9",
        "grpc-go waits for SETTINGS",
        How::Scenario("virtual_time::peers_that_accept_and_are_none"),
    )
    .in_ci(),
    row(
        22,
        "a backend that flaps 10 times a second for 60 s: connects",
        "≤ 9 without RPCs; two for each wait of 0.8 s with",
        "–",
        How::Scenario("virtual_time::a_backend_that_flaps"),
    )
    .in_ci(),
    row(
        23,
        "all dead, then back: time to the first success",
        "≤ what is left of the back-off + 50 ms, 100 trials",
        "≤ back-off",
        How::Scenario("virtual_time::all_dead_and_back"),
    )
    .in_ci(),
    row(
        24,
        "500 channels whose backend restarts: most connects in any 100 ms, by attempt",
        "the second ≤ 25 % of them and chance, as 1 s ± 20 % is 400 ms wide; ≤ 20 % from the third on",
        "A9: jitter ± 10 %",
        How::Scenario("herd::a_backend_of_many_restarts"),
    ),
    row(
        25,
        "100 % UNAVAILABLE, 5 attempts, throttling: attempts per RPC",
        "≤ 1.01 when settled",
        "A6 arithmetic",
        How::Scenario("virtual_time::retries_while_everything_fails"),
    )
    .in_ci(),
    row(
        26,
        "100,000 addresses at once: time / memory, and back to 10",
        "≤ 100 ms of one core / ≤ 1 KiB each; ≤ 64 KiB more than before",
        "–",
        How::Release("balancer-channel", "addresses", "a_hundred_thousand_at_once"),
    ),
    row(
        27,
        "all down for ten virtual minutes: resolutions",
        "≤ 20",
        "grpc-go: one in 30 s",
        How::Scenario("virtual_time::resolutions_while_all_is_down"),
    )
    .in_ci(),
    row(
        28,
        "raw HTTP/2 peers that misbehave at connect, in frames and in answers",
        "every one ends as it should, in bounded memory",
        "grpc-go 383, h2 285 tests",
        How::Tests(&[
            channel("balancer-channel", &["transport::tests::"]),
            channel("bad-servers", &[""]),
            channel("raw-peers", &[""]),
            channel("floods", &[""]),
            channel("ends", &[""]),
            channel("goaway", &[""]),
        ]),
    ),
    row(
        29,
        "interop against gRPC's own Python server and client",
        "every case",
        "grpc-go 18 cases",
        How::Command("interop", interop::run),
    ),
    row(
        30,
        "bugs of other implementations that apply here, each with a test",
        "all",
        "–",
        How::Bugs,
    ),
    row(
        31,
        "TLS: 14 bad certificates with 2 choices of roots accepted / plaintext that was not asked for",
        "0 / 0",
        "tonic: plaintext",
        How::Tests(&[
            channel("tls-matrix", &[""]),
            channel("balancer-channel", &["transport::tests::tls::"]),
        ]),
    ),
    row(
        32,
        "a secret in logs, Debug, errors and panics",
        "0 hits",
        "–",
        How::Tests(&[channel("secrets", &[""])]),
    ),
    row(
        33,
        "crates that forbid unsafe code",
        "every one",
        "linkerd: 70 files",
        How::Command("tidy", tidy::run),
    ),
    row(
        34,
        "advisories / duplicate versions / unlisted licences",
        "0 / 0 / 0",
        "linkerd: deny all",
        How::NotYet("`cargo xtask hygiene --only deny` says"),
    ),
    row(
        35,
        "line coverage",
        "≥ 95 % of each crate",
        "Envoy: 96.1 %",
        How::NotYet("not measured"),
    ),
    row(
        36,
        "mutation score",
        "≥ 90 %",
        "–",
        How::NotYet("see docs/mutation-testing.md"),
    ),
    row(
        37,
        "sanitizers",
        "clean",
        "tokio: ASan and Miri",
        How::NotYet("they need a nightly compiler"),
    ),
    row(
        38,
        "30 minutes of chaos under 1,000 RPC/s: memory slope / unexplained failures",
        "< 1 MiB/h / 0",
        "grpc soak: failures ≤ limit",
        How::Scenario("soak::half_an_hour_of_chaos"),
    )
    .full_only(),
    row(
        39,
        "channel tests ten times on 1 thread and on 8: failures",
        "0",
        "–",
        How::Repeat(&["balancer-channel", "balancer-channel-core"]),
    )
    .full_only(),
    row(
        40,
        "beside a peer that sends SETTINGS and closes: failed of 2,000 RPCs / dials in 5 s",
        "0 / ≤ 5",
        "C-core: 851 / 236",
        How::Scenario("bad_peers::a_peer_that_sends_settings_and_closes"),
    )
    .in_ci(),
    row(
        41,
        "beside a peer that refuses every stream: failed of 2,000 RPCs / dials in 5 s",
        "0 / ≤ 5",
        "–",
        How::Scenario("bad_peers::a_peer_that_refuses_every_stream"),
    )
    .in_ci(),
    row(
        42,
        "what callers and runtimes do: dropped, starved, moved, blocked, ended, asleep for an hour",
        "nothing lost, nothing left, no panic",
        "–",
        How::Tests(&[
            channel("callers", &[""]),
            channel("dropped", &[""]),
            channel("ends", &[""]),
        ]),
    ),
    row(
        43,
        "half-open TCP, no route, no ports, no descriptors: a pulled cable noticed, the others backed off",
        "≤ 22 s by default, ≤ 15.5 s with keepalive 10 s / 5 s, attempts end after 20 s; ≤ 5 dials, recovers",
        "–",
        How::Scenario("dead_ends::networks_that_end_nowhere"),
    ),
];

// === impl Row ===

impl Row {
    const fn in_ci(mut self) -> Self {
        self.in_ci = true;
        self
    }

    const fn full_only(mut self) -> Self {
        self.full_only = true;
        self
    }
}
