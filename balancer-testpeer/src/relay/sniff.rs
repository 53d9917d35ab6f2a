//! Finds frame headers in a client's octets, whatever pieces they come in.

use crate::frame::{HEADER_LEN, PREFACE, kind};

/// Follows one client's octets from the first.
#[derive(Debug)]
pub(super) struct Sniffer {
    /// Octets to pass over: the preface, then each payload.
    skip: usize,
    header: Vec<u8>,
}

// === impl Sniffer ===

impl Sniffer {
    pub(super) fn new() -> Self {
        Self {
            skip: PREFACE.len(),
            header: Vec::with_capacity(HEADER_LEN),
        }
    }

    /// Takes the next octets; calls `opened` with each stream that a HEADERS frame names.
    pub(super) fn feed(&mut self, mut octets: &[u8], mut opened: impl FnMut(u32)) {
        while !octets.is_empty() {
            let passed = self.skip.min(octets.len());
            self.skip -= passed;
            octets = &octets[passed..];
            let wanted = (HEADER_LEN - self.header.len()).min(octets.len());
            if self.skip > 0 {
                return;
            }
            self.header.extend_from_slice(&octets[..wanted]);
            octets = &octets[wanted..];
            if let [a, b, c, kind, _, id @ ..] = &self.header[..]
                && let Ok(id) = <[u8; 4]>::try_from(id)
            {
                self.skip = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if *kind == kind::HEADERS {
                    opened(u32::from_be_bytes(id) & 0x7fff_ffff);
                }
                self.header.clear();
            }
        }
    }
}
