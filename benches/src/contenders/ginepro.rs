//! ginepro's channel, which is on an older tonic: that one's client, with a codec of the same messages.

use std::{collections::HashSet, marker::PhantomData, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::BoxFuture};
use ginepro::{LoadBalancedChannel, LookupService, ResolutionStrategy, ServiceDefinition};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_ginepro as old;

use super::{Backends, SERVER_NAME};
use crate::{
    caller::{Caller, Conversation, Error},
    echo::{self, Payload},
};

/// tonic 0.13's client on ginepro's channel.
#[derive(Clone, Debug)]
pub struct Ginepro(old::client::Grpc<LoadBalancedChannel>);

/// The addresses that there are.
struct Fixed(HashSet<SocketAddr>);

/// tonic-prost's codec, for the older tonic.
struct Codec(PhantomData<Payload>);

struct Encoder;

struct Decoder;

/// Lets the probe connect and its first answer arrive.
const WAIT: Duration = Duration::from_secs(10);

// === impl Ginepro ===

impl Ginepro {
    /// A channel to all backends.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn connect(backends: &Backends) -> Result<Self, Error> {
        let addresses: Result<_, _> = backends.addresses.iter().map(|a| a.parse()).collect();
        let channel = LoadBalancedChannel::builder((SERVER_NAME, 443_u16))
            .lookup_service(Fixed(addresses?))
            .resolution_strategy(ResolutionStrategy::Eager { timeout: WAIT });
        let channel = match &backends.ca {
            None => channel,
            Some(ca) => {
                let ca = old::transport::Certificate::from_pem(ca);
                channel.with_tls(old::transport::ClientTlsConfig::new().ca_certificate(ca))
            }
        };
        let channel = channel.channel().await.map_err(|error| error.to_string())?;
        Ok(Self(old::client::Grpc::new(channel)))
    }
}

impl Caller for Ginepro {
    async fn unary(&mut self, payload: Payload) -> Result<Payload, Status> {
        self.0.ready().await.map_err(unready)?;
        let request = old::Request::new(payload);
        let codec = Codec(PhantomData);
        let answer = self.0.unary(request, echo::unary_path(), codec).await;
        Ok(answer.map_err(status)?.into_inner())
    }

    async fn open(&mut self) -> Result<Conversation, Status> {
        self.0.ready().await.map_err(unready)?;
        let (send, messages) = mpsc::channel(1);
        let request = old::Request::new(ReceiverStream::new(messages));
        let codec = Codec(PhantomData);
        let answer = self.0.streaming(request, echo::stream_path(), codec).await;
        let receive = answer.map_err(status)?.into_inner().map_err(status).boxed();
        Ok(Conversation { send, receive })
    }
}

fn status(old: old::Status) -> Status {
    Status::new(Code::from_i32(old.code() as i32), old.message())
}

fn unready(error: impl std::fmt::Display) -> Status {
    Status::unknown(error.to_string())
}

// === impl Fixed ===

/// What the trait's macro makes of its one method.
type Resolved = Result<HashSet<SocketAddr>, anyhow::Error>;

impl LookupService for Fixed {
    fn resolve_service_endpoints<'a, 'b, 'c>(
        &'a self,
        _: &'b ServiceDefinition,
    ) -> BoxFuture<'c, Resolved>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

// === impl Codec ===

impl old::codec::Codec for Codec {
    type Encode = Payload;
    type Decode = Payload;
    type Encoder = Encoder;
    type Decoder = Decoder;

    fn encoder(&mut self) -> Encoder {
        Encoder
    }

    fn decoder(&mut self) -> Decoder {
        Decoder
    }
}

impl old::codec::Encoder for Encoder {
    type Item = Payload;
    type Error = old::Status;

    fn encode(
        &mut self,
        item: Payload,
        buffer: &mut old::codec::EncodeBuf<'_>,
    ) -> Result<(), old::Status> {
        let encoded = item.encode(buffer);
        encoded.map_err(|error| old::Status::internal(error.to_string()))
    }
}

impl old::codec::Decoder for Decoder {
    type Item = Payload;
    type Error = old::Status;

    fn decode(
        &mut self,
        buffer: &mut old::codec::DecodeBuf<'_>,
    ) -> Result<Option<Payload>, old::Status> {
        let decoded = Payload::decode(buffer).map(Some);
        decoded.map_err(|error| old::Status::internal(error.to_string()))
    }
}
