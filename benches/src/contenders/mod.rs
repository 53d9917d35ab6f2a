//! Whoever is measured: each a service under tonic's client.

pub mod direct_h2;
pub mod ours;
#[cfg(feature = "rivals")]
pub mod tonic_balance;
