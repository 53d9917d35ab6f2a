//! Reads header blocks, keeping the dynamic table that they build up.

use super::{huffman, static_table::STATIC_TABLE};
use crate::Headers;
use std::{collections::VecDeque, error, fmt};

/// The table size both sides start with.
const DEFAULT_TABLE_SIZE: usize = 4096;
/// What each table entry costs beyond its octets (RFC 7541, section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Decodes the header blocks of one connection, in the order they arrived.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first, as indices count.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    max_size: usize,
    /// What our SETTINGS allow `max_size` to be.
    allowed: usize,
}

/// A header block that means nothing. The connection's table is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HpackError {
    /// The block ended inside a field.
    Truncated,
    /// An integer too large to mean anything.
    IntegerOverflow,
    /// An index beyond both tables, or 0.
    BadIndex(usize),
    /// A string that is not Huffman-coded as it claims.
    BadHuffman,
    /// A table size above what was allowed, or not at the start of a block.
    BadTableSize(usize),
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max_size: DEFAULT_TABLE_SIZE,
            allowed: DEFAULT_TABLE_SIZE,
        }
    }
}

impl Decoder {
    /// A decoder for a fresh connection, with the default table of 4,096 octets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the other side use a table as large as our SETTINGS say; never less than before,
    /// because it may not have read them yet.
    pub fn allow_table_size(&mut self, octets: usize) {
        self.allowed = self.allowed.max(octets);
    }

    /// The fields of one complete block.
    ///
    /// # Errors
    /// The block is malformed. Do not use the decoder again: it no longer knows the table.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, HpackError> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                fields.push(self.entry(index)?);
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut rest, 6)?;
                self.insert(field.clone());
                fields.push(field);
            } else if first & 0x20 != 0 {
                let size = integer(&mut rest, 5)?;
                if size > self.allowed || !fields.is_empty() {
                    return Err(HpackError::BadTableSize(size));
                }
                self.max_size = size;
                self.evict_down_to(size);
            } else {
                // Without indexing and never indexed differ only for proxies.
                fields.push(self.literal(&mut rest, 4)?);
            }
        }
        Ok(fields.into_iter().collect())
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<(Vec<u8>, Vec<u8>), HpackError> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.entry(index)?.0,
        };
        Ok((name, string(rest)?))
    }

    fn entry(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), HpackError> {
        let bad = HpackError::BadIndex(index);
        let index = index.checked_sub(1).ok_or(bad)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table
            .get(index - STATIC_TABLE.len())
            .cloned()
            .ok_or(bad)
    }

    fn insert(&mut self, field: (Vec<u8>, Vec<u8>)) {
        let cost = cost(&field);
        // An entry larger than the table empties it and is not kept (RFC 7541, section 4.4).
        self.evict_down_to(self.max_size.saturating_sub(cost));
        if cost <= self.max_size {
            self.size += cost;
            self.table.push_front(field);
        }
    }

    fn evict_down_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.table.pop_back() else {
                break;
            };
            self.size -= cost(&oldest);
        }
    }
}

fn cost((name, value): &(Vec<u8>, Vec<u8>)) -> usize {
    name.len() + value.len() + ENTRY_OVERHEAD
}

fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let mask = (1_usize << prefix) - 1;
    let (first, mut tail) = rest.split_first().ok_or(HpackError::Truncated)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (octet, after) = tail.split_first().ok_or(HpackError::Truncated)?;
            tail = after;
            if shift > 28 {
                return Err(HpackError::IntegerOverflow);
            }
            value += usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Ok(value)
}

fn string(rest: &mut &[u8]) -> Result<Vec<u8>, HpackError> {
    let coded = rest.first().ok_or(HpackError::Truncated)? & 0x80 != 0;
    let len = integer(rest, 7)?;
    if rest.len() < len {
        return Err(HpackError::Truncated);
    }
    let (octets, tail) = rest.split_at(len);
    *rest = tail;
    if coded {
        huffman::decode(octets).ok_or(HpackError::BadHuffman)
    } else {
        Ok(octets.to_vec())
    }
}

// === impl HpackError ===

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the header block ends inside a field"),
            Self::IntegerOverflow => f.write_str("an integer in the header block is too large"),
            Self::BadIndex(index) => write!(f, "no field has index {index}"),
            Self::BadHuffman => f.write_str("a string is not Huffman-coded as it claims"),
            Self::BadTableSize(size) => write!(f, "a table size update to {size} is not allowed"),
        }
    }
}

impl error::Error for HpackError {}
