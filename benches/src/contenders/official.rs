//! The official `grpc` crate as it is published: one backend, by `pick_first`.
//!
//! Its public interface cannot choose `round_robin`, and it leaves Nagle's algorithm on.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use grpc::{
    client::{
        CallOptions, Channel, ChannelOptions, Invoke, RecvStream, ResponseStreamItem, SendOptions,
        SendStream,
    },
    core::{RecvMessage, RequestHeaders, SendMessage},
    credentials::LocalChannelCredentials,
};
use prost::Message;
use tonic::Status;

use crate::{
    caller::{Caller, Error},
    echo::{self, Payload},
};

/// The channel.
#[derive(Clone)]
pub struct Official(Arc<Channel>);

struct Sent(Payload);

#[derive(Default)]
struct Received(Payload);

// === impl Official ===

impl Official {
    /// A channel to the first of the addresses.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(addresses: &[String]) -> Result<Self, Error> {
        let first = addresses.first().ok_or("no backend")?;
        Ok(Self(Arc::new(Channel::new(
            format!("dns:///{first}"),
            LocalChannelCredentials::new_arc(),
            ChannelOptions::default(),
        ))))
    }
}

impl Caller for Official {
    async fn unary(&mut self, payload: Payload) -> Result<Payload, Status> {
        let headers = RequestHeaders::new().with_method_name(echo::UNARY);
        let (mut send, mut receive) = self.0.invoke(headers, CallOptions::new()).await;
        let last = SendOptions::new().with_final_msg(true);
        let sent = send.send(&Sent(payload), last).await;
        let mut answer = Received::default();
        loop {
            match receive.recv(&mut answer).await {
                ResponseStreamItem::Headers(_) | ResponseStreamItem::Message => {}
                ResponseStreamItem::Trailers(trailers) => {
                    let failed =
                        |error: &dyn std::fmt::Debug| Status::unknown(format!("{error:?}"));
                    trailers.into_status().map_err(|error| failed(&error))?;
                    sent.map_err(|()| Status::unknown("the message was not sent"))?;
                    return Ok(answer.0);
                }
                ResponseStreamItem::StreamClosed => {
                    return Err(Status::unknown("closed without a status"));
                }
            }
        }
    }
}

impl std::fmt::Debug for Official {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Official")
    }
}

// === impl Sent, Received ===

impl SendMessage for Sent {
    fn encode(&self) -> Result<Box<dyn Buf + Send + Sync>, String> {
        Ok(Box::new(Bytes::from(self.0.encode_to_vec())))
    }
}

impl RecvMessage for Received {
    fn decode(&mut self, data: &mut dyn Buf) -> Result<(), String> {
        self.0 = Payload::decode(data).map_err(|error| error.to_string())?;
        Ok(())
    }
}
