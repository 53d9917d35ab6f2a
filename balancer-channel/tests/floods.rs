//! Peers that send more than anybody should take: each is ended, or what it sends is ignored; RPCs obey
//! their deadlines meanwhile, the channel can be closed, and the process does not grow.
//!
//! One test, one after the other, in a program of its own: what grows is the process.

mod support;

use std::time::{Duration, Instant};

use balancer_channel::Channel;
use balancer_testpeer::{
    Behaviour, Server,
    faults::{self, Flood, HeaderBomb},
};
use support::{echo, text};
use tonic::{Code, Request, Status};

/// How long a flood lasts that is not ended.
const DEADLINE: Duration = Duration::from_millis(400);

/// How much later an RPC may end while somebody floods a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// By how much the process may grow at its peak: windows, buffers, and what the allocator keeps.
const GROWTH: u64 = 24 << 20;

/// What a flood came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection, or the stream, was ended before the deadline.
    Ended,
    /// What came was taken note of and thrown away until the deadline.
    Ignored,
}

#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 2
)]
async fn each_is_ended_or_ignored_in_bounded_memory() {
    use Outcome::{Ended, Ignored};
    // What has no end costs nothing but its reading where each frame is legal and asks for nothing.
    let floods = Flood::ALL.map(|flood| {
        let wanted: &[Outcome] = match flood {
            Flood::EmptyData
            | Flood::Continuation
            | Flood::EmptyContinuation
            | Flood::PushPromise
            | Flood::Reset => &[Ended],
            // Whoever does not read our acknowledgements is not read either.
            _ => &[Ended, Ignored],
        };
        let flooding = faults::flood(flood, usize::MAX);
        (format!("{flood:?}"), flooding, wanted)
    });
    let bombs = [
        HeaderBomb::Long(100_000),
        HeaderBomb::Many(50_000),
        HeaderBomb::Hpack(100_000),
        HeaderBomb::BadIndex,
        HeaderBomb::BadHuffman,
    ];
    let bombs = bombs.map(|bomb| {
        let wanted: &[Outcome] = &[Ended];
        (format!("{bomb:?}"), faults::header_bomb(bomb), wanted)
    });
    // Code and pools of the first RPC are not the flood's.
    under(faults::flood(Flood::Ping, 10)).await;
    for (name, behaviour, wanted) in floods.into_iter().chain(bombs) {
        let before = memory::now();
        memory::forget_peak();
        let (outcome, status) = under(behaviour).await;
        let grown = memory::peak().zip(before);
        let grown = grown.map(|(peak, before)| peak.saturating_sub(before));
        println!("{name}: {outcome:?}, grown by {grown:?} bytes, {status:?}");
        assert!(wanted.contains(&outcome), "{name}: {outcome:?}: {status:?}");
        assert!(
            grown.is_none_or(|grown| grown <= GROWTH),
            "{name}: grown by {grown:?} bytes"
        );
    }
}

/// What an RPC comes to on a connection with that server.
async fn under(behaviour: Behaviour) -> (Outcome, Status) {
    let server = Server::start(behaviour).await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .build()
        .expect("a channel");
    let mut request = Request::new(text("hello"));
    request.set_timeout(DEADLINE);
    let started = Instant::now();
    let status = echo(&channel, request).await;
    let status = status.expect_err("there is no answer");
    let took = started.elapsed();
    assert!(took < DEADLINE + SLACK, "the deadline holds: {took:?}");
    let outcome = match status.code() {
        Code::DeadlineExceeded => Outcome::Ignored,
        _ => Outcome::Ended,
    };
    let closed = tokio::time::timeout(SLACK, channel.close()).await;
    closed.expect("a channel can be closed whatever its peers do");
    assert_eq!(channel.task_count(), 0, "no task may be left");
    (outcome, status)
}

/// How large the process is, where the system tells.
mod memory {
    use std::fs;

    pub(super) fn now() -> Option<u64> {
        field("VmRSS:")
    }

    pub(super) fn peak() -> Option<u64> {
        field("VmHWM:")
    }

    pub(super) fn forget_peak() {
        // Where this is not possible the peak is that of the process, which is only stricter.
        let _ = fs::write("/proc/self/clear_refs", "5");
    }

    fn field(name: &str) -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }
}
