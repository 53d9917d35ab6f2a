//! The load report that a server may send in its trailers (ORCA).

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::HeaderMap;

const TRAILER: &str = "endpoint-load-metrics-bin";

/// Binary metadata is base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The raw bytes of the report's protobuf message, if there is one.
pub(crate) fn load_report(trailers: &HeaderMap) -> Option<Bytes> {
    BASE64
        .decode(trailers.get(TRAILER)?.as_bytes())
        .ok()
        .map(Bytes::from)
}
