//! A thousand connections, made and then left alone.

use std::time::{Duration, Instant};

use balancer_api::ConnectivityState;
use balancer_channel::{Backoff, Channel};
use futures_util::{StreamExt, stream};

use crate::{
    caller::Error,
    clock,
    contenders::{Backends, raw_h2},
};

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This workspace's channel, `round_robin`.
    Ours,
    /// `h2` by itself, as many at a time, each until the peer's SETTINGS are there, as READY asks.
    BareH2,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From the first dial to the last connection that may be used.
    pub wall: Duration,
    /// Of this process.
    pub cpu: Duration,
}

/// As many attempts as a channel has under way at a time.
const AT_A_TIME: usize = 64;

/// Connects to every address.
///
/// # Errors
/// One of them fails.
pub async fn connect(who: Who, addresses: Vec<String>) -> Result<Cost, Error> {
    let cpu = || clock::cpu().ok_or("no CPU time");
    let (started, before) = (Instant::now(), cpu()?);
    let spent = |after: Duration| Cost {
        wall: started.elapsed(),
        cpu: after.saturating_sub(before),
    };
    let wanted = addresses.len();
    match who {
        Who::Ours => {
            let channel = crate::contenders::ours::connect(&plain(addresses)).await?;
            let cost = spent(cpu()?);
            let ready = channel.snapshot().sub_conns;
            let ready = ready.iter().filter(|one| one.connected.is_some()).count();
            if ready != wanted {
                return Err(format!("{ready} of {wanted} are connected").into());
            }
            Ok(cost)
        }
        Who::BareH2 => {
            let all = stream::iter(&addresses).map(|address| raw_h2::connect_settled(address));
            let all = all.buffer_unordered(AT_A_TIME);
            let all: Vec<_> = all.collect().await;
            let held: Vec<_> = all.into_iter().collect::<Result<_, _>>()?;
            let cost = spent(cpu()?);
            drop(held);
            Ok(cost)
        }
    }
}

/// CPU of this process while a channel has nothing to do: all its backends are there, or, if `down`,
/// all are waited for.
///
/// # Errors
/// The channel cannot be built or connected.
pub async fn idle(addresses: Vec<String>, down: bool, rest: Duration) -> Result<Duration, Error> {
    let channel = match down {
        false => crate::contenders::ours::connect(&plain(addresses)).await?,
        true => {
            // Longer than anybody looks.
            let backoff = Backoff::default().with_initial(rest * 4);
            let channel = Channel::builder(format!("ipv4:{}", addresses.join(",")))
                .plaintext()
                .default_service_config(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#)
                .backoff(backoff)
                .build()?;
            let mut states = channel.states();
            channel.state(true);
            while states.next().await != Some(ConnectivityState::TransientFailure) {}
            channel
        }
    };
    // What is still under way ends.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = clock::cpu().ok_or("no CPU time")?;
    tokio::time::sleep(rest).await;
    let after = clock::cpu().ok_or("no CPU time")?;
    drop(channel);
    Ok(after.saturating_sub(before))
}

fn plain(addresses: Vec<String>) -> Backends {
    Backends {
        addresses,
        ca: None,
    }
}
