//! More than one connection to a backend that allows few streams (gRFC A105).

use std::{sync::Arc, time::Duration};

use balancer_api::ConnectivityState as State;
use balancer_channel::{Channel, ChannelBuilder, ManualResolver, Resolution, SubConnSnapshot};
use balancer_testpeer::{
    Answer, Backend, Behaviour, Conn, Manners, Peer, Script, Server, faults,
    frame::{Frame, code, setting},
};
use futures_util::StreamExt;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tonic::{Code, Request, Response, Status};

use crate::support::{Text, any_answer, echo, pipes::piped, text};

const MCS: u16 = setting::MAX_CONCURRENT_STREAMS;

/// Longer than anything here takes, by a clock that mostly stands still: a hang must fail.
const PATIENCE: Duration = Duration::from_secs(600);

/// A `round_robin` service config with so many connections for a SubConn.
fn config(max: u32) -> String {
    format!(
        r#"{{"loadBalancingConfig":[{{"round_robin":{{}}}}],
            "connectionScaling":{{"maxConnectionsPerSubchannel":{max}}}}}"#
    )
}

/// So long may a channel take for what a peer by hand waits for.
const SOON: Duration = Duration::from_secs(10);

/// A channel to one peer that a test leads by hand.
async fn by_hand(max: u32) -> (Channel, Peer) {
    let peer = Peer::listen().await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", peer.addr()))
        .plaintext()
        .default_service_config(config(max))
        .build()
        .expect("a channel");
    (channel, peer)
}

/// A channel to servers in memory, which keep a paused clock exact.
fn in_memory(servers: &[Arc<Server>], max: u32) -> ChannelBuilder {
    piped(servers).default_service_config(config(max))
}

/// A server on which every RPC takes so long, and which allows one at a time on a connection.
fn slow(time: Duration) -> Backend {
    Backend::new("slow")
        .max_concurrent_streams(1)
        .answers(move |_| Answer::Echo.after(time))
}

type Rpc = JoinHandle<Result<Response<Text>, Status>>;

fn rpc(channel: &Channel) -> Rpc {
    let channel = channel.clone();
    tokio::spawn(async move { echo(&channel, text("hello")).await })
}

fn rpcs(channel: &Channel, count: usize) -> Vec<Rpc> {
    (0..count).map(|_| rpc(channel)).collect()
}

async fn answered(rpcs: impl IntoIterator<Item = Rpc>) {
    for rpc in rpcs {
        ended(rpc).await.expect("answered");
    }
}

async fn ended(rpc: Rpc) -> Result<Response<Text>, Status> {
    within(rpc).await.expect("no panic")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.expect("must end")
}

/// Accepts a connection that allows `max` streams.
async fn accept(peer: &mut Peer, max: u32) -> Conn {
    let accepted = tokio::time::timeout(SOON, peer.accept()).await;
    let mut conn = accepted.expect("in time").expect("a connection");
    conn.set_patience(Some(SOON));
    conn.handshake_with(&[(MCS, max)])
        .await
        .expect("a handshake");
    conn
}

/// Answers the next RPC on `conn`.
async fn serve(conn: &mut Conn) {
    let request = conn.next_call().await.expect("an RPC");
    let message = request.message().expect("whole");
    conn.reply_ok(request.stream, &message).await.expect("sent");
}

fn only(channel: &Channel) -> SubConnSnapshot {
    let mut all = channel.snapshot().sub_conns;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Waits until the snapshot of the only SubConn says so.
async fn until(channel: &Channel, says: impl Fn(&SubConnSnapshot) -> bool) -> SubConnSnapshot {
    let looking = async {
        loop {
            let sub_conn = only(channel);
            if says(&sub_conn) {
                return sub_conn;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(SOON, looking).await;
    found.unwrap_or_else(|_| panic!("in vain: {:?}", only(channel)))
}

async fn end(channel: Channel) {
    within(channel.close()).await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
}

#[tokio::test(crate = "crate::support::harness")]
async fn an_rpc_that_waits_gets_a_connection_of_its_own() {
    let (channel, mut peer) = by_hand(2).await;
    let mut states = channel.states();
    let first_rpc = rpc(&channel);
    let mut first = accept(&mut peer, 1).await;
    let held = first.next_call().await.expect("the first RPC");

    let second_rpc = rpc(&channel);
    let mut second = accept(&mut peer, 1).await;
    serve(&mut second).await;
    answered([second_rpc]).await;
    let seen = until(&channel, |it| it.connections.len() == 2).await;
    assert_eq!((seen.state, seen.streams), (State::Ready, 1));
    assert!(seen.connections.iter().all(|it| it.max_streams == Some(1)));
    assert_eq!(seen.connections[0].streams, 1, "the oldest comes first");

    first.reply_ok(held.stream, b"").await.expect("sent");
    answered([first_rpc]).await;
    // The oldest that has a free stream is taken.
    let third_rpc = rpc(&channel);
    serve(&mut first).await;
    answered([third_rpc]).await;
    end(channel).await;

    let mut told = Vec::new();
    while let Some(state) = states.next().await {
        told.push(state);
    }
    let expected = [
        State::Idle,
        State::Connecting,
        State::Ready,
        State::Shutdown,
    ];
    assert_eq!(told, expected, "another connection is no change of state");
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn there_are_as_many_as_are_needed_and_never_more_than_allowed() {
    for (max, rpcs_at_once, expected) in [(1, 5, 1), (3, 2, 2), (3, 3, 3), (3, 9, 3), (99, 12, 10)]
    {
        let server = Arc::new(Server::in_memory(slow(Duration::from_secs(1))));
        let channel = in_memory(std::slice::from_ref(&server), max)
            .build()
            .expect("a channel");
        let started = Instant::now();
        answered(rpcs(&channel, rpcs_at_once)).await;
        let journal = server.journal();
        assert_eq!(
            journal.accepted(),
            expected,
            "{rpcs_at_once} RPCs at once, {max} connections allowed"
        );
        assert!(journal.connections.iter().all(|it| it.peak_streams == 1));
        let turns = u64::try_from(rpcs_at_once.div_ceil(expected)).expect("few");
        assert_eq!(started.elapsed().as_secs(), turns, "all of them are used");
        end(channel).await;
        server.until(|journal| journal.open() == 0).await;
    }
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn the_channel_s_own_limit_counts_before_the_config_s() {
    for (limit, expected) in [(0, 1), (1, 1), (2, 2), (20, 20)] {
        let server = Arc::new(Server::in_memory(slow(Duration::from_secs(1))));
        let channel = in_memory(std::slice::from_ref(&server), 50)
            .max_connections_per_subchannel(limit)
            .build()
            .expect("a channel");
        answered(rpcs(&channel, 30)).await;
        assert_eq!(server.journal().accepted(), expected, "at most {limit}");
        end(channel).await;
    }
}

/// Twenty RPCs wait, and each dial takes its time: they come one after the other.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn one_is_dialled_at_a_time() {
    let late = Behaviour::new(|conn| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow(Duration::from_secs(60)).serve(conn).await
    });
    let server = Arc::new(Server::in_memory(late));
    let channel = in_memory(std::slice::from_ref(&server), 5)
        .build()
        .expect("a channel");
    let started = Instant::now();
    answered(rpcs(&channel, 20)).await;
    let dials = server.journal().accept_times();
    let at: Vec<_> = dials.iter().map(|at| (*at - started).as_secs()).collect();
    assert_eq!(at, [0, 1, 2, 3, 4], "each when the one before is there");
    end(channel).await;
}

/// The first of two connections is drained with an RPC on it and others before it.
#[tokio::test(crate = "crate::support::harness")]
async fn draining_one_of_two_fails_no_rpc_and_the_backend_stays_ready() {
    let (channel, mut peer) = by_hand(2).await;
    let open = rpc(&channel);
    let mut first = accept(&mut peer, 1).await;
    let held = first.next_call().await.expect("the first RPC");
    let waiting = rpc(&channel);
    let mut second = accept(&mut peer, 1).await;
    let second_held = second.next_call().await.expect("the second RPC");
    let more = rpcs(&channel, 3);
    until(&channel, |it| it.waiting == 3).await;
    let mut states = channel.states();
    assert_eq!(states.next().await, Some(State::Ready));

    first
        .send_goaway(held.stream, code::NO_ERROR, "")
        .await
        .expect("sent");
    until(&channel, |it| it.connections.len() == 1).await;
    // Those that wait are still there, and one more connection may be made.
    let mut third = accept(&mut peer, 1).await;
    for _ in 0..3 {
        serve(&mut third).await;
    }
    second
        .reply_ok(second_held.stream, b"")
        .await
        .expect("sent");
    first.reply_ok(held.stream, b"").await.expect("sent");
    answered([open, waiting]).await;
    answered(more).await;
    let next = rpc(&channel);
    serve(&mut second).await;
    answered([next]).await;
    assert_eq!(channel.state(false), State::Ready);
    end(channel).await;
    assert_eq!(
        states.next().await,
        Some(State::Shutdown),
        "READY until then"
    );
}

/// Two backends. All connections to the first are lost while RPCs wait there: they go to the second.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn when_all_are_lost_those_that_wait_go_elsewhere() {
    let narrow = Behaviour::new(|mut conn| async move {
        conn.handshake_with(&[(MCS, 1)]).await?;
        conn.next_call().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        conn.reset();
        Ok(())
    });
    let script = Script::new()
        .on_connections(1..=2, narrow)
        .otherwise(faults::silence());
    let servers = [
        Arc::new(Server::in_memory(script)),
        Arc::new(Server::in_memory(Backend::new("wide"))),
    ];
    let channel = in_memory(&servers, 2)
        .warm_up(Duration::from_secs(1))
        .build()
        .expect("a channel");
    let mut failed = 0;
    for rpc in rpcs(&channel, 40) {
        if let Err(status) = ended(rpc).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            failed += 1;
        }
    }
    assert_eq!(failed, 2, "only those whose requests had left");
    assert_eq!(servers[1].journal().streams(), 38);
    end(channel).await;
}

#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_config_that_allows_more_counts_at_once_and_one_that_allows_fewer_closes_none() {
    let server = Arc::new(Server::in_memory(slow(Duration::from_secs(10))));
    let resolver = ManualResolver::silent();
    let resolved =
        |max| Resolution::new(vec!["10.0.0.0:1".into()]).with_service_config(config(max));
    resolver.update(Ok(resolved(1)));
    let channel = piped(std::slice::from_ref(&server))
        .resolver(resolver.clone())
        .build()
        .expect("a channel");
    let crowd = rpcs(&channel, 8);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = only(&channel);
    assert_eq!((before.connections.len(), before.waiting), (1, 7));

    resolver.update(Ok(resolved(3)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let raised = only(&channel);
    assert_eq!(raised.id, before.id, "it is the same SubConn");
    assert_eq!((raised.connections.len(), raised.waiting), (3, 5));

    resolver.update(Ok(resolved(1)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lowered = only(&channel);
    assert_eq!((lowered.connections.len(), lowered.waiting), (3, 5));
    answered(crowd).await;
    answered(rpcs(&channel, 3)).await;
    let journal = server.journal();
    assert_eq!((journal.accepted(), journal.open()), (3, 3));
    end(channel).await;
}

/// Every connection but the first is refused: the dials follow the back-off, and the SubConn, which
/// stays READY, says why there is no other.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn a_dial_that_fails_is_backed_off_and_changes_no_state() {
    let script = Script::new()
        .on_connection(1, slow(Duration::from_secs(1)))
        .otherwise(faults::close_at_once());
    let server = Arc::new(Server::in_memory(script));
    let channel = in_memory(std::slice::from_ref(&server), 4)
        .build()
        .expect("a channel");
    let mut states = channel.states();
    answered([rpc(&channel)]).await;
    let started = Instant::now();
    answered(rpcs(&channel, 30)).await;
    let dials = server.journal().accept_times();
    let at: Vec<_> = dials[1..]
        .iter()
        .map(|at| (*at - started).as_secs_f64())
        .collect();
    assert!(at[0] < 0.1, "at once: {at:?}");
    let waits: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // What the first connection has earned by then counts once.
    assert!(waits.len() >= 5, "{at:?}");
    for (wait, exact) in waits.iter().zip([1.0, 1.6, 2.56, 4.1, 6.55, 10.5]) {
        assert!(
            (exact * 0.79..=exact * 1.21).contains(wait),
            "{exact} s ± 20 %: {at:?}"
        );
    }
    let sub_conn = only(&channel);
    let error = sub_conn.last_error.expect("why there is only one");
    assert!(error.message().contains("10.0.0.0:1"), "{error}");
    assert_eq!(
        (sub_conn.state, sub_conn.connections.len()),
        (State::Ready, 1)
    );
    end(channel).await;
    let mut told = Vec::new();
    while let Some(state) = states.next().await {
        told.push(state);
    }
    let expected = [
        State::Idle,
        State::Connecting,
        State::Ready,
        State::Shutdown,
    ];
    assert_eq!(told, expected, "none of it changed the state");
}

/// RPCs wait for the only stream of each of two connections. One is cancelled, one is too late: both
/// leave no trace, and those behind them are served.
#[tokio::test(crate = "crate::support::harness")]
async fn who_gives_up_waiting_leaves_his_place_to_the_next() {
    let (channel, mut peer) = by_hand(2).await;
    let open = rpcs(&channel, 2);
    let mut conns = [accept(&mut peer, 1).await, accept(&mut peer, 1).await];
    let mut held = Vec::new();
    for conn in &mut conns {
        held.push(conn.next_call().await.expect("an RPC").stream);
    }
    let cancelled = rpc(&channel);
    until(&channel, |it| it.waiting == 1).await;
    let mut late = Request::new(text("late"));
    late.set_timeout(Duration::from_millis(100));
    let late = tokio::spawn({
        let channel = channel.clone();
        async move { echo(&channel, late).await }
    });
    until(&channel, |it| it.waiting == 2).await;
    let patient = rpc(&channel);
    until(&channel, |it| it.waiting == 3).await;

    cancelled.abort();
    let status = late.await.expect("no panic").expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("for a stream"), "{status:?}");
    until(&channel, |it| it.waiting == 1).await;
    // On the second connection, while the first stays busy.
    conns[1].reply_ok(held[1], b"").await.expect("sent");
    serve(&mut conns[1]).await;
    answered([patient]).await;
    conns[0].reply_ok(held[0], b"").await.expect("sent");
    answered(open).await;
    let seen = only(&channel);
    assert_eq!((seen.streams, seen.waiting), (0, 0));
    end(channel).await;
}

/// The peer raises its limit while another connection is being dialled: nobody waits for that one.
#[tokio::test(crate = "crate::support::harness")]
async fn a_limit_that_is_raised_serves_those_that_wait() {
    let (channel, mut peer) = by_hand(2).await;
    let open = rpc(&channel);
    let mut first = accept(&mut peer, 1).await;
    let held = first.next_call().await.expect("an RPC").stream;
    let waiting = rpcs(&channel, 2);
    // The second is accepted, and never says anything.
    let silent = peer.accept().await.expect("a connection");
    first
        .send(Frame::settings(&[(MCS, 3)]))
        .await
        .expect("sent");
    serve(&mut first).await;
    serve(&mut first).await;
    first.reply_ok(held, b"").await.expect("sent");
    answered(waiting).await;
    answered([open]).await;
    assert_eq!(only(&channel).connections[0].max_streams, Some(3));
    drop(silent);
    end(channel).await;
}

/// However few streams and connections there are, everybody has his turn while connections come and go.
#[tokio::test(crate = "crate::support::harness")]
async fn a_crowd_gets_through_doors_that_close() {
    let twenty_each = Behaviour::new(|mut conn| async move {
        conn.handshake_with(&[(MCS, 2)]).await?;
        for n in 1..=20_u32 {
            let request = conn.next_call().await?;
            let message = request.message().unwrap_or_default();
            if n == 20 {
                conn.send_goaway(request.stream, code::NO_ERROR, "enough")
                    .await?;
            }
            conn.reply_ok(request.stream, &message).await?;
        }
        conn.drain().await;
        Ok(())
    });
    let server = Server::start(twenty_each).await.expect("a port");
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .plaintext()
        .default_service_config(config(3))
        .build()
        .expect("a channel");
    let mut crowd = JoinSet::new();
    for _ in 0..1_000 {
        let channel = channel.clone();
        crowd.spawn(async move { any_answer(&channel).await });
    }
    let all = async {
        while let Some(ended) = crowd.join_next().await {
            ended.expect("no panic").expect("each must be answered");
        }
    };
    let all = tokio::time::timeout(2 * SOON, all).await;
    all.expect("nobody may be forgotten");
    let peaks = server.journal();
    assert!(peaks.connections.iter().all(|it| it.peak_streams <= 2));
    assert!(peaks.accepted() >= 1_000 / 20, "as many as were needed");
    end(channel).await;
    server.until(|journal| journal.open() == 0).await;
}

/// The channel closes while a second connection is dialled, falls asleep with two, loses its SubConn:
/// nothing is left in any case.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn nothing_is_left_of_the_others_either() {
    // While it is dialled.
    let script = Script::new()
        .on_connection(1, slow(Duration::from_secs(60)))
        .otherwise(faults::silence());
    let server = Arc::new(Server::in_memory(script));
    let channel = in_memory(std::slice::from_ref(&server), 3)
        .build()
        .expect("a channel");
    let crowd = rpcs(&channel, 3);
    server.until(|journal| journal.accepted() == 2).await;
    end(channel).await;
    for rpc in crowd {
        let status = ended(rpc).await.expect_err("closed");
        assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    }
    server.until(|journal| journal.open() == 0).await;

    // When it falls asleep, and when its address is gone.
    let servers = [(); 2].map(|()| Arc::new(Server::in_memory(slow(Duration::from_secs(1)))));
    let resolver = ManualResolver::silent();
    let at = |n| Resolution::new(vec![format!("10.0.0.{n}:1").as_str().into()]);
    resolver.update(Ok(at(0)));
    let channel = in_memory(&servers, 3)
        .resolver(resolver.clone())
        .idle_timeout(Duration::from_secs(100))
        .build()
        .expect("a channel");
    answered(rpcs(&channel, 6)).await;
    assert_eq!(servers[0].journal().open(), 3);
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert_eq!(channel.state(false), State::Idle);
    servers[0].until(|journal| journal.open() == 0).await;

    answered(rpcs(&channel, 6)).await;
    assert_eq!(servers[0].journal().open(), 3);
    let crowd = rpcs(&channel, 6);
    tokio::time::sleep(Duration::from_millis(500)).await;
    resolver.update(Ok(at(1)));
    answered(crowd).await;
    servers[0].until(|journal| journal.open() == 0).await;
    assert!(servers[1].journal().accepted() > 0);
    end(channel).await;
}

/// The watch over a backend's health takes the only stream of the oldest connection: RPCs have the
/// others, and when the oldest is drained the next is watched, without a change of state.
#[tokio::test(crate = "crate::support::harness")]
async fn the_next_connection_is_watched_when_the_oldest_is_gone() {
    let mut peer = Peer::listen().await.expect("a port");
    let config = config(3).replacen('{', r#"{"healthCheckConfig":{"serviceName":"store"},"#, 1);
    let channel = Channel::builder(format!("ipv4:{}", peer.addr()))
        .plaintext()
        .default_service_config(config)
        .build()
        .expect("a channel");
    let mut states = channel.states();
    let waiting = rpc(&channel);
    let mut first = accept(&mut peer, 1).await;
    let watch = say_serving(&mut first).await;
    let mut second = accept(&mut peer, 1).await;
    serve(&mut second).await;
    answered([waiting]).await;

    first
        .send_goaway(watch, code::NO_ERROR, "")
        .await
        .expect("sent");
    say_serving(&mut second).await;
    drop(first);
    let waiting = rpc(&channel);
    let mut third = accept(&mut peer, 1).await;
    serve(&mut third).await;
    answered([waiting]).await;
    assert_eq!(only(&channel).connections.len(), 2);
    end(channel).await;
    let mut told = Vec::new();
    while let Some(state) = states.next().await {
        told.push(state);
    }
    let expected = [
        State::Idle,
        State::Connecting,
        State::Ready,
        State::Shutdown,
    ];
    assert_eq!(told, expected);
}

/// Takes the question after the backend's health and answers it, once.
async fn say_serving(conn: &mut Conn) -> u32 {
    let watch = conn.next_call().await.expect("the watch");
    assert_eq!(watch.path(), "/grpc.health.v1.Health/Watch");
    conn.reply_headers(watch.stream).await.expect("sent");
    conn.reply_message(watch.stream, &[8, 1])
        .await
        .expect("sent");
    watch.stream
}

/// Of two connections one hears nothing any more: keepalive gives it up, and the other serves on.
#[tokio::test(crate = "crate::support::harness", start_paused = true)]
async fn keepalive_looks_after_each() {
    let deaf = Backend::new("deaf")
        .max_concurrent_streams(1)
        .answer(Answer::Never)
        .manners(Manners::deaf_to_pings());
    let script = Script::new()
        .on_connection(2, deaf)
        .otherwise(slow(Duration::from_secs(1)));
    let server = Arc::new(Server::in_memory(script));
    let channel = in_memory(std::slice::from_ref(&server), 2)
        .keepalive(Duration::from_secs(10), Duration::from_secs(5), false)
        .build()
        .expect("a channel");
    let mut ends = Vec::new();
    for rpc in rpcs(&channel, 3) {
        ends.push(ended(rpc).await.map(drop));
    }
    let failed: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed.len(), 1, "whose request it had: {failed:?}");
    assert!(failed[0].message().contains("keepalive"), "{failed:?}");
    let left = only(&channel);
    assert_eq!((left.state, left.connections.len()), (State::Ready, 1));
    answered([rpc(&channel)]).await;
    end(channel).await;
}
