//! Peers and texts that nobody thought of: whatever comes, nothing panics, nothing hangs, and what can
//! be read back says the same.

use std::{io, pin::pin, time::Duration};

use balancer_api::{Code, Status};
use balancer_testpeer::{
    frame::{Frame, flag, kind, setting},
    hpack,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    sniff::{cut, read_events},
    support::{Ends, call, read, setup},
};
use crate::transport::{
    H2Connection,
    sniff::{GoAway, ReadEvent},
    status,
};

/// Nothing may take so long, in virtual time, once the peer has closed.
const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What a peer says, piece by piece.
fn saying() -> impl Strategy<Value = Vec<u8>> {
    let stream = || prop_oneof![Just(0), Just(1), Just(3), 0..10_u32, any::<u32>()];
    let field = || {
        prop_oneof![
            Just((":status".to_owned(), "200".to_owned())),
            Just(("content-type".to_owned(), "application/grpc".to_owned())),
            "[0-9]{1,3}".prop_map(|code| ("grpc-status".to_owned(), code)),
            (
                "(:status|grpc-(message|status|encoding)|te|x-[a-z]{1,8}|connection|[A-Z]{1,4})",
                "[ -~]{0,40}"
            ),
        ]
    };
    let block = move || vec(field(), 0..8).prop_map(hpack::encode);
    prop_oneof![
        4 => Just(Frame::settings(&[]).encode()),
        2 => Just(Frame::settings_ack().encode()),
        4 => (Just(1), block(), any::<bool>())
            .prop_map(|(stream, block, end)| Frame::headers(stream, block, end).encode()),
        2 => (stream(), block(), any::<bool>())
            .prop_map(|(stream, block, end)| Frame::headers(stream, block, end).encode()),
        3 => (Just(1), vec(any::<u8>(), 0..100), any::<bool>())
            .prop_map(|(stream, data, end)| Frame::data(stream, data, end).encode()),
        1 => vec((0..8_u16, any::<u32>()), 0..4)
            .prop_map(|values| Frame::settings(&values).encode()),
        1 => vec(0..200_u32, 1..3).prop_map(|values| {
            let values: Vec<_> = values
                .into_iter()
                .map(|value| (setting::MAX_CONCURRENT_STREAMS, value))
                .collect();
            Frame::settings(&values).encode()
        }),
        2 => (stream(), 0..16_u32, ".{0,20}")
            .prop_map(|(last, code, debug)| Frame::goaway(last, code, debug).encode()),
        2 => (stream(), 0..16_u32).prop_map(|(stream, code)| Frame::rst_stream(stream, code).encode()),
        1 => (stream(), any::<u32>()).prop_map(|(stream, by)| Frame::window_update(stream, by).encode()),
        1 => any::<[u8; 8]>().prop_map(|opaque| Frame::ping(opaque).encode()),
        1 => (stream(), stream(), block())
            .prop_map(|(stream, promised, block)| Frame::push_promise(stream, promised, block).encode()),
        1 => (stream(), block(), any::<bool>())
            .prop_map(|(stream, block, end)| Frame::continuation(stream, block, end).encode()),
        2 => (0..12_u8, any::<u8>(), stream(), vec(any::<u8>(), 0..60))
            .prop_map(|(kind, flags, stream, payload)| Frame::new(kind, flags, stream, payload).encode()),
        // Too short for what they are.
        2 => (0..10_u8, stream(), vec(any::<u8>(), 0..9))
            .prop_map(|(kind, stream, payload)| Frame::new(kind, 0, stream, payload).encode()),
        1 => vec(any::<u8>(), 0..60),
    ]
}

/// What an RPC comes to on a connection to a peer that says all that and closes: within the time, and
/// the policy's hook is told at most once.
async fn meets(said: Vec<Vec<u8>>, mannered: bool) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (mut heard, mut mouth) = tokio::io::split(theirs);
    let peer = async move {
        if mannered {
            let settings = Frame::settings(&[]).encode();
            mouth.write_all(&settings).await?;
            mouth.write_all(&Frame::settings_ack().encode()).await?;
        }
        for octets in said {
            mouth.write_all(&octets).await?;
            tokio::task::yield_now().await;
        }
        mouth.shutdown().await?;
        io::Result::Ok(())
    };
    // It reads all the while, until the client closes.
    let ear = async move {
        let mut sink = vec![0; 4096];
        while heard.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    };
    let peer = tokio::spawn(peer);
    let ear = tokio::spawn(ear);
    let setup = setup();
    let tasks = setup.connector.spawn.kept.clone();
    let client = async {
        let Ok(connected) = H2Connection::handshake(ours, setup).await else {
            return;
        };
        let ends = Ends::default();
        if let Ok(response) = connected.connection.send(call(b"hello")).await {
            let _ = read(response, &ends).await;
        }
        assert!(ends.take().len() <= 1, "told at most once");
        let lost = connected.lost;
        drop(connected.connection);
        lost.await;
    };
    let all = async {
        client.await;
        loop {
            let next = tasks.lock().expect("no panic").pop();
            let Some(task) = next else { break };
            task.await.expect("no panic");
        }
        let _ = peer.await.expect("no panic");
        ear.await.expect("no panic");
    };
    let ended = tokio::time::timeout(PATIENCE, pin!(all)).await;
    ended.expect("a connection whose peer has closed must end, and what is on it");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_peer_is_survived(said in vec(saying(), 0..20), mannered in prop::bool::weighted(0.8)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(meets(said, mannered));
    }

    /// The reader of frame headers tells what a decoder of whole frames would.
    #[test]
    fn the_sniffer_and_a_decoder_agree(
        frames in vec(saying_frames(), 0..20),
        cuts in vec(1..50_usize, 1..8),
    ) {
        let mut bytes = Frame::settings(&[]).encode();
        bytes.extend(frames.iter().flat_map(Frame::encode));
        let cuts: Vec<usize> = cut(&bytes, &cuts).map(<[u8]>::len).collect();
        let told = read_events(&bytes, &cuts);
        let told: Vec<_> = told
            .into_iter()
            .filter(|event| matches!(event, ReadEvent::GoAway(_)))
            .collect();
        let mut rest = bytes::BytesMut::from(&bytes[..]);
        let mut wanted = Vec::new();
        while let Some(frame) = Frame::decode(&mut rest) {
            if let Some(goaway) = frame.as_goaway() {
                wanted.push(ReadEvent::GoAway(GoAway {
                    last_stream_id: goaway.last,
                    code: goaway.code,
                    debug: goaway.debug.iter().copied().take(256).collect(),
                }));
            }
        }
        prop_assert_eq!(told, wanted);
    }

    #[test]
    fn any_trailers_are_read(
        code in "[ -~]{0,6}|[0-9]{1,12}|[0+-]?[0-9]{1,2}",
        message in vec(prop_oneof![Just(b'%'), Just(b'A'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..80),
        details in vec(0x20..0x7f_u8, 0..40),
        more in any::<bool>(),
    ) {
        let mut trailers = HeaderMap::new();
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).expect("printable");
        trailers.insert("grpc-status", value(code.as_bytes()));
        if more {
            trailers.insert("grpc-message", value(&message));
            let name = HeaderName::from_static("grpc-status-details-bin");
            trailers.insert(name, value(&details));
        }
        let ours = status::in_headers(&trailers).expect("there is a status");
        status::mend(&mut trailers);
        let theirs = tonic::Status::from_header_map(&trailers).expect("there is a status");
        let ours = ours.map_or_else(|status| status.code() as i32, |()| 0);
        prop_assert_eq!(ours, theirs.code() as i32, "{:?}", code);
    }

    #[test]
    fn a_status_that_is_written_is_read(code in 1..17_i32, message in ".{0,60}") {
        let status = Status::new(Code::from_i32(code), message);
        let mut headers = HeaderMap::new();
        status::write(&status, &mut headers);
        let read = status::in_headers(&headers).expect("there is one");
        let read = read.expect_err("no code but 0 is OK");
        prop_assert_eq!((read.code(), read.message()), (status.code(), status.message()));
    }
}

/// Whole frames, GOAWAYs among them, of lengths that the readers do not refuse.
fn saying_frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), "[ -~]{0,300}").prop_map(|(last, code, debug)| Frame::goaway(
            last & 0x7fff_ffff,
            code,
            debug
        )),
        (any::<u8>(), any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(
            |(flags, stream, payload)| Frame::new(
                kind::DATA,
                flags & !flag::PADDED,
                stream,
                payload
            )
        ),
        (any::<u32>(), vec(any::<u8>(), 0..100))
            .prop_map(|(stream, payload)| Frame::new(0xfe, 0, stream, payload)),
    ]
}
