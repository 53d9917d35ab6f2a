//! The loop behind a [`Backend`]: events in, answers out, windows minded.

use super::{Answer, Backend, answer::Step};
use crate::{
    Conn, Event, MAX_STREAM, PeerError, Request, conn,
    frame::{Frame, code},
    grpc, hpack,
    server::{Order, Orders},
};
use bytes::BytesMut;
use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
};
use tokio::time::{Instant, sleep_until};

pub(super) struct Serving {
    backend: Backend,
    conn: Conn,
    orders: Option<Orders>,
    streams: BTreeMap<u32, Stream>,
    /// Answers that wait for their time, by time and then by order of arrival.
    later: BTreeMap<(Instant, u64), (u32, Answer)>,
    timers_made: u64,
    /// Streams above this are ignored.
    last_allowed: u32,
    draining: bool,
}

struct Stream {
    request: Request,
    answer: Answer,
    /// Octets of the request that are not a whole message yet.
    input: BytesMut,
    input_ended: bool,
    headers_sent: bool,
    output: VecDeque<Step>,
}

// === impl Serving ===

impl Serving {
    pub(super) fn new(backend: Backend, mut conn: Conn) -> Self {
        conn.set_manners(backend.manners);
        Self {
            orders: conn.take_orders(),
            backend,
            conn,
            streams: BTreeMap::new(),
            later: BTreeMap::new(),
            timers_made: 0,
            last_allowed: MAX_STREAM,
            draining: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), PeerError> {
        self.conn.queue(&Frame::settings(&self.backend.settings));
        while !(self.draining && self.streams.is_empty()) {
            let due = self.later.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                biased;
                order = next_order(&mut self.orders) => self.obey(order),
                event = self.conn.pull_event() => match event? {
                    Event::Closed => return Ok(()),
                    event => self.react(event),
                },
                () = sleep_until_some(due) => self.fire(),
            }
        }
        self.conn.close().await;
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Frames(frames) => frames.iter().for_each(|frame| self.conn.queue(frame)),
            Order::GoAway { last, code, debug } => {
                let last = last.unwrap_or(self.conn.last_stream());
                self.last_allowed = self.last_allowed.min(last);
                self.conn.queue(&Frame::goaway(last, code, debug));
            }
            Order::Drain => {
                // Only what the client has sent already is in flight, and it is served: the client
                // learns of the drain before it can know of a stream that is not.
                self.conn
                    .queue(&Frame::goaway(MAX_STREAM, code::NO_ERROR, ""));
                self.conn.queue(&Frame::ping(*b"draining"));
            }
        }
    }

    fn react(&mut self, event: Event) {
        match event {
            Event::Request(request) if request.stream <= self.last_allowed => self.open(request),
            Event::Data { stream, bytes, end } => {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.input.extend_from_slice(&bytes);
                    open.input_ended |= end;
                    self.advance(stream);
                }
            }
            Event::Trailers { stream, .. } => {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.input_ended = true;
                    self.advance(stream);
                }
            }
            Event::Reset { stream, .. } => {
                self.streams.remove(&stream);
            }
            Event::WindowUpdate { stream: 0, .. } | Event::Settings(_) => {
                let all: Vec<u32> = self.streams.keys().copied().collect();
                all.into_iter().for_each(|stream| self.pump(stream));
            }
            Event::WindowUpdate { stream, .. } => self.pump(stream),
            Event::Pong(opaque) if opaque == *b"draining" => {
                // Whatever was sent before the client read our GOAWAY is here by now.
                let last = self.conn.last_stream();
                self.last_allowed = last;
                self.conn.queue(&Frame::goaway(last, code::NO_ERROR, ""));
                self.draining = true;
            }
            _ => {}
        }
    }

    fn open(&mut self, request: Request) {
        let stream = request.stream;
        let answer = (self.backend.answers)(&request);
        let open = Stream {
            input_ended: request.end_stream,
            request,
            answer,
            input: BytesMut::new(),
            headers_sent: false,
            output: VecDeque::new(),
        };
        self.streams.insert(stream, open);
        self.advance(stream);
    }

    /// Does what the stream's answer asks for, now that more of its request is here.
    fn advance(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if open.answer.waits() && !open.input_ended {
            return;
        }
        match open.answer.clone() {
            Answer::Echo => self.echo(stream),
            // Never ends when the client resets the stream or closes.
            Answer::Never => {}
            answer => {
                open.answer = Answer::Never;
                self.give(stream, answer);
            }
        }
    }

    fn give(&mut self, stream: u32, answer: Answer) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        match answer {
            Answer::Echo => {
                open.answer = Answer::Echo;
                self.echo(stream);
            }
            Answer::Respond(response) => {
                open.output.extend(response.steps);
                self.pump(stream);
            }
            Answer::Early(answer) => self.give(stream, *answer),
            Answer::After(delay, answer) => {
                self.timers_made += 1;
                let key = (Instant::now() + delay, self.timers_made);
                self.later.insert(key, (stream, *answer));
            }
            Answer::Reset(code) => {
                open.output.push_back(Step::Reset(code));
                self.pump(stream);
            }
            Answer::Never => {}
            Answer::Frames(make) => {
                for frame in make(&open.request) {
                    self.conn.queue(&frame);
                }
            }
        }
    }

    /// Answers are due: the earliest one.
    fn fire(&mut self) {
        if let Some((_, (stream, answer))) = self.later.pop_first() {
            self.give(stream, answer);
        }
    }

    fn echo(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        let headers = |open: &mut Stream, backend: &Backend| {
            if !std::mem::replace(&mut open.headers_sent, true) {
                let block = hpack::encode(backend.response_headers().iter());
                open.output.push_back(Step::Headers(block.into()));
            }
        };
        while let Some(message) = grpc::take_message(&mut open.input) {
            headers(open, &self.backend);
            open.output.push_back(Step::Body(grpc::message(&message)));
        }
        if open.input_ended {
            headers(open, &self.backend);
            let block = hpack::encode(conn::trailers(grpc::OK, ""));
            open.output.push_back(Step::Trailers(block.into()));
        }
        self.pump(stream);
    }

    /// Sends what the stream has ready, as far as its window reaches.
    fn pump(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        while let Some(step) = open.output.front_mut() {
            let mut over = false;
            match step {
                Step::Headers(block) => {
                    self.conn
                        .queue(&Frame::headers(stream, block.clone(), false))
                }
                Step::Body(rest) => {
                    match self.conn.fitting(stream, rest) {
                        // Nothing fits until the client opens its window.
                        Some(part) if part.is_empty() && !rest.is_empty() => return,
                        Some(part) => self.conn.queue(&Frame::data(stream, part, false)),
                        None => over = true,
                    }
                    if !rest.is_empty() && !over {
                        continue;
                    }
                }
                Step::Trailers(block) => {
                    self.conn
                        .queue(&Frame::headers(stream, block.clone(), true));
                    over = true;
                }
                Step::End => {
                    self.conn.queue(&Frame::data(stream, "", true));
                    over = true;
                }
                Step::Reset(code) => {
                    self.conn.queue(&Frame::rst_stream(stream, *code));
                    over = true;
                }
            }
            let answered = !matches!(step, Step::Reset(_));
            open.output.pop_front();
            if over {
                if answered && !open.input_ended {
                    // RFC 9113, section 8.1: the rest of the request is not needed.
                    self.conn.queue(&Frame::rst_stream(stream, code::NO_ERROR));
                }
                self.streams.remove(&stream);
                return;
            }
        }
    }
}

async fn next_order(orders: &mut Option<Orders>) -> Order {
    match orders {
        Some(inbox) => match inbox.recv().await {
            Some(order) => order,
            None => pending().await,
        },
        None => pending().await,
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
