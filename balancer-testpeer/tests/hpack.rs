//! The decoder reads what the RFC's examples and h2's encoder write.

use balancer_testpeer::{
    Headers, Peer,
    frame::setting,
    hpack::{Decoder, HpackError, encode, encode_integer},
};
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|octet| !octet.is_ascii_whitespace())
        .collect();
    let octet = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex digits")
    };
    digits.chunks_exact(2).map(octet).collect()
}

fn fields(expected: &[(&str, &str)]) -> Headers {
    expected.iter().copied().collect()
}

/// RFC 7541, appendix C.4: three requests on one connection, Huffman coded, table growing.
#[test]
fn it_reads_the_rfcs_requests() {
    let mut decoder = Decoder::new();
    let first = hex("828684418cf1e3c2e5f23a6ba0ab90f4ff");
    let mut expected = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    assert_eq!(decoder.decode(&first), Ok(fields(&expected)));

    let second = hex("828684be5886a8eb10649cbf");
    expected.push(("cache-control", "no-cache"));
    assert_eq!(decoder.decode(&second), Ok(fields(&expected)));

    let third = hex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_eq!(decoder.decode(&third), Ok(fields(&expected)));
}

/// RFC 7541, appendix C.6: responses with a table of 256 octets, so that entries are evicted.
#[test]
fn it_evicts_as_the_rfcs_responses_do() {
    let mut decoder = Decoder::new();
    let mut first = Vec::new();
    encode_integer(&mut first, 0x20, 5, 256);
    first.extend(hex(
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff
         6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    ));
    let mut expected = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    assert_eq!(decoder.decode(&first), Ok(fields(&expected)));

    let second = hex("4883640effc1c0bf");
    expected[0].1 = "307";
    assert_eq!(decoder.decode(&second), Ok(fields(&expected)));

    let third = hex(
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335
         dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    );
    let expected = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ];
    assert_eq!(decoder.decode(&third), Ok(fields(&expected)));
}

#[test]
fn it_refuses_what_means_nothing() {
    let cases: [(&[u8], HpackError); 7] = [
        (&[0x80], HpackError::BadIndex(0)),
        (&[0x80 | 62], HpackError::BadIndex(62)),
        (&[0x00, 0x05, b'a'], HpackError::Truncated),
        (&[0x00], HpackError::Truncated),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            HpackError::IntegerOverflow,
        ),
        (&[0x82, 0x20], HpackError::BadTableSize(0)),
        // Eight bits of padding: one octet too many.
        (&[0x00, 0x81, 0xff, 0x00], HpackError::BadHuffman),
    ];
    for (block, expected) in cases {
        assert_eq!(Decoder::new().decode(block), Err(expected), "{block:02x?}");
    }
}

/// Every octet that a header value can hold, through h2's Huffman encoder and table.
#[tokio::test]
async fn it_reads_what_h2_writes() {
    for table_size in [0, 64, 4096, 16_384] {
        let mut peer = Peer::listen().await.unwrap();
        let stream = tokio::net::TcpStream::connect(peer.addr()).await.unwrap();
        let mut conn = peer.accept().await.unwrap();
        let settings = [(setting::HEADER_TABLE_SIZE, table_size)];
        let client = h2::client::handshake(stream);
        let (client, server) = tokio::join!(client, async {
            conn.send_settings(&settings).await.unwrap();
            conn.read_preface().await
        });
        server.unwrap();
        let (mut send, driver) = client.unwrap();
        tokio::spawn(driver);
        conn.expect_settings().await.unwrap();
        conn.expect_settings_ack().await.unwrap();

        let values: Vec<Vec<u8>> = (b' '..=0xff)
            .filter(|octet| *octet != 0x7f)
            .map(|octet| vec![b'a', octet, b'z'])
            .chain([(b'!'..0x7f).collect(), vec![b'x'; 5000], Vec::new()])
            .collect();
        // Twice: the second time from the table, where there is one.
        for value in values.iter().chain(&values) {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            let request = http::Request::post("http://peer.test/path")
                .header("x-value", &value)
                .header("x-value", "second")
                .body(())
                .unwrap();
            send = send.ready().await.unwrap();
            let (_response, _) = send.send_request(request, true).unwrap();
            let got = conn.next_request().await.unwrap();
            assert_eq!(got.path(), "/path");
            let got: Vec<&[u8]> = got.headers.get_all("x-value").collect();
            assert_eq!(got, [value.as_bytes(), b"second"], "table of {table_size}");
        }
    }
}

proptest! {
    #[test]
    fn what_it_encodes_it_decodes(
        list in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..300), proptest::collection::vec(any::<u8>(), 0..300)),
            0..20,
        )
    ) {
        let block = encode(list.iter().map(|(name, value)| (name, value)));
        let expected: Headers = list.into_iter().collect();
        prop_assert_eq!(Decoder::new().decode(&block), Ok(expected));
    }

    #[test]
    fn no_block_makes_it_panic(blocks in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..100), 0..10,
    )) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decoder.decode(&block).is_err() {
                break;
            }
        }
    }
}
