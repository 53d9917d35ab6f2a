//! HTTP/2 error codes (RFC 9113, section 7), for RST_STREAM and GOAWAY.

/// Nothing went wrong.
pub const NO_ERROR: u32 = 0x0;
/// The other side broke the protocol.
pub const PROTOCOL_ERROR: u32 = 0x1;
/// This side broke.
pub const INTERNAL_ERROR: u32 = 0x2;
/// A window was overrun.
pub const FLOW_CONTROL_ERROR: u32 = 0x3;
/// SETTINGS were not acknowledged in time.
pub const SETTINGS_TIMEOUT: u32 = 0x4;
/// A frame for a stream that was half-closed.
pub const STREAM_CLOSED: u32 = 0x5;
/// A frame of the wrong size.
pub const FRAME_SIZE_ERROR: u32 = 0x6;
/// The stream was not processed at all.
pub const REFUSED_STREAM: u32 = 0x7;
/// The stream is no longer wanted.
pub const CANCEL: u32 = 0x8;
/// The header compression state was lost.
pub const COMPRESSION_ERROR: u32 = 0x9;
/// A CONNECT tunnel broke.
pub const CONNECT_ERROR: u32 = 0xa;
/// The other side is too greedy.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;
/// TLS is not good enough.
pub const INADEQUATE_SECURITY: u32 = 0xc;
/// Use HTTP/1.1.
pub const HTTP_1_1_REQUIRED: u32 = 0xd;

/// Every code the RFC names, in order, and one it does not: the rows of a status-mapping test.
pub const ALL_AND_ONE_UNKNOWN: [u32; 15] = [
    0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xa, 0xb, 0xc, 0xd, 0xbad,
];
