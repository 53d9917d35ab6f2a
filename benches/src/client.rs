//! What the client binaries share: one contender, by name, under one load.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    caller::{Caller, Error, Tonic},
    contenders::{
        Backends, direct_h2::DirectH2, direct_hyper::DirectHyper, ours, raw_h2::RawH2,
        raw_hyper::RawHyper,
    },
    load::{self, Load, Measured, Until},
};

/// Who is measured, and under what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Who: ours, ours-deadline with a deadline for each RPC, ours-1 with the first backend only; of the floors raw-h2, raw-hyper, direct-h2, direct-hyper; with the feature `rivals`
    /// tonic-single, tonic-balance, p2c-tonic, p2c-h2, ginepro, grpc.
    pub contender: String,
    /// Where: addresses with commas between them.
    #[arg(value_delimiter = ',')]
    pub addresses: Vec<String>,
    /// How many RPCs, or messages.
    #[arg(long, default_value_t = 1000)]
    pub count: usize,
    /// For how long, in milliseconds, instead of how many.
    #[arg(long, value_name = "MS")]
    pub time: Option<u64>,
    /// For how long before that, in milliseconds, without counting.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub warm_up: u64,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// How many bytes of payload.
    #[arg(long, default_value_t = 16)]
    pub size: usize,
    /// Messages of one open stream a task instead of unary RPCs.
    #[arg(long)]
    pub streaming: bool,
    /// TLS, trusting the certificate in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Connects the contender and measures it.
///
/// # Errors
/// It is not known, was not compiled in, or cannot connect.
pub async fn measure(options: &Options) -> Result<Measured, Error> {
    let ca = options.ca.as_ref().map(std::fs::read).transpose()?;
    let backends = Backends {
        addresses: options.addresses.clone(),
        ca,
    };
    match options.contender.as_str() {
        "ours" => run(Tonic::new(ours::connect(&backends).await?), options).await,
        "ours-deadline" => {
            let service = ours::with_deadline(&backends).await?;
            run(Tonic::new(service), options).await
        }
        "ours-1" => {
            let mut backends = backends;
            backends.addresses.truncate(1);
            run(Tonic::new(ours::connect(&backends).await?), options).await
        }
        "direct-h2" => {
            let service = DirectH2::connect(backends.plaintext()?).await?;
            run(Tonic::new(service), options).await
        }
        "direct-hyper" => {
            let service = DirectHyper::connect(backends.plaintext()?).await?;
            run(Tonic::new(service), options).await
        }
        "raw-h2" => run(RawH2::connect(backends.plaintext()?).await?, options).await,
        "raw-hyper" => run(RawHyper::connect(backends.plaintext()?).await?, options).await,
        _ => rival(options, &backends).await,
    }
}

#[cfg(feature = "rivals")]
async fn rival(options: &Options, backends: &Backends) -> Result<Measured, Error> {
    use crate::contenders::{ginepro::Ginepro, official::Official, tonic_channel, tower_p2c};
    match options.contender.as_str() {
        "tonic-single" => run(Tonic::new(tonic_channel::single(backends).await?), options).await,
        "tonic-balance" => run(Tonic::new(tonic_channel::balance(backends)?), options).await,
        "p2c-tonic" => {
            let service = tower_p2c::over_channels(backends).await?;
            run(Tonic::new(service), options).await
        }
        "p2c-h2" => {
            let service = tower_p2c::over_floor(backends.plaintext()?).await?;
            run(Tonic::new(service), options).await
        }
        "ginepro" => run(Ginepro::connect(backends).await?, options).await,
        "grpc" => run(Official::connect(backends.plaintext()?)?, options).await,
        other => Err(format!("contender {other:?} is not known").into()),
    }
}

#[cfg(not(feature = "rivals"))]
async fn rival(options: &Options, _: &Backends) -> Result<Measured, Error> {
    let other = &options.contender;
    Err(format!("contender {other:?} is not known without the feature `rivals`").into())
}

async fn run<C: Caller>(caller: C, options: &Options) -> Result<Measured, Error> {
    let load = Load {
        until: match options.time {
            Some(time) => Until::Time(Duration::from_millis(time)),
            None => Until::Count(options.count),
        },
        concurrency: options.concurrency.max(1),
        size: options.size,
        streaming: options.streaming,
    };
    if options.warm_up > 0 {
        let until = Until::Time(Duration::from_millis(options.warm_up));
        load::run(caller.clone(), Load { until, ..load }).await;
    }
    Ok(load::run(caller, load).await)
}
