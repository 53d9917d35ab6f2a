//! Faults of a working connection are what they claim to be, as h2 sees them.

mod common;

use balancer_testpeer::{
    Answer, Backend, MAX_STREAM, Manners, Response, Server,
    faults::{self, Flood, HeaderBomb},
    frame::{Frame, code, flag, kind, setting},
    hpack::{Decoder, HpackError},
};
use common::{Client, RawClient, reason};
use h2::Reason;
use std::time::Duration;
use tokio::time::timeout;

/// Long enough for loopback, short enough to wait for what must not come.
const SHORT: Duration = Duration::from_millis(100);
/// Never waited for, unless something is wrong.
const LONG: Duration = Duration::from_secs(20);

async fn start(backend: Backend) -> (Server, Client) {
    let server = Server::start(backend).await.unwrap();
    let client = Client::tcp(server.addr()).await;
    (server, client)
}

#[tokio::test]
async fn h1_a_graceful_goaway_lets_open_streams_finish() {
    let slow = Answer::ok(b"done").after(SHORT);
    let (server, mut client) = start(Backend::new("a").answer(slow)).await;
    let open = client.begin("/e", b"").await.unwrap();
    server.until(|journal| journal.streams() == 1).await;
    server.goaway_soon();
    assert_eq!(open.finish().await.unwrap().status(), Some("0"));
    client.ended().await.unwrap();
}

#[tokio::test]
async fn h2_goaway_tells_which_streams_are_lost() {
    let server = Server::start(faults::goaway_on_request(3, 3, code::NO_ERROR, ""))
        .await
        .unwrap();
    let mut client = Client::tcp(server.addr()).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(client.begin("/e", b"").await.unwrap());
    }
    let lost = calls.pop().unwrap().finish().await.unwrap_err();
    assert!(
        lost.is_go_away() && lost.is_remote(),
        "stream 5 must be lost to GOAWAY: {lost}"
    );
    for call in calls {
        let mut reply = call.finish().await.unwrap();
        assert_eq!(&reply.message().unwrap()[..], b"before the end");
    }
}

#[tokio::test]
async fn h3_goaway_carries_code_and_debug_data() {
    let (server, mut client) = start(Backend::new("a").answer(Answer::Never)).await;
    let call = client.begin("/e", b"").await.unwrap();
    server.until(|journal| journal.streams() == 1).await;
    server.goaway(Some(0), code::ENHANCE_YOUR_CALM, "too_many_pings");
    let error = call.finish().await.unwrap_err();
    assert_eq!(reason(&error), Reason::ENHANCE_YOUR_CALM);
    assert!(error.to_string().contains("too_many_pings"), "{error}");
}

#[tokio::test]
async fn h4_goaway_on_every_connection() {
    let server = Server::start(faults::goaway_at_once(code::NO_ERROR, ""))
        .await
        .unwrap();
    for nth in 1..=3 {
        timeout(LONG, Client::tcp(server.addr()).await.ended())
            .await
            .unwrap()
            .unwrap();
        let journal = server.journal();
        assert_eq!(journal.accepted(), nth);
        assert_eq!(journal.streams(), 0, "must leave no room for a call");
    }
}

#[tokio::test]
async fn h5_two_goaways_and_goaway_then_close() {
    let server = Server::start(faults::two_goaways(0)).await.unwrap();
    let lost = Client::tcp(server.addr())
        .await
        .call("/e", b"")
        .await
        .unwrap_err();
    assert!(
        lost.is_go_away(),
        "the second GOAWAY must take stream 1: {lost}"
    );

    server.set_script(faults::two_goaways(1));
    Client::tcp(server.addr())
        .await
        .call("/e", b"")
        .await
        .unwrap();

    server.set_script(faults::goaway_then_close(MAX_STREAM, code::NO_ERROR));
    let lost = Client::tcp(server.addr()).await.call("/e", b"").await;
    lost.expect_err("must close without an answer");
}

#[tokio::test]
async fn h6_h7_every_reset_code() {
    for wanted in code::ALL_AND_ONE_UNKNOWN {
        let (_server, mut client) = start(Backend::new("a").answer(Answer::Reset(wanted))).await;
        let error = client.call("/e", b"").await.unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(u32::from(reason(&error)), wanted);
        let error = client.call("/e", b"").await.unwrap_err();
        assert!(error.is_reset(), "the connection must live on: {error}");
    }
}

#[tokio::test]
async fn h7_a_reset_in_the_middle_of_a_response() {
    let response = Response::grpc()
        .message(b"half")
        .reset(code::INTERNAL_ERROR);
    let (_server, mut client) = start(Backend::new("a").answer(response.into())).await;
    let error = client.call("/e", b"").await.unwrap_err();
    assert_eq!(reason(&error), Reason::INTERNAL_ERROR);
}

#[tokio::test]
async fn h8_stream_limits_hold_calls_back_and_can_be_raised() {
    let (server, mut client) = start(Backend::new("a").max_concurrent_streams(0)).await;
    server
        .until(|journal| journal.connections.iter().any(|c| c.settings_acks == 1))
        .await;
    let waiting = timeout(SHORT, client.call("/e", b"held")).await;
    assert!(waiting.is_err(), "no stream may open: {waiting:?}");
    assert_eq!(server.journal().streams(), 0);

    server.send([Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)])]);
    server
        .until(|journal| journal.connections.iter().any(|c| c.settings_acks == 2))
        .await;
    client.call("/e", b"through").await.unwrap();
}

#[tokio::test]
async fn h9_pings_go_unanswered() {
    let server = Server::in_memory(Backend::new("a").manners(Manners::deaf_to_pings()));
    let (mut send, mut driver) = h2::client::handshake(server.connect()).await.unwrap();
    let mut pings = driver.ping_pong().unwrap();
    let driver = tokio::spawn(driver);
    send = send.ready().await.unwrap();
    let pong = timeout(SHORT, pings.ping(h2::Ping::opaque())).await;
    assert!(pong.is_err(), "must not be answered");
    assert_eq!(
        server.journal().pings(),
        1,
        "must have been read, and its time noted"
    );
    drop(send);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn h9_reads_stall() {
    let server = Server::start(faults::stalled_reads()).await.unwrap();
    let mut client = Client::tcp(server.addr()).await;
    let call = timeout(SHORT, client.call("/e", &[0; 1 << 16])).await;
    assert!(call.is_err());
    assert_eq!(
        server.journal().streams(),
        0,
        "nothing may be read after the handshake"
    );
    assert_eq!(server.journal().open(), 1, "the socket must stay open");
}

#[tokio::test]
async fn h11_windows_never_open() {
    let (server, mut client) = start(Backend::new("a").closed_windows()).await;
    server
        .until(|journal| journal.connections.iter().any(|c| c.settings_acks == 1))
        .await;
    let call = timeout(SHORT, client.call("/e", b"held back")).await;
    assert!(call.is_err());
    let journal = server.journal();
    assert_eq!(journal.headers(), 1, "HEADERS need no window");
    assert_eq!(journal.connections[0].data, 0, "no DATA may fit");
}

#[tokio::test]
async fn h12_header_bombs() {
    for bomb in [
        HeaderBomb::Long(1 << 20),
        HeaderBomb::Many(100_000),
        HeaderBomb::Hpack(10_000),
        HeaderBomb::BadIndex,
        HeaderBomb::BadHuffman,
    ] {
        let server = Server::start(faults::header_bomb(bomb)).await.unwrap();
        let (mut send, driver) = {
            let stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
            let mut builder = h2::client::Builder::new();
            builder.max_header_list_size(16 * 1024);
            builder.handshake::<_, bytes::Bytes>(stream).await.unwrap()
        };
        let driver = tokio::spawn(driver);
        let request = http::Request::post("http://peer.test/e").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        let error = timeout(LONG, response).await.unwrap();
        error.expect_err("must be refused at 16 KiB, or for what it is");
        drop(send);
        let _ = timeout(LONG, driver).await.unwrap().unwrap();
    }
}

#[test]
fn h12_a_bomb_is_what_it_says() {
    let decode = |bomb: HeaderBomb| Decoder::new().decode(&bomb.block());
    assert_eq!(
        decode(HeaderBomb::BadIndex),
        Err(HpackError::BadIndex(1000))
    );
    assert_eq!(decode(HeaderBomb::BadHuffman), Err(HpackError::BadHuffman));
    let few = decode(HeaderBomb::Hpack(3)).unwrap();
    assert_eq!(
        few.get_all("x-bomb").map(<[u8]>::len).collect::<Vec<_>>(),
        [4000; 4]
    );
    assert_eq!(decode(HeaderBomb::Many(1000)).unwrap().len(), 1002);
    let frames = HeaderBomb::Long(1 << 20).frames(1);
    assert!(
        frames.len() > 64,
        "1 MiB must take more than 64 frames of 16 KiB"
    );
    let ends = frames
        .iter()
        .filter(|frame| frame.has(flag::END_HEADERS))
        .count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn h13_floods_are_what_they_say() {
    for flood in Flood::ALL {
        let server = Server::start(faults::flood(flood, 1_000)).await.unwrap();
        let mut client = RawClient::connect(&server).await;
        client.request(1).await;
        let wanted = match flood {
            Flood::Settings | Flood::SettingsAck => kind::SETTINGS,
            Flood::Ping => kind::PING,
            Flood::WindowUpdate => kind::WINDOW_UPDATE,
            Flood::EmptyData => kind::DATA,
            Flood::Continuation | Flood::EmptyContinuation => kind::CONTINUATION,
            Flood::Reset => kind::RST_STREAM,
            Flood::PushPromise => kind::PUSH_PROMISE,
            Flood::Informational => kind::HEADERS,
            _ => 0xfe,
        };
        let mut counted = 0;
        while counted < 1_000 {
            let frame = timeout(LONG, client.frame())
                .await
                .expect("the flood must go on");
            assert!(!frame.has(flag::END_HEADERS) || frame.kind != kind::CONTINUATION);
            counted += usize::from(frame.kind == wanted);
        }
        assert_eq!(
            server.journal().open(),
            1,
            "{flood:?}: must read on until the client closes"
        );
        drop(client);
        timeout(LONG, server.until(|journal| journal.open() == 0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn h13_an_endless_flood_ends_with_the_client() {
    let server = Server::in_memory(faults::flood(Flood::Ping, usize::MAX));
    let mut client = RawClient::over(server.connect()).await;
    for _ in 0..5_000 {
        client.frame().await;
    }
    drop(client);
    server.until(|journal| journal.open() == 0).await;
    assert!(
        server.journal().connections[0].error.is_some(),
        "must say why it stopped"
    );
}

#[tokio::test]
async fn h14_trailers_only() {
    let (_server, mut client) =
        start(Backend::new("a").answer(Answer::trailers_only(14, "try later"))).await;
    let reply = client.call("/e", b"").await.unwrap();
    assert!(
        reply.trailers.is_none(),
        "there must be one header block only"
    );
    assert_eq!(reply.header("grpc-status"), "14");
    assert_eq!(reply.header("grpc-message"), "try later");
}

#[tokio::test]
async fn h14_statuses_that_are_missing_or_bad() {
    let (_server, mut client) =
        start(Backend::new("a").answer(Answer::missing_status(b"hi"))).await;
    let mut reply = client.call("/e", b"").await.unwrap();
    assert_eq!(&reply.message().unwrap()[..], b"hi");
    assert_eq!(reply.status(), None);

    let (_server, mut client) = start(Backend::new("a").answer(Answer::bad_status("ok"))).await;
    assert_eq!(client.call("/e", b"").await.unwrap().status(), Some("ok"));
}

#[tokio::test]
async fn h14_answers_that_are_not_grpc() {
    for status in [204_u16, 301, 400, 401, 403, 404, 429, 502, 503, 504, 599] {
        let (_server, mut client) =
            start(Backend::new("a").answer(Answer::http_status(status))).await;
        let reply = client.call("/e", b"").await.unwrap();
        assert_eq!(reply.http.as_u16(), status);
        assert_eq!(reply.status(), None);
    }
    let (_server, mut client) =
        start(Backend::new("a").answer(Answer::content_type("text/html"))).await;
    assert_eq!(
        client.call("/e", b"").await.unwrap().header("content-type"),
        "text/html"
    );
}

#[tokio::test]
async fn h14_informational_responses_come_first() {
    let answer = Answer::informational_first(103, 3, b"finally");
    let (_server, mut client) = start(Backend::new("a").answer(answer)).await;
    let mut reply = client.call("/e", b"").await.unwrap();
    assert_eq!(reply.http, 200);
    assert_eq!(&reply.message().unwrap()[..], b"finally");
}

#[tokio::test]
async fn an_early_answer_asks_for_no_more_body() {
    let early = Answer::trailers_only(7, "not you").early();
    let (_server, mut client) = start(Backend::new("a").answer(early)).await;
    let reply = client.call("/e", &vec![0; 4 << 20]).await.unwrap();
    assert_eq!(reply.header("grpc-status"), "7");
}
