//! RPCs over eight servers in another process: ours beside floors, and with the feature `rivals`
//! beside tonic's balanced channel. For ratios that are to be trusted, `cargo xtask bench` interleaves.

#![forbid(unsafe_code)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use benches::{
    caller::{Caller, Error, Tonic},
    contenders::{Backends, direct_h2::DirectH2, direct_hyper::DirectHyper, ours},
    load::{self, Load, Until},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// Eight servers. They end with it.
struct Servers {
    process: Child,
    backends: Backends,
}

fn unary(c: &mut Criterion) {
    each(c, |c, runtime, backends| {
        let connect = ours::connect(backends);
        let ours = Tonic::new(runtime.block_on(connect)?);
        let connect = DirectH2::connect(&backends.addresses);
        let direct = Tonic::new(runtime.block_on(connect)?);
        #[cfg(feature = "rivals")]
        let balance = {
            let _inside = runtime.enter();
            Tonic::new(benches::contenders::tonic_channel::balance(backends)?)
        };
        let loads = [
            (1, 16),
            (16, 16),
            (64, 16),
            (256, 16),
            (16, 1024),
            (16, 65_536),
        ];
        for (concurrency, size) in loads {
            let name = format!("unary_{size}B_{concurrency}_at_a_time");
            let load = |until| Load {
                until,
                concurrency,
                size,
                streaming: false,
            };
            bench(c, runtime, &name, "ours", &ours, load);
            bench(c, runtime, &name, "direct_h2", &direct, load);
            #[cfg(feature = "rivals")]
            bench(c, runtime, &name, "tonic_balance", &balance, load);
        }
        Ok(())
    });
}

fn streaming(c: &mut Criterion) {
    each(c, |c, runtime, backends| {
        let connect = ours::connect(backends);
        let ours = Tonic::new(runtime.block_on(connect)?);
        let connect = DirectHyper::connect(&backends.addresses);
        let direct = Tonic::new(runtime.block_on(connect)?);
        let load = |until| Load {
            until,
            concurrency: 16,
            size: 16,
            streaming: true,
        };
        let name = "messages_16B_on_16_streams";
        bench(c, runtime, name, "ours", &ours, load);
        bench(c, runtime, name, "direct_hyper", &direct, load);
        Ok(())
    });
}

fn bench<C: Caller>(
    c: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    who: &str,
    caller: &C,
    load: impl Fn(Until) -> Load,
) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(who), |bencher| {
        bencher.iter_custom(|count| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let run = load::run(caller.clone(), load(Until::Count(count)));
            let measured = runtime.block_on(run);
            assert_eq!(
                measured.failed, 0,
                "{who} must lose no RPC: {:?}",
                measured.why
            );
            measured.elapsed
        });
    });
    group.finish();
}

/// With servers of its own, and the client's runtime.
fn each(
    c: &mut Criterion,
    run: impl FnOnce(&mut Criterion, &Runtime, &Backends) -> Result<(), Error>,
) {
    let ran = || -> Result<(), Error> {
        let servers = Servers::start()?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        run(c, &runtime, &servers.backends)
    };
    if let Err(error) = ran() {
        panic!("the bench must reach its servers: {error}");
    }
}

// === impl Servers ===

impl Servers {
    fn start() -> Result<Self, Error> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bench-server"))
            .arg("8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("its output is piped")?;
        let mut addresses = String::new();
        BufReader::new(stdout).read_line(&mut addresses)?;
        let addresses = addresses.trim().split(',').map(str::to_owned).collect();
        let backends = Backends {
            addresses,
            ca: None,
        };
        Ok(Self { process, backends })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // It ends with its standard input, too; this is for a server that hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

criterion_group!(
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = unary, streaming
);
criterion_main!(benches);
