//! One contender under a closed loop of unary RPCs, in a process of its own so that its
//! instructions can be counted.

#![forbid(unsafe_code)]

use benches::{
    contenders::{direct_h2::DirectH2, ours},
    load::{self, Measured},
};
use clap::Parser;

/// Runs unary RPCs and prints what was measured as one JSON object.
#[derive(Parser)]
struct Args {
    /// Who: ours, direct-h2, or with the feature `rivals` tonic-balance.
    contender: String,
    /// Where: addresses with commas between them.
    addresses: String,
    /// How many RPCs.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// How many bytes of payload.
    #[arg(long, default_value_t = 16)]
    size: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let args = Args::parse();
    let addresses: Vec<String> = args.addresses.split(',').map(str::to_owned).collect();
    let measured = match args.contender.as_str() {
        "ours" => {
            let channel = ours::connect(&addresses).await?;
            load::run(channel, args.count, args.concurrency, args.size).await
        }
        "direct-h2" => {
            let service = DirectH2::connect(&addresses).await?;
            load::run(service, args.count, args.concurrency, args.size).await
        }
        #[cfg(feature = "rivals")]
        "tonic-balance" => {
            let channel = benches::contenders::tonic_balance::connect(&addresses)?;
            load::run(channel, args.count, args.concurrency, args.size).await
        }
        other => return Err(format!("contender {other:?} is not known here").into()),
    };
    print(&measured);
    Ok(())
}

fn print(measured: &Measured) {
    let seconds = measured.elapsed.as_secs_f64();
    let rps = measured.ok as f64 / seconds;
    let at = |quantile| measured.latency.value_at_quantile(quantile);
    println!(
        "{{\"ok\":{},\"failed\":{},\"rps\":{rps:.0},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{}}}",
        measured.ok,
        measured.failed,
        at(0.5),
        at(0.99),
        at(0.999)
    );
}
