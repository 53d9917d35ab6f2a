//! Whoever is measured.

pub mod direct_h2;
pub mod ours;
#[cfg(feature = "rivals")]
pub mod tonic_balance;

use crate::caller::Error;

/// Where the servers are.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Their addresses.
    pub addresses: Vec<String>,
    /// The certificate to trust, as PEM, where they speak TLS.
    pub ca: Option<Vec<u8>>,
}

/// The name in the servers' certificate.
pub const SERVER_NAME: &str = "localhost";

// === impl Backends ===

impl Backends {
    /// For a contender that has no TLS.
    ///
    /// # Errors
    /// The servers speak it.
    pub fn plaintext_only(&self) -> Result<(), Error> {
        match self.ca {
            Some(_) => Err("this contender has no TLS".into()),
            None => Ok(()),
        }
    }
}
