//! The whole core under `shuttle`: many random schedules of its tasks, its RPCs and its world.
//!
//! The library's own files are compiled into this test with `shuttle`'s locks and atomics in place of
//! the real ones, so that every one of them is a place where another task may go on. Time is the
//! adversary's: a timer is due after a few turns, whatever it was set to. A lost wake-up is a
//! deadlock, which `shuttle` reports with the schedule that replays it.
//!
//! `cargo test -p balancer-channel-core --features shuttle --test shuttle --release`; the environment
//! variables `BALANCER_SHUTTLE_SCHEDULES` (how many for each model) and `BALANCER_SHUTTLE_SEED`.

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

mod models;
mod policy;
mod sync;
mod world;

// What the library has at its root, for its files.
use self::backoff::Backoff;
