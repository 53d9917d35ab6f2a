//! `balancer demo --serve`: backends for experiments of one's own.

use super::{ROUND_ROBIN, target};
use crate::{
    Backend,
    exit::{Outcome, Unusable},
    output,
};

/// Says where the backends are, and serves until the process is told to stop.
pub(crate) async fn serve(backends: &[Backend]) -> Result<Outcome, Unusable> {
    let target = target(backends);
    output::say(&format!(
        "{} gRPC backends (grpc.health.v1.Health) serve until Ctrl-C. In another terminal:\n\n  \
         balancer call {target} --plaintext --count 300 \\\n      --service-config '{ROUND_ROBIN}'\n\n\
         Their target:",
        backends.len(),
    ));
    output::answer(&format!("{target}\n"))?;
    std::future::pending().await
}
