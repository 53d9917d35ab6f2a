//! The demo's plot: steady load, a death, a return.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use balancer_api::ConnectivityState;
use balancer_channel::Channel;

use super::{
    load::Load,
    screen::Screen,
    verdict::{Evidence, Verdict, is_even, judge, spread},
};
use crate::{Backend, exit::Unusable, observe::Tally};

/// RPCs per second.
const RATE: f64 = 300.0;
const BEFORE: Duration = Duration::from_secs(2);
const DOWN: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_millis(2500);
/// The back-off is at most 1.2 s; on a machine that has other things to do, everything takes longer.
const LONGEST_RETURN: Duration = Duration::from_secs(4);
/// What an onlooker has patience for.
const LONGEST_STORY: Duration = Duration::from_secs(12);
const _: () = assert!(
    BEFORE.as_millis() + DOWN.as_millis() + LONGEST_RETURN.as_millis() + AFTER.as_millis()
        <= LONGEST_STORY.as_millis()
);
const FRAME: Duration = Duration::from_millis(50);

/// The stage: what the plot moves and the screen shows.
struct Stage<'a> {
    backends: Vec<Backend>,
    channel: Channel,
    load: Load,
    screen: Screen,
    tally: &'a Tally,
}

/// Runs the demo and judges it. Shows it on the way unless it is `quiet`.
pub(crate) async fn tell(
    backends: Vec<Backend>,
    channel: Channel,
    tally: &Tally,
    quiet: bool,
) -> Result<Verdict, Unusable> {
    let load = Load::new();
    let stage = Stage {
        backends,
        channel: channel.clone(),
        load: load.clone(),
        screen: Screen::new(quiet),
        tally,
    };
    let sending = load.run(channel, RATE);
    let ((), verdict) = tokio::join!(sending, stage.play());
    verdict
}

// === impl Stage ===

impl Stage<'_> {
    async fn play(mut self) -> Result<Verdict, Unusable> {
        let started = Instant::now();
        let backends: Vec<String> = self.backends.iter().map(|b| b.addr().to_string()).collect();
        let victim = backends.len() / 2;
        let killed = backends[victim].clone();
        self.screen.event(&format!(
            "{} gRPC backends on loopback, {RATE} RPCs per second, policy round_robin",
            backends.len()
        ));
        self.watch(tokio::time::sleep(BEFORE)).await;

        self.screen.event(&format!(
            "KILL {killed}: its listener closes, its connections are reset"
        ));
        let in_flight_at_kill = self.backends[victim].kill().await;
        self.watch(tokio::time::sleep(DOWN)).await;

        self.screen
            .event(&format!("RESTART {killed} on the same port"));
        let restarted = Instant::now();
        let listens = self.backends[victim].restart().await;
        listens.map_err(|error| Unusable::new(format!("{killed} cannot restart: {error}")))?;
        let ready_after = self.watch_return(&killed, restarted).await;

        self.watch(tokio::time::sleep(AFTER)).await;
        self.load.stop();
        self.finish().await;
        let elapsed = started.elapsed();

        let evidence = Evidence {
            starts: self.load.starts(),
            attempts: self.tally.log(),
            failures: self.load.failures(),
            loss_known: self.tally.left(&killed),
        };
        let errors = judge(&evidence, &killed);
        let spread = spread(&evidence, &backends, &killed, restarted);
        let avoidable = errors.iter().filter(|lost| lost.avoidable).count() as u64;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Verdict {
            backends,
            killed,
            rpcs: self.load.started(),
            ok: self.load.ok(),
            lost_unavoidably: errors.len() as u64 - avoidable,
            lost_avoidably: avoidable,
            in_flight_at_kill,
            ready_after_restart_ms: ready_after.map(ms),
            even_again: is_even(&spread.after),
            spread,
            elapsed_ms: ms(elapsed),
            errors,
        })
    }

    /// Shows what happens until `scene` is over.
    async fn watch(&mut self, scene: impl Future<Output = ()>) {
        let mut frames = tokio::time::interval(FRAME);
        tokio::pin!(scene);
        loop {
            tokio::select! {
                () = &mut scene => return,
                _ = frames.tick() => self.show(),
            }
        }
    }

    /// Waits for the channel to have the backend back; answers how long that took.
    async fn watch_return(&mut self, address: &str, since: Instant) -> Option<Duration> {
        let channel = self.channel.clone();
        let mut back = None;
        let scene = async {
            while back.is_none() && since.elapsed() < LONGEST_RETURN {
                let is_ready = channel.snapshot().sub_conns.iter().any(|sub_conn| {
                    sub_conn.state == ConnectivityState::Ready
                        && sub_conn.addresses.iter().any(|a| a.addr() == address)
                });
                if is_ready {
                    back = Some(since.elapsed());
                } else {
                    tokio::time::sleep(FRAME / 5).await;
                }
            }
        };
        self.watch(scene).await;
        self.show();
        back
    }

    /// Lets the last RPCs end.
    async fn finish(&mut self) {
        let load = self.load.clone();
        let scene = async move {
            let ended = |load: &Load| load.ok() + load.failures().len() as u64;
            while ended(&load) < load.started() {
                tokio::time::sleep(FRAME / 5).await;
            }
        };
        self.watch(scene).await;
        self.show();
        self.screen.end();
        self.channel.close().await;
    }

    fn show(&mut self) {
        let snapshot = self.channel.snapshot();
        let counts = self.counts();
        self.screen
            .show(&snapshot, &counts, &self.backends, &self.load);
    }

    /// How many RPCs each backend has been given, by its own count.
    fn counts(&self) -> Vec<u64> {
        self.backends.iter().map(Backend::begun).collect()
    }
}
