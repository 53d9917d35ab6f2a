//! HPACK (RFC 7541): a decoder that is right, and an encoder that is deliberately plain.
//!
//! The decoder keeps the dynamic table and undoes Huffman coding, so it reads what any client
//! sends. The encoder writes every field as a literal without indexing, so a header block means
//! the same wherever it is sent, and a hand-made frame never desynchronises the client's table.

mod decoder;
mod encoder;
mod huffman;
mod static_table;

pub use decoder::{Decoder, HpackError};
pub use encoder::{encode, encode_integer, encode_literal};
