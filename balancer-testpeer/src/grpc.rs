//! What gRPC puts on top of HTTP/2: length-prefixed messages and percent-encoded status text.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt::Write as _;

/// `grpc-status` OK.
pub const OK: u32 = 0;
/// `grpc-status` UNAVAILABLE.
pub const UNAVAILABLE: u32 = 14;

/// One uncompressed length-prefixed message.
///
/// ```
/// assert_eq!(&balancer_testpeer::grpc::message(b"hi")[..], b"\0\0\0\0\x02hi");
/// ```
///
/// # Panics
/// If the message is longer than its four octets of length can say.
pub fn message(body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).expect("a gRPC message is at most 4 GiB long");
    let mut out = BytesMut::with_capacity(5 + body.len());
    out.put_u8(0);
    out.put_u32(len);
    out.put_slice(body);
    out.freeze()
}

/// Takes the next whole message, without its prefix, off the front of `body`.
pub fn take_message(body: &mut BytesMut) -> Option<Bytes> {
    let prefix: [u8; 5] = body.get(..5)?.try_into().ok()?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if body.len() - 5 < len {
        return None;
    }
    body.advance(5);
    Some(body.split_to(len).freeze())
}

/// `text` as a `grpc-message` value: everything but printable ASCII, and `%`, percent-encoded.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(octet)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{octet:02X}");
            }
        }
    }
    out
}
