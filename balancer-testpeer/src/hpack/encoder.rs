//! Writes header blocks: literals without indexing, no Huffman coding, no state.

/// A block of these fields, each a literal without indexing.
///
/// ```
/// use balancer_testpeer::hpack::{Decoder, encode};
///
/// let block = encode([(":status", "200"), ("grpc-status", "0")]);
/// let headers = Decoder::new().decode(&block).unwrap();
/// assert_eq!(headers.get("grpc-status"), Some("0"));
/// ```
pub fn encode<N, V>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8>
where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut out = Vec::new();
    for (name, value) in fields {
        encode_literal(&mut out, name.as_ref(), value.as_ref());
    }
    out
}

/// Appends one field as a literal without indexing. Octets that no header may hold are kept.
pub fn encode_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    encode_integer(out, 0, 7, name.len());
    out.extend_from_slice(name);
    encode_integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// Appends an integer with `prefix` bits in its first octet, whose other bits are `high`.
///
/// Use it to write what [`encode`] will not: indexed fields (`high` 0x80, 7 bits), insertions
/// (0x40, 6 bits), table size updates (0x20, 5 bits).
///
/// # Panics
/// If `prefix` is not between 1 and 8.
pub fn encode_integer(out: &mut Vec<u8>, high: u8, prefix: u32, value: usize) {
    assert!(
        (1..=8).contains(&prefix),
        "an HPACK prefix has 1 to 8 bits, not {prefix}"
    );
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(high | low_octet(value));
        return;
    }
    out.push(high | low_octet(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(low_octet(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_octet(rest));
}

fn low_octet(value: usize) -> u8 {
    value.to_le_bytes()[0]
}
