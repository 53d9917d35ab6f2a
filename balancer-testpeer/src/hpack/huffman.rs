//! Undoing HPACK's Huffman code.
//!
//! The code is canonical (RFC 7541, appendix B): codes of one length are consecutive and run in
//! symbol order, so the lengths alone give the whole code.

use std::sync::LazyLock;

/// End of string: the symbol that pads and must never be sent.
const EOS: usize = 256;
const LONGEST: usize = 30;

/// Code length of each octet, then of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5,
    5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6,
    6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
    22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
    24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27,
    26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27,
    27, 27, 27, 27, 26, 30,
];

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

struct Code {
    /// Symbols by (length, symbol).
    symbols: Vec<u16>,
    /// For each length: its first code, how many it has, and where they start in `symbols`.
    lengths: [(u32, u32, usize); LONGEST + 1],
}

/// The octets that `coded` stands for, or `None` if it is not a legal code string.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut bits, mut len) = (0_u32, 0_usize);
    for octet in coded {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(octet >> shift & 1);
            len += 1;
            if let Some(symbol) = CODE.symbol(bits, len) {
                // EOS itself is 256 and does not fit an octet.
                out.push(u8::try_from(symbol).ok()?);
                (bits, len) = (0, 0);
            } else if len == LONGEST {
                return None;
            }
        }
    }
    // What is left is padding: at most seven bits, all ones.
    (len < 8 && bits == (1 << len) - 1).then_some(out)
}

// === impl Code ===

impl Code {
    fn new() -> Self {
        let mut symbols: Vec<u16> = (0..=256).collect();
        debug_assert_eq!(symbols.len(), EOS + 1);
        symbols.sort_by_key(|s| (LENGTHS[usize::from(*s)], *s));
        let mut lengths = [(0, 0, 0); LONGEST + 1];
        let (mut next, mut start) = (0_u32, 0_usize);
        for (len, entry) in lengths.iter_mut().enumerate() {
            next <<= 1;
            let count = LENGTHS
                .iter()
                .filter(|l| usize::from(**l) == len && len > 0)
                .count();
            let codes = u32::try_from(count).unwrap_or_default();
            *entry = (next, codes, start);
            next += codes;
            start += count;
        }
        Self { symbols, lengths }
    }

    fn symbol(&self, bits: u32, len: usize) -> Option<u16> {
        let (first, count, start) = self.lengths[len];
        let nth = bits.checked_sub(first).filter(|n| *n < count)?;
        Some(self.symbols[start + nth as usize])
    }
}
