//! What an operator sees of a channel: in the log, and in a snapshot.

#[path = "../support/mod.rs"]
mod support;

mod log;
mod scribe;
mod snapshot;
