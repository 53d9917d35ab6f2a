//! A closed loop: so many tasks, each with one RPC, or one message of a stream, at a time.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hdrhistogram::Histogram;
use tonic::Status;

use crate::{
    caller::{Caller, Conversation},
    clock,
    echo::Payload,
};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// When it is enough.
    pub until: Until,
    /// How many tasks.
    pub concurrency: usize,
    /// Bytes of payload.
    pub size: usize,
    /// Messages of one stream a task instead of RPCs.
    pub streaming: bool,
}

/// When a load is enough.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many, shared out between the tasks.
    Count(usize),
    /// After so long.
    Time(Duration),
}

/// What a run measured.
#[derive(Debug)]
pub struct Measured {
    /// RPCs, or messages, that were answered.
    pub ok: u64,
    /// RPCs that were not.
    pub failed: u64,
    /// Why the last of them was not.
    pub why: Option<Status>,
    /// From the first RPC to the last answer.
    pub elapsed: Duration,
    /// The process's CPU time in it, of user and system; `None` where nobody tells.
    pub cpu: Option<Duration>,
    /// Of the single RPCs, in microseconds.
    pub latency: Histogram<u64>,
}

/// What one task saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failed: u64,
    why: Option<Status>,
}

/// When one task has done enough.
enum Enough {
    Left(usize),
    At(Instant),
}

/// Runs the load over clones of the caller.
///
/// # Panics
/// Never: the histogram's bounds are valid.
pub async fn run<C: Caller>(caller: C, load: Load) -> Measured {
    let payload = Payload {
        bytes: vec![7; load.size].into(),
    };
    let (start, cpu) = (Instant::now(), clock::cpu());
    let tasks: Vec<_> = (0..load.concurrency)
        .map(|n| {
            let (caller, payload) = (caller.clone(), payload.clone());
            let enough = Enough::of(load, n, start);
            let streaming = load.streaming;
            tokio::spawn(async move {
                if streaming {
                    messages(caller, payload, enough).await
                } else {
                    rpcs(caller, payload, enough).await
                }
            })
        })
        .collect();
    let mut all = Seen::default();
    for task in tasks {
        match task.await {
            Ok(mut seen) => {
                all.latencies.append(&mut seen.latencies);
                all.failed += seen.failed;
                all.why = seen.why.or(all.why);
            }
            Err(panic) => {
                all.failed += 1;
                all.why = Some(Status::internal(panic.to_string()));
            }
        }
    }
    let elapsed = start.elapsed();
    // The histogram is made of it afterwards, so that it is in nobody's bill.
    let cpu = clock::cpu().zip(cpu).map(|(end, start)| end - start);
    let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are valid"));
    for one in &all.latencies {
        latency.saturating_record(u64::try_from(one.as_micros()).unwrap_or(u64::MAX));
    }
    Measured {
        ok: all.latencies.len() as u64,
        failed: all.failed,
        why: all.why,
        elapsed,
        cpu,
        latency,
    }
}

async fn rpcs<C: Caller>(mut caller: C, payload: Payload, mut enough: Enough) -> Seen {
    let mut seen = Seen::with_room_for(&enough);
    let mut start = Instant::now();
    while !enough.reached(start) {
        match caller.unary(payload.clone()).await {
            Ok(_) => {
                let end = Instant::now();
                seen.latencies.push(end - start);
                start = end;
            }
            Err(status) => {
                seen.fail(status);
                start = Instant::now();
            }
        }
    }
    seen
}

async fn messages<C: Caller>(mut caller: C, payload: Payload, mut enough: Enough) -> Seen {
    let mut seen = Seen::with_room_for(&enough);
    let mut conversation = match caller.open().await {
        Ok(conversation) => conversation,
        Err(status) => {
            seen.fail(status);
            return seen;
        }
    };
    let mut start = Instant::now();
    while !enough.reached(start) {
        if let Err(status) = echo(&mut conversation, payload.clone()).await {
            // A stream that has failed answers no more.
            seen.fail(status);
            break;
        }
        let end = Instant::now();
        seen.latencies.push(end - start);
        start = end;
    }
    seen
}

async fn echo(conversation: &mut Conversation, payload: Payload) -> Result<(), Status> {
    let sent = conversation.send.send(payload).await;
    sent.map_err(|_| Status::unknown("the stream was closed"))?;
    let answer = conversation.receive.next().await;
    answer.unwrap_or_else(|| Err(Status::unknown("the stream ended")))?;
    Ok(())
}

// === impl Seen ===

impl Seen {
    fn with_room_for(enough: &Enough) -> Self {
        let room = match enough {
            Enough::Left(count) => *count,
            // More than a task gets answered in the time that a round has.
            Enough::At(_) => 1 << 14,
        };
        Self {
            latencies: Vec::with_capacity(room),
            ..Self::default()
        }
    }

    fn fail(&mut self, status: Status) {
        self.failed += 1;
        self.why = Some(status);
    }
}

// === impl Enough ===

impl Enough {
    fn of(load: Load, task: usize, start: Instant) -> Self {
        match load.until {
            // The remainder goes to the first ones.
            Until::Count(count) => {
                Self::Left(count / load.concurrency + usize::from(task < count % load.concurrency))
            }
            Until::Time(time) => Self::At(start + time),
        }
    }

    fn reached(&mut self, now: Instant) -> bool {
        match self {
            Self::Left(0) => true,
            Self::Left(left) => {
                *left -= 1;
                false
            }
            Self::At(end) => now >= *end,
        }
    }
}
