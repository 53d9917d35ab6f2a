//! `balancer demo`: round_robin carries load through the loss and the return of a backend.

mod load;
mod screen;
mod serve;
mod story;
#[cfg(test)]
mod tests;
mod verdict;

use std::{sync::Arc, time::Duration};

use balancer_channel::{Backoff, Channel};

use crate::{
    Backend,
    args::DemoArgs,
    exit::{Outcome, Unusable},
    interrupt,
    observe::{self, Tally},
    output,
};

pub(crate) const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// What a backend takes for an RPC: long enough for some to be under way when it dies.
const WORK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &DemoArgs) -> Result<Outcome, Unusable> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Unusable::new(format!("no threads to work with: {error}")))?;
    let outcome = runtime.block_on(async {
        let interrupted = interrupt::listen();
        tokio::select! {
            outcome = demo(args) => outcome,
            () = interrupted => {
                output::say("interrupted");
                Ok(if args.serve { Outcome::Good } else { Outcome::Interrupted })
            }
        }
    });
    runtime.shutdown_background();
    outcome
}

async fn demo(args: &DemoArgs) -> Result<Outcome, Unusable> {
    if args.backends < 2 && !args.serve {
        let why = "--backends 1: when the only one dies, there is nobody to carry the load";
        return Err(Unusable::new(why));
    }
    let work = if args.serve { Duration::ZERO } else { WORK };
    let mut backends = Vec::new();
    for _ in 0..args.backends {
        let backend = Backend::start_with(work).await;
        let backend =
            backend.map_err(|error| Unusable::new(format!("a backend cannot start: {error}")))?;
        backends.push(backend);
    }
    if args.serve {
        return serve::serve(&backends).await;
    }
    let tally = Arc::new(Tally::default());
    let channel = Channel::builder(target(&backends))
        .plaintext()
        .default_service_config(ROUND_ROBIN)
        .registry(observe::registry(&tally))
        // Every backend gets its share from the first RPC on.
        .warm_up(Duration::from_secs(5))
        // Nobody likes to wait in a demonstration; gRPC's own back-off starts at 1 s.
        .backoff(
            Backoff::default()
                .with_initial(Duration::from_millis(500))
                .with_max(Duration::from_secs(1)),
        )
        .build()
        .map_err(Unusable::new)?;
    let verdict = story::tell(backends, channel, &tally, args.json).await?;
    if args.json {
        output::answer_json(&verdict)?;
    } else {
        output::answer(&verdict.for_people())?;
    }
    Ok(match verdict.is_good() {
        true => Outcome::Good,
        false => Outcome::Bad,
    })
}

/// The backends as a target.
pub(crate) fn target(backends: &[Backend]) -> String {
    let addresses: Vec<String> = backends.iter().map(|b| b.addr().to_string()).collect();
    format!("ipv4:{}", addresses.join(","))
}
