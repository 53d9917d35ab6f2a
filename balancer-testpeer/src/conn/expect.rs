//! Waiting for one thing in particular, and saying what came when it does not.

use super::{Conn, Event};
use crate::{PeerError, frame::GoAway};
use std::time::Duration;
use tokio::time::timeout;

impl Conn {
    /// The first event that `pick` takes: one that has gone by unclaimed, or one to come.
    ///
    /// `pick` hands back what it does not want. Requests and bodies are kept for
    /// [`next_request`](Self::next_request) and [`body`](Self::body); everything else but
    /// WINDOW_UPDATE is kept for a later `expect`, up to 1,024 events.
    ///
    /// # Errors
    /// The client closed, anything [`next_event`](Self::next_event) reports, or patience ran out.
    pub async fn expect<T>(
        &mut self,
        wanted: &str,
        mut pick: impl FnMut(Event) -> Result<T, Event>,
    ) -> Result<T, PeerError> {
        for at in 0..self.passed.len() {
            let Some(event) = self.passed.remove(at) else {
                break;
            };
            match pick(event) {
                Ok(found) => return Ok(found),
                Err(other) => self.passed.insert(at, other),
            }
        }
        self.search(wanted, pick).await
    }

    /// As [`Conn::expect`], among the events to come.
    pub(super) async fn search<T>(
        &mut self,
        wanted: &str,
        mut pick: impl FnMut(Event) -> Result<T, Event>,
    ) -> Result<T, PeerError> {
        let patience = self.patience;
        let search = async {
            loop {
                match pick(self.next_event().await?) {
                    Ok(found) => return Ok(found),
                    Err(Event::Closed) => {
                        return Err(PeerError::Closed {
                            wanted: wanted.into(),
                        });
                    }
                    Err(other) => self.stash(other),
                }
            }
        };
        match patience {
            None => search.await,
            Some(after) => timeout(after, search).await.unwrap_or_else(|_| {
                Err(PeerError::TimedOut {
                    wanted: wanted.into(),
                    after,
                })
            }),
        }
    }

    /// Waits for the client's SETTINGS.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_settings(&mut self) -> Result<Vec<(u16, u32)>, PeerError> {
        self.expect("SETTINGS", |event| match event {
            Event::Settings(values) => Ok(values),
            other => Err(other),
        })
        .await
    }

    /// Waits for the client's acknowledgement of our SETTINGS.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_settings_ack(&mut self) -> Result<(), PeerError> {
        self.expect("an acknowledgement of SETTINGS", |event| match event {
            Event::SettingsAck => Ok(()),
            other => Err(other),
        })
        .await
    }

    /// Waits for a PING.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_ping(&mut self) -> Result<[u8; 8], PeerError> {
        self.expect("a PING", |event| match event {
            Event::Ping(opaque) => Ok(opaque),
            other => Err(other),
        })
        .await
    }

    /// Waits for the answer to a PING with these octets.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_pong(&mut self, opaque: [u8; 8]) -> Result<(), PeerError> {
        self.expect("the answer to a PING", |event| match event {
            Event::Pong(got) if got == opaque => Ok(()),
            other => Err(other),
        })
        .await
    }

    /// Waits for the client to reset `stream`; answers its code.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_reset(&mut self, stream: u32) -> Result<u32, PeerError> {
        self.expect("RST_STREAM", |event| match event {
            Event::Reset { stream: got, code } if got == stream => Ok(code),
            other => Err(other),
        })
        .await
    }

    /// Waits for the client's GOAWAY.
    ///
    /// # Errors
    /// As for [`expect`](Self::expect).
    pub async fn expect_goaway(&mut self) -> Result<GoAway, PeerError> {
        self.expect("GOAWAY", |event| match event {
            Event::GoAway(goaway) => Ok(goaway),
            other => Err(other),
        })
        .await
    }

    /// Waits for the client to close or reset the connection; forgets what comes before.
    ///
    /// # Errors
    /// The client broke the protocol first, or patience ran out.
    pub async fn expect_closed(&mut self) -> Result<(), PeerError> {
        let closed = self.expect("the end of the connection", |event| match event {
            Event::Closed => Ok(()),
            other => Err(other),
        });
        match closed.await {
            Err(error) if error.is_disconnect() => Ok(()),
            other => other,
        }
    }

    /// Makes sure that nothing at all comes for `quiet`: no event and no end.
    ///
    /// # Errors
    /// Something came; the error shows it.
    pub async fn expect_silence(&mut self, quiet: Duration) -> Result<(), PeerError> {
        match timeout(quiet, self.next_event()).await {
            Err(_) => Ok(()),
            Ok(event) => Err(PeerError::Unexpected {
                wanted: format!("silence for {quiet:?}"),
                got: format!("{:?}", event?),
            }),
        }
    }
}
