//! What a policy costs per change and per SubConn, in a process of its own.

#![forbid(unsafe_code)]

use std::{hint::black_box, time::Instant};

use balancer_api::{ConnectivityState, PickOptions};
use benches::fleet::Fleet;
use clap::{Parser, ValueEnum};

/// Runs one measurement of `round_robin` and prints one JSON object.
#[derive(Parser)]
struct Args {
    /// What to measure.
    what: What,
    /// How many backends.
    #[arg(long, default_value_t = 10_000)]
    backends: usize,
    /// How many changes, or picks.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// How many SubConns become READY before each settle.
    #[arg(long, default_value_t = 128)]
    burst: usize,
    /// How many backends flapped last, before picks are measured.
    #[arg(long, default_value_t = 0)]
    flapped: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// From the first list to all READY, in bursts.
    Start,
    /// Backends chosen at random lose their connection and get it back.
    Flap,
    /// The same list once more, equal but not the same memory.
    SameList,
    /// Bytes that the policy and its picker hold per SubConn.
    Memory,
    /// Picks by one thread.
    Pick,
}

fn main() {
    let args = Args::parse();
    let builder = balancer_roundrobin::builder();
    let mut fleet = Fleet::new(&*builder);
    let list = Fleet::backends(args.backends);
    match args.what {
        What::Start => {
            fleet.start(list);
            let start = Instant::now();
            fleet.bring_up(args.burst);
            let nanos = start.elapsed().as_nanos() as f64;
            let each = nanos / args.backends as f64;
            println!(
                "{{\"ns_per_sub_conn\":{each:.1},\"published\":{}}}",
                fleet.published()
            );
        }
        What::Flap => {
            fleet.start(list);
            fleet.bring_up(args.burst);
            let mut random = Random(42);
            let mut worst = 0;
            let all = Instant::now();
            for _ in 0..args.count {
                let backend = random.below(args.backends);
                let start = Instant::now();
                fleet.flap(backend);
                worst = worst.max(start.elapsed().as_nanos());
            }
            let each = all.elapsed().as_nanos() as f64 / args.count as f64;
            println!("{{\"ns_per_flap\":{each:.1},\"worst_ns\":{worst}}}");
        }
        What::SameList => {
            fleet.start(list);
            fleet.bring_up(args.burst);
            let again = Fleet::backends(args.backends);
            let start = Instant::now();
            fleet.resolve(again);
            println!("{{\"ns\":{}}}", start.elapsed().as_nanos());
        }
        What::Memory => {
            // The list and the SubConns exist anyway.
            let mut info = allocation_counter::measure(|| {
                fleet.start(list);
                fleet.bring_up(args.burst);
            });
            info.bytes_current -= (args.backends * 24) as i64;
            let each = info.bytes_current as f64 / args.backends as f64;
            println!("{{\"bytes_per_sub_conn\":{each:.1}}}");
        }
        What::Pick => {
            fleet.start(list);
            fleet.bring_up(args.burst);
            let mut random = Random(7);
            for _ in 0..args.flapped {
                let backend = random.below(args.backends);
                fleet.tell(backend, ConnectivityState::Idle);
                fleet.settle();
            }
            let picker = fleet.picker();
            let options = PickOptions::new("/s/m");
            let start = Instant::now();
            for _ in 0..args.count {
                black_box(picker.pick(black_box(&options)).is_ok());
            }
            let each = start.elapsed().as_nanos() as f64 / args.count as f64;
            println!("{{\"ns_per_pick\":{each:.2}}}");
        }
    }
}

/// xorshift: the same walk in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
