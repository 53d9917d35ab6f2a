//! A closed loop of unary RPCs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tonic::{
    body::Body,
    client::{Grpc, GrpcService},
};

use crate::echo::{self, Payload};

/// What a run measured.
#[derive(Debug)]
pub struct Measured {
    /// RPCs that ended with OK.
    pub ok: u64,
    /// RPCs that did not.
    pub failed: u64,
    /// From the first RPC to the last answer.
    pub elapsed: Duration,
    /// Of the single RPCs, in microseconds.
    pub latency: Histogram<u64>,
}

/// Runs `count` RPCs, `concurrency` at a time, each of `size` bytes.
pub async fn run<S>(service: S, count: usize, concurrency: usize, size: usize) -> Measured
where
    S: GrpcService<Body> + Clone + Send + 'static,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Error: Send,
{
    let payload = Payload {
        bytes: vec![7; size].into(),
    };
    let start = Instant::now();
    let tasks: Vec<_> = (0..concurrency)
        .map(|n| {
            let mut client = Grpc::new(service.clone());
            let payload = payload.clone();
            // The remainder goes to the first ones.
            let mine = count / concurrency + usize::from(n < count % concurrency);
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(mine);
                let mut failed = 0;
                for _ in 0..mine {
                    let start = Instant::now();
                    match echo::call(&mut client, payload.clone()).await {
                        Ok(_) => latencies.push(start.elapsed()),
                        Err(_) => failed += 1,
                    }
                }
                (latencies, failed)
            })
        })
        .collect();
    let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are valid"));
    let (mut ok, mut failed) = (0, 0);
    for task in tasks {
        if let Ok((latencies, failures)) = task.await {
            ok += latencies.len() as u64;
            failed += failures;
            for one in latencies {
                latency.saturating_record(u64::try_from(one.as_micros()).unwrap_or(u64::MAX));
            }
        }
    }
    Measured {
        ok,
        failed,
        elapsed: start.elapsed(),
        latency,
    }
}
