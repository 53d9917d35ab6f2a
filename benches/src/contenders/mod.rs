//! Whoever is measured: ours, the floors, and behind the feature `rivals` the others.

pub mod direct_h2;
pub mod direct_hyper;
#[cfg(feature = "rivals")]
pub mod ginepro;
#[cfg(feature = "rivals")]
pub mod official;
pub mod ours;
pub mod raw_h2;
pub mod raw_hyper;
#[cfg(feature = "rivals")]
pub mod tonic_channel;
#[cfg(feature = "rivals")]
pub mod tower_p2c;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{
    caller::Error,
    echo::{self, Payload},
};

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

/// gRPC's prefix of a message: a flag and its length.
const PREFIX: usize = 5;

/// A message with its prefix, for those who have no tonic.
fn frame(payload: &Payload) -> Bytes {
    let length = payload.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    payload.encode_raw(&mut frame);
    frame.freeze()
}

/// The head of every request, for those who have no tonic.
fn head(address: &str) -> Result<http::Request<()>, Error> {
    Ok(
        http::Request::post(format!("http://{address}{}", echo::UNARY))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?,
    )
}

// === impl Backends ===

impl Backends {
    /// The addresses, for a contender that has no TLS.
    ///
    /// # Errors
    /// The servers speak it.
    pub fn plaintext(&self) -> Result<&[String], Error> {
        match self.ca {
            Some(_) => Err("this contender has no TLS".into()),
            None => Ok(&self.addresses),
        }
    }
}
