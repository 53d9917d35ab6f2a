//! From HTTP to gRPC: what error codes, HTTP statuses and trailers mean.

use std::borrow::Cow;

use balancer_api::{Code, Status};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::shared::{ReasonName, Shared};
use crate::headers::find;

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// As tonic reads `grpc-status-details-bin`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The status of an RPC whose stream ended with `error`.
pub(super) fn of_stream_error(error: &h2::Error, shared: &Shared) -> Status {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Status::new(
            code_of_reason(reason),
            format!("server reset the stream: {}", ReasonName(reason)),
        ),
        Some(reason) if error.is_reset() => Status::new(
            code_of_reason(reason),
            format!("stream reset: {}", ReasonName(reason)),
        ),
        // The stream was above what the peer's GOAWAY promised.
        _ if error.is_go_away() && error.is_remote() => shared.lost(),
        // The peer broke the protocol, or the connection ended.
        _ => shared.broken(),
    }
}

/// The gRPC table of HTTP/2 error codes. STREAM_CLOSED, HTTP_1_1_REQUIRED and unknown codes are not
/// in it.
pub(super) fn code_of_reason(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::NO_ERROR
        | h2::Reason::PROTOCOL_ERROR
        | h2::Reason::INTERNAL_ERROR
        | h2::Reason::FLOW_CONTROL_ERROR
        | h2::Reason::SETTINGS_TIMEOUT
        | h2::Reason::FRAME_SIZE_ERROR
        | h2::Reason::COMPRESSION_ERROR
        | h2::Reason::CONNECT_ERROR => Code::Internal,
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

/// The gRPC table of HTTP statuses.
pub(super) fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What is wrong with a response that says nothing of gRPC: its HTTP status or its content type.
pub(super) fn of_foreign_response(status: StatusCode, headers: &HeaderMap) -> Option<Status> {
    let content_type = find(headers, &http::header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| is_grpc_content_type(value.as_bytes()));
    if status == StatusCode::OK && is_grpc {
        return None;
    }
    let shown = content_type.map_or(Cow::Borrowed("none"), |value| {
        let bytes = value.as_bytes();
        Cow::Owned(bytes[..bytes.len().min(64)].escape_ascii().to_string())
    });
    Some(Status::new(
        code_of_http(status),
        format!(
            "not a gRPC response: HTTP status {}, content-type {shown}",
            status.as_u16()
        ),
    ))
}

/// `application/grpc`, alone or followed by `+proto` or `;…`, in any case.
fn is_grpc_content_type(value: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    if value == GRPC {
        return true;
    }
    match value.split_at_checked(GRPC.len()) {
        Some((head, tail)) => {
            head.eq_ignore_ascii_case(GRPC) && matches!(tail.first(), None | Some(b'+' | b';'))
        }
        None => false,
    }
}

/// The status in `headers`: `None` without `grpc-status`.
pub(super) fn in_headers(headers: &HeaderMap) -> Option<Result<(), Status>> {
    let code = find(headers, &GRPC_STATUS)?.as_bytes();
    if code == b"0" {
        return Some(Ok(()));
    }
    // As tonic reads it for the application: the policy must not hear another code. "00", "03",
    // "+3" and "-0" are no codes of gRPC's.
    let code = std::str::from_utf8(code)
        .ok()
        .filter(|digits| digits.starts_with(|c| matches!(c, '1'..='9')))
        .and_then(|digits| digits.parse().ok())
        .map_or(Code::Unknown, Code::from_i32);
    let message = headers.get(GRPC_MESSAGE).map_or(Cow::Borrowed(""), |text| {
        percent_encoding::percent_decode(text.as_bytes()).decode_utf8_lossy()
    });
    Some(Err(Status::new(code, message)))
}

/// The status of an RPC that ended with `trailers`, or without any.
pub(super) fn of_trailers(trailers: Option<&HeaderMap>) -> Result<(), Status> {
    trailers
        .and_then(in_headers)
        .unwrap_or_else(|| Err(Status::new(Code::Unknown, "server sent no grpc-status")))
}

/// Mends what tonic cannot read. `grpc-status-details-bin` that is not base64 is dropped: it would
/// panic. A `grpc-message` that is not UTF-8 is written as what can be made of it: tonic would take
/// the whole status for UNKNOWN.
pub(super) fn mend(headers: &mut HeaderMap) {
    // The common trailers are `grpc-status` alone.
    if headers.len() < 2 {
        return;
    }
    let details = headers.get(GRPC_STATUS_DETAILS);
    if details.is_some_and(|value| BASE64.decode(value.as_bytes()).is_err()) {
        headers.remove(GRPC_STATUS_DETAILS);
    }
    let message = headers.get(GRPC_MESSAGE);
    let message = message.map(|text| percent_encoding::percent_decode(text.as_bytes()));
    let mended = message
        .filter(|text| text.clone().decode_utf8().is_err())
        .map(|text| encoded(&text.decode_utf8_lossy()));
    if let Some(Some(mended)) = mended {
        headers.insert(GRPC_MESSAGE, mended);
    }
}

/// Writes `status` as the status of a response without a body.
pub(super) fn write(status: &Status, headers: &mut HeaderMap) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code() as u16));
    if let Some(text) = encoded(status.message()) {
        headers.insert(GRPC_MESSAGE, text);
    }
}

/// A message as `grpc-message` has it.
fn encoded(message: &str) -> Option<HeaderValue> {
    let text =
        percent_encoding::percent_encode(message.as_bytes(), percent_encoding::NON_ALPHANUMERIC);
    HeaderValue::try_from(text.to_string()).ok()
}

/// `status` as tonic has it.
pub(crate) fn to_tonic(status: &Status) -> tonic::Status {
    tonic::Status::new(
        tonic::Code::from_i32(status.code() as i32),
        status.message(),
    )
}

/// `status` as the contract has it: without details and metadata.
pub(crate) fn from_tonic(status: &tonic::Status) -> Status {
    Status::new(Code::from_i32(status.code() as i32), status.message())
}
