//! How much DATA the client lets the peer send. Kept for those who ask; nobody has to.

use crate::frame::{Frame, flag, kind, setting};
use std::collections::HashMap;

/// The window every connection and stream starts with (RFC 9113, section 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
const DEFAULT_MAX_FRAME: usize = 16_384;

#[derive(Debug)]
pub(super) struct Windows {
    connection: i64,
    initial: i64,
    /// Streams the client has opened and neither side has finished with.
    streams: HashMap<u32, i64>,
    max_frame: usize,
}

// === impl Windows ===

impl Default for Windows {
    fn default() -> Self {
        Self {
            connection: DEFAULT_WINDOW,
            initial: DEFAULT_WINDOW,
            streams: HashMap::new(),
            max_frame: DEFAULT_MAX_FRAME,
        }
    }
}

impl Windows {
    pub(super) fn received(&mut self, frame: &Frame) {
        match frame.kind {
            kind::HEADERS => {
                self.streams.entry(frame.stream).or_insert(self.initial);
            }
            kind::RST_STREAM => {
                self.streams.remove(&frame.stream);
            }
            kind::WINDOW_UPDATE => {
                let more = i64::from(frame.as_window_update().unwrap_or(0));
                if frame.stream == 0 {
                    self.connection += more;
                } else if let Some(window) = self.streams.get_mut(&frame.stream) {
                    *window += more;
                }
            }
            kind::SETTINGS => self.settings(&frame.as_settings().unwrap_or_default()),
            _ => {}
        }
    }

    pub(super) fn sent(&mut self, frame: &Frame) {
        let ends = matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.has(flag::END_STREAM);
        if frame.kind == kind::DATA {
            let spent = frame.payload.len() as i64;
            self.connection -= spent;
            if let Some(window) = self.streams.get_mut(&frame.stream) {
                *window -= spent;
            }
        }
        if ends || frame.kind == kind::RST_STREAM {
            self.streams.remove(&frame.stream);
        }
    }

    /// Octets of DATA that fit one frame on `stream` now; `None` if the stream is over.
    pub(super) fn room(&self, stream: u32) -> Option<usize> {
        let stream = *self.streams.get(&stream)?;
        let window = usize::try_from(stream.min(self.connection)).unwrap_or(0);
        Some(window.min(self.max_frame))
    }

    /// Streams that neither side has finished with.
    pub(super) fn open(&self) -> usize {
        self.streams.len()
    }

    fn settings(&mut self, values: &[(u16, u32)]) {
        for (id, value) in values {
            match *id {
                setting::INITIAL_WINDOW_SIZE => {
                    // A change moves every open window, below zero too (section 6.9.2).
                    let change = i64::from(*value) - self.initial;
                    self.initial += change;
                    self.streams
                        .values_mut()
                        .for_each(|window| *window += change);
                }
                setting::MAX_FRAME_SIZE => self.max_frame = *value as usize,
                _ => {}
            }
        }
    }
}
