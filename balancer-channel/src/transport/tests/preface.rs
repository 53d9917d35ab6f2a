//! The preface and what is behind it, on a stream that takes what it likes.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::transport::preface::Together;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Takes of each write as many bytes as it was told, then all.
#[derive(Default)]
struct Taker {
    takes: VecDeque<usize>,
    written: Vec<Vec<u8>>,
}

impl AsyncWrite for Taker {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let takes = self.takes.pop_front().unwrap_or(usize::MAX);
        if takes == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let taken = takes.min(buf.len());
        self.written.push(buf[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Taker {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// What reaches a stream that takes so much at a time, one item a write.
async fn written(takes: &[usize], writes: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut taker = Taker::default();
    taker.takes.extend(takes);
    let mut together = Together::new(&mut taker);
    for write in writes {
        together.write_all(write).await.expect("it takes all");
    }
    together.flush().await.expect("it takes all");
    taker.written
}

#[tokio::test]
async fn the_preface_leaves_with_the_settings() {
    let said = written(&[], &[PREFACE, b"settings", b"more"]).await;
    assert_eq!(said, [[PREFACE, b"settings"].concat(), b"more".to_vec()]);
}

#[tokio::test]
async fn a_flush_lets_it_go_alone() {
    assert_eq!(written(&[], &[PREFACE]).await, [PREFACE]);
}

#[tokio::test]
async fn a_shutdown_leaves_nothing_behind() {
    let mut taker = Taker::default();
    let mut together = Together::new(&mut taker);
    together.write_all(PREFACE).await.expect("it takes all");
    together.shutdown().await.expect("it takes all");
    assert_eq!(taker.written, [PREFACE]);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_however_little_is_taken() {
    let long = [7; 1000];
    let wanted = [PREFACE, b"settings", &long].concat();
    for first in 0..40 {
        for second in 0..40 {
            let said = written(&[first, second], &[PREFACE, b"settings", &long]).await;
            assert_eq!(said.concat(), wanted, "takes {first}, then {second}");
        }
    }
}

#[tokio::test]
async fn what_is_no_preface_is_not_held() {
    assert_eq!(written(&[], &[b"PRI", b"x"]).await, [&b"PRI"[..], b"x"]);
}
