//! A gRPC client made of the `h2` crate, so that somebody else's HTTP/2 judges ours.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use balancer_testpeer::{
    Io, Server,
    frame::{Frame, PREFACE},
    grpc, hpack,
};
use bytes::{Bytes, BytesMut};
use h2::{Reason, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

/// One connection to a peer.
#[derive(Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    /// How the connection ended.
    pub driver: JoinHandle<Result<(), h2::Error>>,
}

/// What a call brought.
#[derive(Debug)]
pub struct Reply {
    pub http: StatusCode,
    pub headers: HeaderMap,
    pub body: BytesMut,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    pub async fn tcp(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr)
            .await
            .expect("the peer must accept");
        Self::over(stream)
            .await
            .expect("h2's handshake sends and does not wait")
    }

    pub async fn over(io: impl Io + 'static) -> Result<Self, h2::Error> {
        let (send, driver) = h2::client::handshake(io).await?;
        Ok(Self {
            send,
            driver: tokio::spawn(driver),
        })
    }

    /// A unary call, whole.
    pub async fn call(&mut self, path: &str, message: &[u8]) -> Result<Reply, h2::Error> {
        self.begin(path, message).await?.finish().await
    }

    /// Sends a unary request; the reply is the caller's to wait for.
    pub async fn begin(&mut self, path: &str, message: &[u8]) -> Result<Pending, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let uri = format!("http://peer.test{path}");
        let request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("the test's path is a path");
        let (response, mut stream) = send.send_request(request, false)?;
        stream.reserve_capacity(0);
        stream.send_data(grpc::message(message), true)?;
        Ok(Pending {
            response,
            _stream: stream,
        })
    }

    /// How the connection ended, when the peer has ended it.
    pub async fn ended(self) -> Result<(), h2::Error> {
        // Without a handle h2 would close by itself.
        let Self { send, driver } = self;
        let ended = driver.await.expect("h2 must not panic");
        drop(send);
        ended
    }
}

#[derive(Debug)]
pub struct Pending {
    response: h2::client::ResponseFuture,
    _stream: h2::SendStream<Bytes>,
}

impl Pending {
    pub async fn finish(self) -> Result<Reply, h2::Error> {
        let response: Response<h2::RecvStream> = self.response.await?;
        let (parts, mut stream) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            body.extend_from_slice(&chunk);
            stream.flow_control().release_capacity(chunk.len())?;
        }
        let trailers = stream.trailers().await?;
        Ok(Reply {
            http: parts.status,
            headers: parts.headers,
            body,
            trailers,
        })
    }
}

impl Reply {
    pub fn message(&mut self) -> Option<Bytes> {
        grpc::take_message(&mut self.body)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// `grpc-status`, wherever it stands.
    pub fn status(&self) -> Option<&str> {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        trailers
            .get("grpc-status")
            .and_then(|value| value.to_str().ok())
    }
}

/// The HTTP/2 reason for which a call failed.
pub fn reason(error: &h2::Error) -> Reason {
    error
        .reason()
        .unwrap_or_else(|| panic!("must fail with an HTTP/2 reason: {error}"))
}

/// The I/O error for which a connection failed.
pub fn io_kind(error: &h2::Error) -> io::ErrorKind {
    error
        .get_io()
        .unwrap_or_else(|| panic!("must fail with an I/O error: {error}"))
        .kind()
}

/// A client that reads frames and judges nothing, for floods that h2 would end.
#[derive(Debug)]
pub struct RawClient<T> {
    io: T,
    input: BytesMut,
}

impl RawClient<TcpStream> {
    pub async fn connect(server: &Server) -> Self {
        Self::over(
            TcpStream::connect(server.addr())
                .await
                .expect("the peer must accept"),
        )
        .await
    }
}

impl<T: Io> RawClient<T> {
    pub async fn over(mut io: T) -> Self {
        io.write_all(PREFACE).await.expect("the peer must read");
        io.write_all(&Frame::settings(&[]).encode())
            .await
            .expect("the peer must read");
        Self {
            io,
            input: BytesMut::new(),
        }
    }

    pub async fn request(&mut self, stream: u32) {
        let block = hpack::encode([
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "peer.test"),
            (":path", "/e"),
        ]);
        let request = Frame::headers(stream, block, true).encode();
        self.io
            .write_all(&request)
            .await
            .expect("the peer must read");
    }

    pub async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(&mut self.input) {
                return frame;
            }
            let read = self
                .io
                .read_buf(&mut self.input)
                .await
                .expect("the peer must write");
            assert_ne!(read, 0, "the peer must not close");
        }
    }
}
