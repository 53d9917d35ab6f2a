//! The frame readers, however the bytes are cut.

use balancer_testpeer::frame::{Frame, setting};
use proptest::prelude::*;

use crate::transport::sniff::{GoAway, ReadEvent, ReadSniffer, WriteEvent, WriteSniffer};

pub(super) fn read_events(bytes: &[u8], cuts: &[usize]) -> Vec<ReadEvent> {
    let mut sniffer = ReadSniffer::new();
    let mut events = Vec::new();
    for part in cut(bytes, cuts) {
        sniffer.read(part, |event| events.push(event));
        if matches!(events.last(), Some(ReadEvent::NotHttp2(_))) {
            break;
        }
    }
    events
}

fn write_events(bytes: &[u8], cuts: &[usize]) -> Vec<WriteEvent> {
    let mut sniffer = WriteSniffer::new();
    let mut events = Vec::new();
    for part in cut(bytes, cuts) {
        sniffer.wrote(part, |event| events.push(event));
    }
    events
}

/// `bytes` in parts; `cuts` are the parts' lengths, again and again.
pub(super) fn cut<'a>(mut bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().cycle();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = lengths
            .next()
            .map_or(bytes.len(), |length| (*length).min(bytes.len()));
        let (part, rest) = bytes.split_at(length);
        bytes = rest;
        Some(part)
    })
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::encode).collect()
}

#[test]
fn settings_answers_and_goaway_are_told_and_nothing_else() {
    let bytes = encode(&[
        Frame::settings(&[
            (setting::INITIAL_WINDOW_SIZE, 9),
            (setting::MAX_CONCURRENT_STREAMS, 7),
        ]),
        Frame::settings_ack(),
        Frame::headers(1, &b"\x88"[..], false),
        Frame::data(1, vec![7; 300], true),
        Frame::headers(3, &b"\x88"[..], true),
        Frame::settings(&[]),
        Frame::goaway(0x8000_0005, 11, "too_many_pings"),
        Frame::goaway(3, 0, ""),
    ]);
    let events = read_events(&bytes, &[]);
    assert_eq!(
        events,
        [
            ReadEvent::Settings {
                max_concurrent_streams: Some(7),
                server_push: false
            },
            ReadEvent::Answer(1),
            ReadEvent::Answer(3),
            ReadEvent::Settings {
                max_concurrent_streams: None,
                server_push: false
            },
            ReadEvent::GoAway(GoAway {
                last_stream_id: 5,
                code: 11,
                debug: b"too_many_pings".to_vec()
            }),
            ReadEvent::GoAway(GoAway {
                last_stream_id: 3,
                code: 0,
                debug: Vec::new()
            }),
        ]
    );
}

#[test]
fn a_header_block_counts_when_it_is_whole() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(encode(&[
        Frame::settings(&[]),
        Frame::settings_ack(),
        Frame::headers(1, vec![0; 20], true),
        Frame::headers_begin(3, vec![0; 20], true),
    ]));
    let before = [WriteEvent::SettingsAck, WriteEvent::Headers(1)];
    assert_eq!(write_events(&bytes, &[]), before);
    let last = Frame::continuation(3, vec![0; 20], true).encode();
    bytes.extend(&last[..last.len() - 1]);
    assert_eq!(write_events(&bytes, &[]), before, "one byte is missing");
    bytes.extend(&last[last.len() - 1..]);
    assert_eq!(write_events(&bytes, &[])[2], WriteEvent::Headers(3));
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        proptest::collection::vec((0..8_u16, any::<u32>()), 0..5)
            .prop_map(|values| Frame::settings(&values)),
        (any::<u32>(), any::<u32>(), ".{0,400}")
            .prop_map(|(last, code, debug)| Frame::goaway(last, code, debug)),
        (
            0..10_u8,
            any::<u8>(),
            any::<u32>(),
            proptest::collection::vec(any::<u8>(), 0..600)
        )
            .prop_map(|(kind, flags, stream, payload)| Frame::new(kind, flags, stream, payload)),
    ]
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        frames in proptest::collection::vec(frame(), 0..12),
        cuts in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        let mut bytes = Frame::settings(&[]).encode();
        bytes.extend(encode(&frames));
        prop_assert_eq!(read_events(&bytes, &[]), read_events(&bytes, &cuts));

        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(encode(&frames));
        prop_assert_eq!(write_events(&bytes, &[]), write_events(&bytes, &cuts));
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        read_events(&bytes, &cuts);
        write_events(&bytes, &cuts);
    }
}
