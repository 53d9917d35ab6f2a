//! What one contender allocates per RPC, in a binary of its own: the counting allocator costs
//! instructions, which are not to be in anybody else's figures.

#![forbid(unsafe_code)]

use benches::{
    caller::Error,
    client::{self, Options},
};
use clap::Parser;

/// Runs RPCs twice, `count` of them the first time and twice as many the second time, and prints the
/// difference per RPC as one JSON object: what starting up allocates is in both.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<(), Error> {
    let cli = Cli::parse();
    let mut twice = cli.options.clone();
    twice.count *= 2;
    let (short, long) = (allocated(&cli.options)?, allocated(&twice)?);
    let each = |short: u64, long: u64| long.saturating_sub(short) as f64 / cli.options.count as f64;
    println!(
        "{{\"allocations\":{:.2},\"bytes\":{:.0}}}",
        each(short.0, long.0),
        each(short.1, long.1)
    );
    Ok(())
}

/// Allocations and bytes of one run. The runtime has one thread, this one, whose allocations the
/// counter counts.
fn allocated(options: &Options) -> Result<(u64, u64), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut result = None;
    let info = allocation_counter::measure(|| {
        result = Some(runtime.block_on(client::measure(options)));
    });
    let measured = result.ok_or("nothing ran")??;
    if let Some(status) = measured.why {
        return Err(format!("{} RPCs failed: {status}", measured.failed).into());
    }
    Ok((info.count_total, info.bytes_total))
}
