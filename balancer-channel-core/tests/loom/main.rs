//! Every interleaving of what threads do to a channel's core at the same time.
//!
//! The library's own files are compiled into this test with `loom`'s atomics and mutexes in place of the
//! real ones, and a mutex in place of `arc-swap`: what is proved are our protocols, not `arc-swap`
//! itself. A lost wake-up is a deadlock, which `loom` reports.
//!
//! | module | what runs in it |
//! |---|---|
//! | `waiting` | the picker cell alone: publish, park, cancel, close, sleep |
//! | `running` | the whole core: the balancer's task on one thread, RPCs and the network on others |
//!
//! `cargo test -p balancer-channel-core --features loom --test loom --release`; the environment
//! variable `BALANCER_LOOM_BOUND` says how many preemptions are explored (2).

macro_rules! library {
    ($($module:ident: $path:literal,)*) => {$(
        #[path = $path]
        #[allow(
            dead_code,
            unreachable_pub,
            missing_docs,
            rustdoc::all,
            reason = "the library's own files, without the rest of it"
        )]
        mod $module;
    )*};
}

library! {
    actor: "../../src/actor/mod.rs",
    backoff: "../../src/backoff.rs",
    by_id: "../../src/by_id.rs",
    chatter: "../../src/chatter.rs",
    conn: "../../src/conn.rs",
    contain: "../../src/contain.rs",
    core: "../../src/core.rs",
    env: "../../src/env.rs",
    health: "../../src/health.rs",
    machine: "../../src/machine.rs",
    picker_cell: "../../src/picker_cell.rs",
    queue: "../../src/queue.rs",
    resolver: "../../src/resolver.rs",
    rpc: "../../src/rpc.rs",
    settings: "../../src/settings.rs",
    shared: "../../src/shared.rs",
    snapshot: "../../src/snapshot.rs",
    sub_conn: "../../src/sub_conn.rs",
    watch: "../../src/watch.rs",
}

mod explore;
mod policy;
mod running;
mod sync;
mod waiting;
mod world;

// What the library has at its root, for its files.
use self::backoff::Backoff;
