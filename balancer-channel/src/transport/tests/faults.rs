//! Responses that are not right, and the status each of them becomes.

use balancer_api::Code;
use balancer_testpeer::{
    Answer, Backend, Response, Server,
    faults::{self, Flood, HeaderBomb},
    frame::code,
};

use super::support::{End, Ends, call, connector, framed, read};
use crate::transport::{FailureKind, SendFailure};

/// What became of one call to a backend that gives `answer`: as the application sees it through
/// tonic's own reader, and as the channel accounts for it.
async fn outcome(answer: impl Into<Answer>) -> (Result<(), tonic::Status>, End) {
    let server = Server::start(Backend::new("a").answer(answer.into()))
        .await
        .expect("a port");
    let connected = connector()
        .connect(&server.addr().to_string(), None)
        .await
        .expect("ready");
    let ends = Ends::default();
    let response = connected.connection.send(call(b"x")).await.expect("begun");
    let seen = through_tonic(response.into_http(ends.clone())).await;
    (seen, ends.only())
}

/// Reads as tonic's generated clients do.
async fn through_tonic(response: http::Response<tonic::body::Body>) -> Result<(), tonic::Status> {
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        return if status.code() == tonic::Code::Ok {
            Ok(())
        } else {
            Err(status)
        };
    }
    let http = response.status();
    let mut stream = tonic::Streaming::new_response(Raw, response.into_body(), http, None, None);
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Takes messages as they are.
struct Raw;

impl tonic::codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(
        &mut self,
        source: &mut tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<Vec<u8>>, tonic::Status> {
        let mut message = vec![0; bytes::Buf::remaining(source)];
        bytes::Buf::copy_to_slice(source, &mut message);
        Ok(Some(message))
    }
}

async fn failed_with(answer: impl Into<Answer>) -> (tonic::Code, String) {
    let (seen, end) = outcome(answer).await;
    let seen = seen.expect_err("it was no success");
    let told = end.status.expect("the channel must see the failure too");
    assert_eq!(seen.code() as i32, told.code() as i32, "{seen} but {told}");
    (seen.code(), seen.message().to_owned())
}

#[tokio::test]
async fn trailers_and_trailers_only() {
    let (seen, end) = outcome(Answer::ok(b"fine")).await;
    assert!(seen.is_ok() && end.status.is_none() && end.trailers);
    let failed = failed_with(Answer::status(5, "no such thing")).await;
    assert_eq!(failed, (tonic::Code::NotFound, "no such thing".to_owned()));
    let failed = failed_with(Answer::trailers_only(14, "try later: 100%")).await;
    assert_eq!(
        failed,
        (tonic::Code::Unavailable, "try later: 100%".to_owned())
    );
    let (seen, end) = outcome(Answer::trailers_only(0, "")).await;
    assert!(seen.is_ok() && end.status.is_none());
}

#[tokio::test]
async fn responses_without_a_status_are_unknown() {
    assert_eq!(
        failed_with(Answer::missing_status(b"x")).await.0,
        tonic::Code::Unknown
    );
    assert_eq!(
        failed_with(Answer::bad_status("many")).await.0,
        tonic::Code::Unknown
    );
    assert_eq!(
        failed_with(Answer::bad_status("99")).await.0,
        tonic::Code::Unknown
    );
    assert_eq!(
        failed_with(Answer::bad_status("-1")).await.0,
        tonic::Code::Unknown
    );
}

#[tokio::test]
async fn details_that_are_no_base64_are_dropped() {
    let response = Response::grpc()
        .message(b"")
        .trailers([("grpc-status", "3"), ("grpc-status-details-bin", "!!!")]);
    let failed = failed_with(response.end()).await;
    assert_eq!(
        failed.0,
        tonic::Code::InvalidArgument,
        "and tonic does not panic"
    );
}

#[tokio::test]
async fn informational_responses_are_passed_over() {
    let (seen, _) = outcome(Answer::informational_first(103, 3, b"finally")).await;
    seen.expect("the response that counts is the last");
}

#[tokio::test]
async fn what_proxies_say_is_translated() {
    for (http, code) in [
        (400, tonic::Code::Internal),
        (401, tonic::Code::Unauthenticated),
        (403, tonic::Code::PermissionDenied),
        (404, tonic::Code::Unimplemented),
        (429, tonic::Code::Unavailable),
        (502, tonic::Code::Unavailable),
        (503, tonic::Code::Unavailable),
        (504, tonic::Code::Unavailable),
        (500, tonic::Code::Unknown),
        (418, tonic::Code::Unknown),
    ] {
        let (seen, message) = failed_with(Answer::http_status(http)).await;
        assert_eq!(seen, code, "HTTP {http}");
        assert!(
            message.contains(&format!("HTTP status {http}")),
            "{message}"
        );
    }
    let (code, message) = failed_with(Answer::content_type("text/html")).await;
    assert_eq!(code, tonic::Code::Unknown);
    assert!(
        message.ends_with("HTTP status 200, content-type text/html"),
        "{message}"
    );
    for good in [
        "application/grpc+proto",
        "application/grpc;v=1",
        "Application/gRPC",
    ] {
        let (seen, _) = outcome(
            Response::new()
                .headers([(":status", "200"), ("content-type", good)])
                .message(b"x")
                .status(0, ""),
        )
        .await;
        seen.expect(good);
    }
}

/// The gRPC table of RST_STREAM codes, by number.
const RESET: [(u32, tonic::Code); 15] = [
    (0, tonic::Code::Internal),
    (1, tonic::Code::Internal),
    (2, tonic::Code::Internal),
    (3, tonic::Code::Internal),
    (4, tonic::Code::Internal),
    (5, tonic::Code::Unknown),
    (6, tonic::Code::Internal),
    (7, tonic::Code::Unavailable),
    (8, tonic::Code::Cancelled),
    (9, tonic::Code::Internal),
    (10, tonic::Code::Internal),
    (11, tonic::Code::ResourceExhausted),
    (12, tonic::Code::PermissionDenied),
    (13, tonic::Code::Unknown),
    (0xbad, tonic::Code::Unknown),
];

#[tokio::test]
async fn a_reset_instead_of_a_response() {
    for (number, code) in RESET {
        let backend = Backend::new("a").answer(Answer::Reset(number));
        let server = Server::start(backend).await.expect("a port");
        let connected = connector()
            .connect(&server.addr().to_string(), None)
            .await
            .expect("ready");
        let failure: SendFailure = connected
            .connection
            .send(call(b"x"))
            .await
            .expect_err("reset");
        assert_eq!(failure.status.code(), code, "RST_STREAM {number}");
        let refused = number == code::REFUSED_STREAM;
        let kind = if refused {
            FailureKind::Refused
        } else {
            FailureKind::Failed
        };
        assert_eq!(failure.kind, kind, "RST_STREAM {number}");
        assert_eq!(failure.request.is_some(), refused, "RST_STREAM {number}");
        let failure = connected
            .connection
            .send(call(b"x"))
            .await
            .expect_err("reset");
        assert_eq!(failure.kind, kind, "the connection lives on");
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_response() {
    for (number, code) in RESET {
        let (seen, message) = failed_with(Response::grpc().message(b"half").reset(number)).await;
        assert_eq!(seen, code, "RST_STREAM {number}: {message}");
    }
}

#[tokio::test]
async fn floods_and_bombs_end_in_an_error() {
    let attacks = [
        faults::flood(Flood::EmptyData, usize::MAX),
        faults::flood(Flood::Continuation, usize::MAX),
        faults::header_bomb(HeaderBomb::Hpack(10_000)),
    ];
    for (at, attack) in attacks.into_iter().enumerate() {
        let server = Server::start(attack).await.expect("a port");
        let connected = connector()
            .connect(&server.addr().to_string(), None)
            .await
            .expect("ready");
        let failed = match connected.connection.send(call(b"x")).await {
            Err(failure) => failure.status,
            Ok(response) => read(response, &Ends::default()).await.expect_err("endless"),
        };
        assert_ne!(failed.code(), tonic::Code::Ok, "attack {at}: {failed}");
    }
}

#[tokio::test]
async fn the_message_of_a_status_is_decoded() {
    let (_, end) = outcome(Answer::status(9, "naïve 100%\n")).await;
    let status = end.status.expect("a failure");
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "naïve 100%\n")
    );
}

/// tonic would take the whole status for UNKNOWN, whatever its code.
#[tokio::test]
async fn a_message_that_is_not_utf8_costs_only_its_bad_letters() {
    for (code, message) in [("5", "%A0 gone"), ("5", "gone%ff"), ("0", "%80")] {
        let answer = Response::grpc()
            .message(b"x")
            .trailers([("grpc-status", code), ("grpc-message", message)]);
        let (result, _) = outcome(answer).await;
        let code: i32 = code.parse().expect("a code");
        let seen = result.map_or_else(|status| status.code() as i32, |()| 0);
        assert_eq!(seen, code, "{message}");
    }
}

#[tokio::test]
async fn an_echo_is_whole() {
    let server = Server::start(Backend::new("a")).await.expect("a port");
    let connected = connector()
        .connect(&server.addr().to_string(), None)
        .await
        .expect("ready");
    let response = connected
        .connection
        .send(call(b"hello"))
        .await
        .expect("begun");
    assert_eq!(response.headers()["x-backend"], "a");
    assert!(response.status().is_none());
    let (body, _) = read(response, &Ends::default()).await.expect("whole");
    assert_eq!(body, framed(b"hello"));
}
