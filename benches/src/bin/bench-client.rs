//! One contender under a closed loop, in a process of its own so that its instructions and its CPU
//! time can be counted.

#![forbid(unsafe_code)]

use benches::{
    caller::Error,
    client::{self, Options},
    load::Measured,
};
use clap::Parser;

/// Runs RPCs and prints what was measured as one JSON object.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// How many threads of the runtime; one is the main thread itself.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<(), Error> {
    let cli = Cli::parse();
    let mut runtime = match cli.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if cli.threads > 1 {
        runtime.worker_threads(cli.threads);
    }
    let runtime = runtime.enable_all().build()?;
    let measured = runtime.block_on(client::measure(&cli.options))?;
    print(&measured);
    Ok(())
}

fn print(measured: &Measured) {
    let rps = measured.ok as f64 / measured.elapsed.as_secs_f64();
    let at = |quantile| measured.latency.value_at_quantile(quantile);
    let cpu = match measured.cpu {
        Some(cpu) => format!("{:.3}", cpu.as_secs_f64() * 1e6 / measured.ok.max(1) as f64),
        None => "null".into(),
    };
    println!(
        "{{\"ok\":{},\"failed\":{},\"rps\":{rps:.0},\"cpu_us\":{cpu},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{}}}",
        measured.ok,
        measured.failed,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    if let Some(status) = &measured.why {
        eprintln!("the last failure: {status}");
    }
}
