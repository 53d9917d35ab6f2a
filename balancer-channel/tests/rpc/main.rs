//! What a channel does for an RPC besides balancing it: retries, hedging, limits, credentials; over
//! connections to scripted servers, most of them under a paused clock.

#[path = "../support/mod.rs"]
mod support;

mod credentials;
mod hedging;
mod limits;
mod picks;
mod policy_calls;
mod retry;
mod retry_limits;
mod secured;
mod stage;
mod throttling;
mod waiting;
