//! What a channel costs beside its RPCs, in a process of its own: many connections, doing nothing.

#![forbid(unsafe_code)]

use std::time::Duration;

use benches::{
    caller::Error,
    crowd::{self, Who},
};
use clap::{Parser, Subcommand, ValueEnum};

/// Runs one measurement and prints one JSON object.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Connections to every address.
    Connect {
        /// Separated by commas.
        addresses: String,
        /// Who connects.
        #[arg(long, value_enum, default_value = "ours")]
        who: Caller,
    },
    /// A channel that has nothing to do.
    Idle {
        /// Separated by commas.
        addresses: String,
        /// Nobody listens there: the channel waits for its back-off to end.
        #[arg(long)]
        down: bool,
        /// Milliseconds to look at it.
        #[arg(long, default_value_t = 2_000)]
        millis: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Caller {
    /// This workspace's channel.
    Ours,
    /// `h2` by itself.
    BareH2,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let split = |addresses: String| addresses.split(',').map(str::to_owned).collect();
    match Args::parse().what {
        What::Connect { addresses, who } => {
            let who = match who {
                Caller::Ours => Who::Ours,
                Caller::BareH2 => Who::BareH2,
            };
            let cost = crowd::connect(who, split(addresses)).await?;
            println!(
                "{{\"wall_ms\":{:.3},\"cpu_ms\":{:.3}}}",
                cost.wall.as_secs_f64() * 1e3,
                cost.cpu.as_secs_f64() * 1e3
            );
        }
        What::Idle {
            addresses,
            down,
            millis,
        } => {
            let rest = Duration::from_millis(millis);
            let cpu = crowd::idle(split(addresses), down, rest).await?;
            println!("{{\"cpu_ms\":{:.3}}}", cpu.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
