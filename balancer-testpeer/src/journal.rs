//! What a peer saw: every connection, with times, streams and frames counted.

use crate::frame::{Frame, GoAway, flag, kind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{sync::Notify, time::Instant};

/// What one peer has seen since it started.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Every connection accepted, in order.
    pub connections: Vec<ConnectionRecord>,
}

/// What came over one connection. Times are tokio's, so they follow a paused clock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionRecord {
    /// When it was accepted.
    pub accepted_at: Instant,
    /// When the peer was done with it, by its own will or not.
    pub ended_at: Option<Instant>,
    /// Why the peer was done with it, if it was not the script's end.
    pub error: Option<String>,
    /// Octets read.
    pub octets: u64,
    /// Streams opened by a HEADERS frame, in order.
    pub streams: Vec<u32>,
    /// The most streams that were open at once: opened, and neither answered nor reset. Compare it
    /// with MAX_CONCURRENT_STREAMS.
    pub peak_streams: usize,
    /// HEADERS frames read: requests and trailers.
    pub headers: u64,
    /// DATA frames read.
    pub data: u64,
    /// When each PING that asked for an answer came.
    pub pings: Vec<Instant>,
    /// SETTINGS frames read that were not acknowledgements.
    pub settings: u64,
    /// SETTINGS acknowledgements read.
    pub settings_acks: u64,
    /// RST_STREAM frames read, as (stream, code).
    pub resets: Vec<(u32, u32)>,
    /// GOAWAY frames read.
    pub goaways: Vec<GoAway>,
}

/// The live journal, shared by a peer's connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journals(Arc<Shared>);

/// One connection's pen. Dropping it notes the connection's end.
#[derive(Debug)]
pub(crate) struct Recorder {
    journals: Journals,
    index: usize,
}

#[derive(Debug, Default)]
struct Shared {
    journal: Mutex<Journal>,
    changed: Notify,
}

// === impl Journal ===

impl Journal {
    /// Connections accepted.
    pub fn accepted(&self) -> usize {
        self.connections.len()
    }

    /// Connections the peer is not done with.
    pub fn open(&self) -> usize {
        self.connections
            .iter()
            .filter(|c| c.ended_at.is_none())
            .count()
    }

    /// When each connection was accepted.
    pub fn accept_times(&self) -> Vec<Instant> {
        self.connections.iter().map(|c| c.accepted_at).collect()
    }

    /// Streams opened, over all connections.
    pub fn streams(&self) -> usize {
        self.connections.iter().map(|c| c.streams.len()).sum()
    }

    /// HEADERS frames read, over all connections.
    pub fn headers(&self) -> u64 {
        self.connections.iter().map(|c| c.headers).sum()
    }

    /// PINGs read, over all connections.
    pub fn pings(&self) -> usize {
        self.connections.iter().map(|c| c.pings.len()).sum()
    }

    /// RST_STREAMs read, over all connections.
    pub fn resets(&self) -> usize {
        self.connections.iter().map(|c| c.resets.len()).sum()
    }
}

// === impl ConnectionRecord ===

impl ConnectionRecord {
    fn new() -> Self {
        Self {
            accepted_at: Instant::now(),
            ended_at: None,
            error: None,
            octets: 0,
            streams: Vec::new(),
            peak_streams: 0,
            headers: 0,
            data: 0,
            pings: Vec::new(),
            settings: 0,
            settings_acks: 0,
            resets: Vec::new(),
            goaways: Vec::new(),
        }
    }

    fn read(&mut self, frame: &Frame) {
        match frame.kind {
            kind::HEADERS => {
                self.headers += 1;
                // Stream ids only grow; a second HEADERS on a stream is its trailers.
                if self.streams.last().is_none_or(|last| frame.stream > *last) {
                    self.streams.push(frame.stream);
                }
            }
            kind::DATA => self.data += 1,
            kind::PING if !frame.has(flag::ACK) => self.pings.push(Instant::now()),
            kind::SETTINGS if frame.has(flag::ACK) => self.settings_acks += 1,
            kind::SETTINGS => self.settings += 1,
            _ => {}
        }
        if let Some(code) = frame.as_rst_stream() {
            self.resets.push((frame.stream, code));
        }
        self.goaways.extend(frame.as_goaway());
    }
}

// === impl Journals ===

impl Journals {
    pub(crate) fn open(&self) -> Recorder {
        let mut journal = self.lock();
        let index = journal.connections.len();
        journal.connections.push(ConnectionRecord::new());
        drop(journal);
        self.0.changed.notify_waiters();
        Recorder {
            journals: self.clone(),
            index,
        }
    }

    /// Notes why connection `number` was given up.
    pub(crate) fn failed(&self, number: usize, error: String) {
        if let Some(record) = self.lock().connections.get_mut(number - 1) {
            record.error = Some(error);
        }
        self.0.changed.notify_waiters();
    }

    pub(crate) fn snapshot(&self) -> Journal {
        self.lock().clone()
    }

    pub(crate) async fn until(&self, mut happened: impl FnMut(&Journal) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Enabled before the look, so that no change falls between look and wait.
            changed.as_mut().enable();
            if happened(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        // A test's predicate may have panicked under the lock; the records are still whole.
        self.0
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Recorder ===

impl Recorder {
    /// Counts from 1, as scripts do.
    pub(crate) fn number(&self) -> usize {
        self.index + 1
    }

    /// Notes a frame, and how many streams are open after it.
    pub(crate) fn frame(&self, frame: &Frame, open: usize) {
        self.update(|record| {
            record.read(frame);
            record.peak_streams = record.peak_streams.max(open);
        });
    }

    pub(crate) fn octets(&self, count: usize) {
        self.update(|record| record.octets += count as u64);
    }

    fn update(&self, change: impl FnOnce(&mut ConnectionRecord)) {
        change(&mut self.journals.lock().connections[self.index]);
        self.journals.0.changed.notify_waiters();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.update(|record| record.ended_at = Some(Instant::now()));
    }
}
