//! What RPCs cost that wait, in a process of its own, with an allocator that counts.

#![forbid(unsafe_code)]

use benches::{
    caller::Error,
    waiting::{self, End},
};
use clap::Parser;

/// RPCs that wait for a picker, are released to wait again, and end. Prints one JSON object.
#[derive(Parser)]
struct Args {
    /// How many.
    #[arg(long, default_value_t = 100_000)]
    rpcs: usize,
    /// They fail, where they are else handed to a connection.
    #[arg(long)]
    fail: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let Args { rpcs, fail } = Args::parse();
    let end = if fail { End::Failed } else { End::Sent };
    let held = |work: &mut dyn FnMut()| allocation_counter::measure(work).bytes_current;
    let cost = waiting::wait(rpcs, end, held).await?;
    println!(
        "{{\"cpu_ms\":{:.3},\"bytes\":{:.1},\"future\":{}}}",
        cost.cpu.as_secs_f64() * 1e3,
        cost.bytes,
        cost.future
    );
    Ok(())
}
