//! A scriptable HTTP/2 peer that writes frames by hand, for tests.
//!
//! An HTTP/2 library will not send a GOAWAY in the middle of a header block, forget to acknowledge
//! SETTINGS, or say HTTP/1.1. Servers in production do. This crate is a server that does what the
//! test says, frame by frame if need be, and is a good gRPC backend where the test says nothing.
//! Everything listens on loopback, on ports of the system's choice, or on no socket at all.
//!
//! # Four ways to use it
//!
//! | You want | Take |
//! |---|---|
//! | a server that looks after itself | [`Server`] with a [`Script`] of [`faults`] and [`Backend`]s |
//! | to drive each step from the test | [`Peer::listen`], [`Peer::accept`], [`Conn`] |
//! | the network to fail, not the server | [`Relay`], [`Blackhole`], [`Refused`], [`FdHoard`] |
//! | frames and header blocks | [`frame`], [`hpack`] |
//!
//! # A good backend
//!
//! It echoes each message, minds every window, and names itself in the header `x-backend`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use balancer_testpeer::{Backend, Ending, Server};
//!
//! let a = Server::start(Backend::new("a")).await?;
//! let b = Server::start(Backend::new("b")).await?;
//! // ... point the channel at a.addr() and b.addr() and make calls ...
//! a.kill(Ending::Reset).await; // as SIGKILL does; the port stays ours and refuses
//! a.restart().await?; // on the same port
//! b.drain().await; // as a rolling restart does
//! println!("b served {} calls", b.journal().streams());
//! # Ok(()) }
//! ```
//!
//! # Under a paused clock
//!
//! [`Server::in_memory`] has no socket, so tokio's paused time stays exact: connect with
//! [`Server::connect`]. The journal's times are tokio's too.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use balancer_testpeer::{Server, faults};
//!
//! let silent = Server::in_memory(faults::silence());
//! let io: tokio::io::DuplexStream = silent.connect(); // for the channel's dialer
//! silent.until(|journal| journal.accepted() == 1).await;
//! # drop(io); }
//! ```
//!
//! # Connect and handshake faults
//!
//! [`Script`] gives each connection, counted from 1, its own behaviour: a server that closes twice
//! and then works, for back-off; one that speaks HTTP/1.1 for ever.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use balancer_testpeer::{Backend, Blackhole, Refused, Script, Server, faults};
//!
//! let flaky = Script::new()
//!     .on_connections(1..=2, faults::close_at_once())
//!     .on_connection(3, faults::illegal_settings(faults::IllegalSettings::FrameTooSmall))
//!     .otherwise(Backend::new("a"));
//! let server = Server::start(flaky).await?;
//! let refuses = Refused::new()?;
//! let hangs = Blackhole::new()?;
//! // ... afterwards, how long did it wait between attempts?
//! let waits: Vec<_> = server.journal().accept_times().windows(2).map(|w| w[1] - w[0]).collect();
//! # let _ = (waits, refuses.addr(), hangs.addr()); Ok(()) }
//! ```
//!
//! # GOAWAY
//!
//! On a live server from outside ([`Server::goaway`], [`Server::drain`]), as a behaviour
//! ([`faults::goaway_on_request`] and its kin), or by hand at an exact point:
//!
//! ```no_run
//! # async fn f() -> Result<(), balancer_testpeer::PeerError> {
//! use balancer_testpeer::{MAX_STREAM, Peer, frame::code};
//!
//! let mut peer = Peer::listen().await.expect("loopback has a free port");
//! let mut conn = peer.accept().await?;
//! conn.handshake().await?;
//! let first = conn.next_call().await?;
//! conn.send_goaway(MAX_STREAM, code::NO_ERROR, "soon").await?;
//! conn.send_goaway(first.stream, code::NO_ERROR, "now").await?;
//! conn.reply_ok(first.stream, b"the last one").await?;
//! conn.close().await; // FIN; conn.reset() for RST
//! # Ok(()) }
//! ```
//!
//! # Resets and responses that are not right
//!
//! A [`Backend`]'s [`Answer`] is chosen for each request. [`Response`] puts together what no
//! [`Answer`] constructor has.
//!
//! ```
//! use balancer_testpeer::{Answer, Backend, Response, frame::code};
//!
//! let backend = Backend::new("a").answers(|request| match request.path() {
//!     "/t/Refused" => Answer::Reset(code::REFUSED_STREAM),
//!     "/t/TrailersOnly" => Answer::trailers_only(14, "try later"),
//!     "/t/NoStatus" => Answer::missing_status(b"and no more"),
//!     "/t/Proxy" => Answer::http_status(502),
//!     "/t/Html" => Answer::content_type("text/html"),
//!     "/t/Hints" => Answer::informational_first(103, 3, b"finally"),
//!     "/t/Cut" => Response::grpc().message(b"half").reset(code::INTERNAL_ERROR).into(),
//!     "/t/Silent" => Answer::Never,
//!     _ => Answer::Echo,
//! });
//! ```
//!
//! # Limits and windows
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use balancer_testpeer::{Backend, Manners, Server, frame::{Frame, setting}};
//!
//! let narrow = Server::in_memory(Backend::new("a").max_concurrent_streams(0));
//! narrow.send([Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)])]); // raised
//! let shut = Server::in_memory(Backend::new("b").closed_windows());
//! let dead = Server::in_memory(Backend::new("c").manners(Manners::deaf_to_pings()));
//! # drop((shut, dead)); }
//! ```
//!
//! # Floods and bombs
//!
//! ```
//! use balancer_testpeer::{Script, faults::{self, Flood, HeaderBomb}};
//!
//! let endless = Script::from(faults::flood(Flood::EmptyData, usize::MAX));
//! let bomb = Script::from(faults::header_bomb(HeaderBomb::Hpack(10_000)));
//! ```
//!
//! # The network
//!
//! [`Relay`] stands between client and server, outlives the server, and knows every stream whose
//! HEADERS frame the client's socket took.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use balancer_testpeer::{Backend, Ending, Relay, Server};
//! use std::time::Duration;
//!
//! let server = Server::start(Backend::new("a")).await?;
//! let relay = Relay::to(server.addr()).await?;
//! relay.delay(Duration::from_millis(30));
//! relay.limit_rate(Some(1)); // dribble: one octet per second
//! relay.freeze(); // half-open
//! relay.cut(Ending::Reset).await;
//! server.kill(Ending::Close).await;
//! let may_have_arrived = relay.streams();
//! # assert!(may_have_arrived.is_empty()); Ok(()) }
//! ```
//!
//! # TLS
//!
//! The crate has none, and does not need it: [`Conn::wrap`] lets a behaviour put any TLS acceptor
//! under its connection, and shows how. A plaintext server for a TLS client is any server here.
//!
//! # Which fault is where
//!
//! C are faults of connect and handshake, H those of a working connection; the tests of this crate
//! bear the same numbers.
//!
//! | Fault | How |
//! |---|---|
//! | C1 refused | [`Refused`]; [`Server::kill`] |
//! | C2 SYN blackhole | [`Blackhole`] |
//! | C3 accept, then close | [`faults::close_at_once`], [`faults::reset_at_once`] |
//! | C4 accept, silent | [`faults::silence`] |
//! | C5 not HTTP/2 | [`faults::http1`], [`faults::garbage`], [`faults::say`] |
//! | C6 SETTINGS | [`faults::first_frame`], [`faults::illegal_settings`], [`faults::no_settings_ack`], [`faults::settings_then_close`] |
//! | C7–C9 TLS | any plaintext server; [`Conn::wrap`] with the test's own acceptor |
//! | C10 dribbled handshake | [`Relay::limit_rate`], [`Relay::freeze_after`] |
//! | C11 no descriptors left | [`FdHoard`], in a process of its own |
//! | C12 no ports left, C13 bad connector | not a peer's: the test's network namespace, its connector |
//! | H1–H3 GOAWAY | [`Server::goaway_soon`], [`Server::goaway`], [`faults::goaway_on_request`] |
//! | H4 GOAWAY storm | [`faults::goaway_at_once`] |
//! | H5 GOAWAY twice, or and close | [`faults::two_goaways`], [`faults::goaway_then_close`] |
//! | H6, H7 RST_STREAM | [`Answer::Reset`] with [`frame::code`]; [`Response::reset`] |
//! | H8 stream limits | [`Backend::max_concurrent_streams`], [`Server::send`] |
//! | H9 stalls | [`Manners::deaf_to_pings`], [`faults::stalled_reads`], [`Relay::freeze`] |
//! | H10 half-open | [`Relay::freeze`] |
//! | H11 windows | [`Backend::closed_windows`] |
//! | H12 header bombs | [`faults::header_bomb`]; [`faults::Flood::Continuation`] |
//! | H13 floods | [`faults::flood`] |
//! | H14 bad responses | the [`Answer`] constructors |
//! | H15 no close_notify | [`Conn::wrap`], then drop |
//! | H16 stream ids run out | not a peer's: the client's first stream id |
#![forbid(unsafe_code)]

pub mod faults;
pub mod frame;
pub mod grpc;
pub mod hpack;

mod backend;
mod conn;
mod error;
mod headers;
mod journal;
mod net;
mod peer;
mod relay;
mod script;
mod server;

pub use backend::{Answer, Backend, MakeFrames, Response};
pub use conn::{Conn, Event, MAX_STREAM, Manners, Request};
pub use error::PeerError;
pub use headers::Headers;
pub use journal::{ConnectionRecord, Journal};
pub use net::{Blackhole, Ending, FdHoard, Io, Refused};
pub use peer::Peer;
pub use relay::{Relay, RelayedStream};
pub use script::{Behaviour, Script};
pub use server::Server;
