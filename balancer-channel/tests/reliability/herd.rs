//! Many channels whose backend goes away and comes back.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use balancer_api::{Dialer, Io};
use balancer_channel::Channel;
use balancer_testpeer::{Backend, Ending, Server};
use tokio::time::{Instant, sleep};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    backends::{ROUND_ROBIN, end},
    report::{Size, row},
    support::{echo, text},
};

/// How many channels.
const HERD: usize = 500;

/// In which dials are counted together, wherever it begins.
const WINDOW: Duration = Duration::from_millis(100);

/// The backend stays away for as long as four attempts take.
const AWAY: Duration = Duration::from_secs(7);

/// The backend of all of them.
struct Place {
    server: Server,
    up: AtomicBool,
}

/// One channel's way to it.
struct Way {
    place: Arc<Place>,
    dials: Mutex<Vec<Instant>>,
}

#[async_trait::async_trait]
impl Dialer for Way {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        let now = Instant::now();
        self.dials.lock().expect("never poisoned").push(now);
        match self.place.up.load(SeqCst) {
            true => Ok(Box::new(self.place.server.connect().compat())),
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// Row 24.
///
/// A connection that was good is dialled again at once, by all. From then on chance decides: the second
/// attempt comes a second later, give or take a fifth. That is 0.4 s for all of them, so a window of
/// 100 ms has a quarter of them, and no dice make it less. The third is spread by two such waits, 0.4
/// s and 0.64 s wide, and no window has more than 100/640, which is 16 %; later ones have less.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
#[ignore = "a row of cargo xtask reliability"]
async fn a_backend_of_many_restarts() {
    let restarts = Size::asked().of(2, 10, 20);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::seed(seed);
    let place = Arc::new(Place {
        server: Server::in_memory(Backend::new("one")),
        up: AtomicBool::new(true),
    });
    let way = || {
        Arc::new(Way {
            place: place.clone(),
            dials: Mutex::default(),
        })
    };
    let herd: Vec<(Arc<Way>, Channel)> = (0..HERD)
        .map(|_| {
            let way = way();
            let channel = Channel::builder("ipv4:10.0.0.1:1")
                .plaintext()
                .dialer(way.clone())
                .default_service_config(ROUND_ROBIN);
            (way, channel.build().expect("a channel"))
        })
        .collect();

    // By attempt, when it was made, of all channels and restarts.
    let mut attempts: Vec<Vec<Duration>> = Vec::new();
    let mut worst = 0;
    for _ in 0..restarts {
        for (_, channel) in &herd {
            // Proves the connection, so that its loss is not held against it.
            channel.connect().await.expect("it is up");
            echo(channel, text("hello")).await.expect("served");
        }
        herd.iter()
            .for_each(|(way, _)| way.dials.lock().expect("never poisoned").clear());
        let restart = Instant::now();
        place.up.store(false, SeqCst);
        place.server.kill(Ending::Reset).await;
        sleep(AWAY).await;
        let mut now: Vec<Vec<Duration>> = Vec::new();
        for (way, _) in &herd {
            let dials = way.dials.lock().expect("never poisoned").clone();
            now.resize(now.len().max(dials.len()), Vec::new());
            for (n, dial) in dials.iter().enumerate() {
                now[n].push(*dial - restart);
            }
        }
        worst = worst.max(now.iter_mut().skip(2).map(|at| peak(at)).max().unwrap_or(0));
        attempts.resize(attempts.len().max(now.len()), Vec::new());
        for (all, now) in attempts.iter_mut().zip(now) {
            all.extend(now);
        }
        place.up.store(true, SeqCst);
        sleep(AWAY * 2).await;
    }
    for (_, channel) in herd {
        end(channel).await;
    }

    let all = HERD * restarts;
    let shares: Vec<f64> = attempts
        .iter_mut()
        .map(|at| peak(at) as f64 / all as f64)
        .collect();
    let percent: Vec<String> = shares
        .iter()
        .map(|s| format!("{:.0} %", s * 100.0))
        .collect();
    let measured = format!(
        "{} at the attempts 1 to {}, of {restarts} restarts together; {:.0} % in the worst one from the third on",
        percent.join(", "),
        shares.len(),
        worst as f64 / HERD as f64 * 100.0
    );
    let fits = shares.len() >= 4
        && attempts[..4].iter().all(|at| at.len() == all)
        && shares[1] <= 0.25 + by_chance(0.25, all)
        && shares[2..].iter().all(|share| *share <= 0.20);
    row("24", measured, fits);
}

/// The most within one window.
fn peak(at: &mut [Duration]) -> usize {
    at.sort_unstable();
    let within = |(first, from): (usize, &Duration)| {
        let end = at.partition_point(|other| *other < *from + WINDOW);
        end - first
    };
    at.iter().enumerate().map(within).max().unwrap_or(0)
}

/// Six standard deviations of a share of `all`: so far chance may go, with windows that begin anywhere.
fn by_chance(share: f64, all: usize) -> f64 {
    6.0 * (share * (1.0 - share) / all as f64).sqrt()
}
