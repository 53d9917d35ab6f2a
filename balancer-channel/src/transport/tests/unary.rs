//! RPCs whose request is all there.

use bytes::Bytes;

use super::support::{Ends, echo, pair, read, serve_h2, soon, unary};

#[tokio::test]
async fn a_small_message_goes_out_and_comes_back() {
    let connected = pair(|socket| serve_h2(socket, h2::server::Builder::new(), echo)).await;
    let ends = Ends::default();

    let response = connected
        .connection
        .send(unary("hello"))
        .await
        .expect("a response");
    let (body, trailers) = read(response, &ends).await.expect("a whole response");

    assert_eq!(body, "hello");
    assert_eq!(trailers["grpc-status"], "0");
    let end = ends.only();
    assert_eq!((end.status, end.sent, end.received), (None, 5, 5));
}

#[tokio::test]
async fn a_large_message_goes_out_and_comes_back() {
    let connected = pair(|socket| serve_h2(socket, h2::server::Builder::new(), echo)).await;
    let message: Bytes = (0..10 << 20)
        .map(|at: u32| (at % 251) as u8)
        .collect::<Vec<_>>()
        .into();

    let response = connected
        .connection
        .send(unary(message.clone()))
        .await
        .expect("a response");
    let (body, _) = soon(read(response, &Ends::default()))
        .await
        .expect("a whole response");

    assert!(body == message, "every byte must come back");
}
