//! A connection: what the client knows of it, what the server does, and the messages in between.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use balancer_api::{CallRequest, Status, Timestamp};
use balancer_channel_core::{BoxFuture, Connected, Connection, Lost, PolicyCall};

use super::{Effects, Inner, Message, Net, Side, watch::Watch};
use crate::{fault::Fault, sabotage::Sabotage, sim::lock};

/// Both sides, and what is on its way.
pub(super) struct Conn {
    pub(super) dial: u64,
    pub(super) backend: usize,
    pub(super) address: String,
    pub(super) sub_conn: u64,
    /// The first of the connections that share its queue.
    pub(super) family: u64,

    // The client's side.
    pub(super) ready: bool,
    pub(super) limit: u32,
    pub(super) fate: Arc<Mutex<Fate>>,
    /// The channel has closed it, or let go of it.
    closing: bool,
    leaked: bool,
    gone: bool,
    streams: BTreeMap<u32, OpenStream>,
    next_stream: u32,
    /// Who waits for a stream.
    pub(super) slots: Vec<Waker>,
    pub(super) drained: Vec<Waker>,
    pub(super) watches: BTreeMap<u64, Watch>,

    // The server's.
    pub(super) served: bool,
    pub(super) serving: BTreeSet<u32>,
    pub(super) highest: u32,
    pub(super) goaway_at: Option<u32>,

    to_server: VecDeque<(Timestamp, Message)>,
    to_client: VecDeque<(Timestamp, Message)>,
}

/// What connections of one SubConn have together.
#[derive(Default)]
pub(super) struct Family {
    /// RPCs that wait for a stream.
    waiting: usize,
    /// Told when one comes to wait.
    news: Option<Box<dyn FnOnce() + Send>>,
}

/// An RPC that waits for a stream.
struct InLine {
    net: Arc<Net>,
    family: u64,
}

#[derive(Default)]
struct OpenStream {
    end: Option<StreamEnd>,
    /// Told once; stays until the RPC lets go of it.
    over: bool,
    begun: bool,
    waker: Option<Waker>,
}

/// What is to be known of a connection, also after its end.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) answered: bool,
    lost: Option<Lost>,
    waker: Option<Waker>,
}

/// How a stream ends, as the client sees it.
#[derive(Clone, Debug)]
pub(crate) enum StreamEnd {
    Good,
    Status(Status),
    Reset,
    /// No application has seen it: REFUSED_STREAM, or a GOAWAY below it.
    Refused,
    /// The connection is gone.
    Lost(Status),
    /// The channel closed it.
    Aborted(Status),
    /// It never left.
    NotSent,
}

/// The channel's handle.
pub(crate) struct SimConnection {
    net: Arc<Net>,
    id: u64,
    family: u64,
    address: String,
    fate: Arc<Mutex<Fate>>,
}

/// An RPC's stream; dropping it resets it.
pub(crate) struct Stream {
    net: Arc<Net>,
    conn: u64,
    stream: u32,
}

// === impl Conn ===

impl Conn {
    pub(super) fn new(
        dial: u64,
        backend: usize,
        address: String,
        sub_conn: u64,
        family: u64,
    ) -> Self {
        Self {
            family,
            dial,
            backend,
            address,
            sub_conn,
            ready: false,
            limit: 0,
            fate: Arc::default(),
            closing: false,
            leaked: false,
            gone: false,
            streams: BTreeMap::new(),
            next_stream: 1,
            slots: Vec::new(),
            drained: Vec::new(),
            watches: BTreeMap::new(),
            served: true,
            serving: BTreeSet::new(),
            highest: 0,
            goaway_at: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
        }
    }

    pub(super) fn queue(&mut self, side: Side) -> &mut VecDeque<(Timestamp, Message)> {
        match side {
            Side::Server => &mut self.to_server,
            Side::Client => &mut self.to_client,
        }
    }

    /// Takes new streams.
    pub(super) fn is_open(&self) -> bool {
        self.ready && lock(&self.fate).lost.is_none() && !self.closing
    }

    /// Streams whose RPCs wait for an answer.
    pub(super) fn waiting_streams(&self) -> usize {
        self.streams.values().filter(|it| !it.over).count()
    }

    pub(super) fn open_streams(&self) -> usize {
        let watches = self.watches.values().filter(|watch| watch.is_running());
        self.streams.len() + watches.count()
    }

    pub(super) fn is_over(&self) -> bool {
        self.streams.is_empty() && (self.gone || self.closing) && !self.leaked
    }

    pub(super) fn update(&mut self, stream: u32, end: Option<StreamEnd>, out: &mut Effects<'_>) {
        if let Some(open) = self.streams.get_mut(&stream).filter(|it| !it.over) {
            open.begun = true;
            if end.is_some() {
                open.over = true;
                open.end = end;
            }
            out.wakers.extend(open.waker.take());
        }
    }

    pub(super) fn goaway(&mut self, last: u32, too_many_pings: bool, out: &mut Effects<'_>) {
        let mut lost = Lost::new(Status::unavailable(format!("{}: GOAWAY", self.address)));
        lost.too_many_pings = too_many_pings;
        self.lost(lost, out);
        out.wakers.append(&mut self.slots);
        let refused: Vec<u32> = self.streams.range(last + 1..).map(|(id, _)| *id).collect();
        for stream in refused {
            self.update(stream, Some(StreamEnd::Refused), out);
        }
    }

    fn lost(&mut self, lost: Lost, out: &mut Effects<'_>) {
        let mut fate = lock(&self.fate);
        fate.lost.get_or_insert(lost);
        out.wakers.extend(fate.waker.take());
    }

    /// It is gone, and every stream with it.
    pub(super) fn lose(&mut self, lost: Lost, end: &StreamEnd, out: &mut Effects<'_>) {
        self.gone = true;
        let status = lost.status.clone();
        self.lost(lost, out);
        out.wakers.append(&mut self.slots);
        let open: Vec<u32> = self.streams.keys().copied().collect();
        for stream in open {
            self.update(stream, Some(end.clone()), out);
        }
        for watch in self.watches.values_mut() {
            watch.end(&status, out);
        }
    }
}

// === impl Net, Inner ===

impl Net {
    /// What a channel does at its close to connections that no SubConn has any more.
    pub(crate) fn abort_all(self: &Arc<Self>, status: &Status) {
        self.with(|inner, out| {
            let ids: Vec<u64> = inner.conns.keys().copied().collect();
            ids.into_iter().for_each(|id| inner.abort(id, status, out));
        });
    }
}

impl Inner {
    fn abort(&mut self, id: u64, status: &Status, out: &mut Effects<'_>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            out.lines.push(format!("c{id}: aborted"));
            conn.closing = true;
            let end = StreamEnd::Aborted(status.clone());
            conn.lose(Lost::new(status.clone()), &end, out);
        }
        self.tidy(id, out);
    }

    fn close(&mut self, id: u64, out: &mut Effects<'_>) {
        let leaks = out.sim.is_sabotaged(Sabotage::LeakedConnection, 3);
        if let Some(conn) = self.conns.get_mut(&id) {
            // Held by nobody, and nobody can abort it.
            conn.leaked |= leaks;
            if !std::mem::replace(&mut conn.closing, true) {
                out.lines.push(format!("c{id}: closes"));
            }
            out.wakers.append(&mut conn.slots);
        }
        self.tidy(id, out);
    }
}

// === impl SimConnection ===

impl SimConnection {
    pub(super) fn adopt(
        net: &Arc<Net>,
        id: u64,
        family: u64,
        address: &str,
        fate: &Arc<Mutex<Fate>>,
    ) -> Connected<Self> {
        let connection = Self {
            net: net.clone(),
            id,
            family,
            address: address.to_owned(),
            fate: fate.clone(),
        };
        Connected {
            connection,
            lost: match net.sim.is_sabotaged(Sabotage::DeafToLoss, 1) {
                true => Box::pin(std::future::pending()),
                false => Box::pin(lost(fate.clone())),
            },
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn family(&self) -> u64 {
        self.family
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends an RPC, once a stream is free: here, or on another connection of the family.
    pub(crate) async fn open(&self) -> Result<Stream, StreamEnd> {
        let mut in_line = None;
        poll_fn(|cx| {
            let (opened, news) = self.net.with(|inner, out| {
                let open = |conn: &Conn| conn.family == self.family && conn.is_open();
                let has_room = |conn: &Conn| conn.waiting_streams() < conn.limit as usize;
                let mut family = inner.conns.iter().filter(|(_, it)| open(it)).peekable();
                if family.peek().is_none() {
                    return (Poll::Ready(Err(StreamEnd::NotSent)), None);
                }
                let Some((&id, _)) = family.find(|(_, it)| has_room(it)) else {
                    let family = inner.families.entry(self.family).or_default();
                    let mut news = None;
                    if in_line.is_none() {
                        out.hits.push((Fault::MaxStreams, 1));
                        family.waiting += 1;
                        news = family.news.take();
                        in_line = Some(InLine {
                            net: self.net.clone(),
                            family: self.family,
                        });
                    }
                    for conn in inner.conns.values_mut().filter(|it| open(it)) {
                        conn.slots.push(cx.waker().clone());
                    }
                    return (Poll::Pending, news);
                };
                let Some(conn) = inner.conns.get_mut(&id) else {
                    unreachable!("it was found");
                };
                let stream = conn.next_stream;
                conn.next_stream += 2;
                conn.streams.insert(stream, OpenStream::default());
                inner.send(id, Side::Server, Message::Request { stream }, out);
                (Poll::Ready(Ok((id, stream))), None)
            });
            if let Some(news) = news {
                news();
            }
            opened.map_ok(|(conn, stream)| Stream {
                net: self.net.clone(),
                conn,
                stream,
            })
        })
        .await
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.net.with(|inner, _| {
            if let Some(family) = inner.families.get_mut(&self.family) {
                family.waiting -= 1;
            }
        });
    }
}

/// Ends by the network's doing only: the channel does not wait for what it closed itself.
async fn lost(fate: Arc<Mutex<Fate>>) -> Lost {
    poll_fn(move |cx: &mut Context<'_>| {
        let mut fate = lock(&fate);
        match &fate.lost {
            Some(lost) => Poll::Ready(lost.clone()),
            None => {
                fate.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

impl Connection for SimConnection {
    fn close(&self) {
        self.net.with(|inner, out| inner.close(self.id, out));
    }

    fn abort(&self, status: Status) {
        self.net
            .with(|inner, out| inner.abort(self.id, &status, out));
    }

    fn start_call(&self, request: CallRequest) -> PolicyCall {
        self.net.watch(self.id, &request)
    }

    fn streams(&self) -> usize {
        let streams = |inner: &mut Inner| inner.conns.get(&self.id).map_or(0, Conn::open_streams);
        self.net.with(|inner, _| streams(inner))
    }

    fn answered(&self) -> bool {
        lock(&self.fate).answered
    }

    fn is_lost(&self) -> bool {
        lock(&self.fate).lost.is_some()
    }

    fn queued(&self) -> usize {
        let waiting = |inner: &mut Inner| {
            let family = inner.families.get(&self.family);
            family.map_or(0, |family| family.waiting)
        };
        self.net.with(|inner, _| waiting(inner))
    }

    fn when_crowded(&self, news: Box<dyn FnOnce() + Send>) {
        let now = self.net.with(|inner, _| {
            if !inner.conns.values().any(|it| it.family == self.family) {
                // It is gone, and the channel will hear of it.
                return None;
            }
            let family = inner.families.entry(self.family).or_default();
            if family.waiting > 0 {
                return Some(news);
            }
            family.news = Some(news);
            None
        });
        if let Some(news) = now {
            news();
        }
    }

    fn drained(&self) -> BoxFuture<()> {
        let (net, id) = (self.net.clone(), self.id);
        Box::pin(poll_fn(move |cx| {
            net.with(|inner, _| match inner.conns.get_mut(&id) {
                None => Poll::Ready(()),
                Some(conn) => {
                    conn.drained.push(cx.waker().clone());
                    Poll::Pending
                }
            })
        }))
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.net.with(|inner, out| inner.close(self.id, out));
    }
}

impl fmt::Debug for SimConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{} to {}", self.id, self.address)
    }
}

// === impl Stream ===

impl Stream {
    pub(crate) fn number(&self) -> u32 {
        self.stream
    }

    /// How it ends.
    pub(crate) async fn end(&self) -> StreamEnd {
        poll_fn(|cx| {
            self.net.with(|inner, _| {
                let conn = inner.conns.get_mut(&self.conn);
                let stream = conn.and_then(|conn| conn.streams.get_mut(&self.stream));
                match stream.map(|stream| (stream.end.take(), stream)) {
                    Some((Some(end), _)) => Poll::Ready(end),
                    Some((None, stream)) => {
                        stream.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                    None => Poll::Ready(StreamEnd::Reset),
                }
            })
        })
        .await
    }

    /// Whether the answer has begun, so that the RPC cannot be sent again.
    pub(crate) fn has_begun(&self) -> bool {
        self.net.with(|inner, _| {
            let conn = inner.conns.get(&self.conn);
            conn.and_then(|conn| conn.streams.get(&self.stream))
                .is_some_and(|stream| stream.begun)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (id, stream) = (self.conn, self.stream);
        self.net.with(|inner, out| {
            let Some(conn) = inner.conns.get_mut(&id) else {
                return;
            };
            let open = conn.streams.remove(&stream);
            // The slot is free as soon as the stream is over.
            out.wakers.append(&mut conn.slots);
            if open.is_some_and(|open| !open.over) {
                inner.send(id, Side::Server, Message::Cancel { stream }, out);
            }
            inner.tidy(id, out);
        });
    }
}
