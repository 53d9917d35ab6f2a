//! What a policy costs per change and per SubConn, in a process of its own.

#![forbid(unsafe_code)]

use std::time::Instant;

use benches::{caller::Error, fleet::Fleet, picks, random::Random};
use clap::{Parser, ValueEnum};

/// Runs one measurement, of `round_robin` where nobody else is named, and prints one JSON object.
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
    /// The SubConns become READY in an order of chance.
    #[arg(long)]
    shuffled: bool,
    /// How many backends were lost, one after the other, before picks are measured.
    #[arg(long, default_value_t = 0)]
    lost: usize,
    /// Who picks.
    #[arg(long, value_enum, default_value = "ours")]
    picker: Who,
    /// How many threads pick at once.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How many steps of its own a thread takes between two picks.
    #[arg(long, default_value_t = 0)]
    between: u64,
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
    /// Picks.
    Pick,
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// `round_robin`, through `dyn Picker`.
    Ours,
    /// The same, after a load of the current picker.
    OursLoaded,
    /// A bare shared counter.
    FetchAdd,
    /// The same as a picker.
    Counting,
    /// Nobody: what a thread does between two picks.
    Nobody,
    /// tower's power of two choices; with the feature `rivals`.
    TowerP2c,
    /// pingora's round robin; with the feature `pingora`.
    Pingora,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let builder = balancer_roundrobin::builder();
    let mut fleet = Fleet::new(&*builder);
    let list = Fleet::backends(args.backends);
    match args.what {
        What::Start => {
            fleet.start(list);
            let mut order: Vec<usize> = (0..args.backends).collect();
            if args.shuffled {
                Random::new(11).shuffle(&mut order);
            }
            let start = Instant::now();
            fleet.bring_up_in(&order, args.burst);
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
            let mut random = Random::new(42);
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
            let each = nanos_per_pick(&args)?;
            println!("{{\"ns_per_pick\":{each:.2}}}");
        }
    }
    Ok(())
}

fn nanos_per_pick(args: &Args) -> Result<f64, Error> {
    let (backends, lost) = (args.backends, args.lost);
    Ok(match args.picker {
        Who::Ours => time(args, picks::ours(backends, lost)),
        Who::OursLoaded => time(args, picks::ours_loaded(backends, lost)),
        Who::FetchAdd => time(args, picks::fetch_add()),
        Who::Counting => time(args, picks::counting()),
        Who::Nobody => time(args, picks::nobody()),
        #[cfg(feature = "rivals")]
        Who::TowerP2c => time(args, picks::tower_p2c(backends)),
        #[cfg(feature = "pingora")]
        Who::Pingora => time(args, picks::pingora(backends)),
        #[allow(unreachable_patterns, reason = "with all features none is left")]
        _ => return Err("this picker was not compiled in".into()),
    })
}

fn time(args: &Args, pick: impl Fn() -> bool + Sync) -> f64 {
    picks::time(args.threads, args.count, args.between, pick)
}
