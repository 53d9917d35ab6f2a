//! What the client binaries share: one contender, by name, under one load.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    caller::{Caller, Error, Tonic},
    contenders::{Backends, direct_h2::DirectH2, ours},
    load::{self, Load, Measured, Until},
};

/// Who is measured, and under what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Who: ours, direct-h2, or with the feature `rivals` one of the others.
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
        "direct-h2" => {
            backends.plaintext_only()?;
            let service = DirectH2::connect(&backends.addresses).await?;
            run(Tonic::new(service), options).await
        }
        other => Err(format!("contender {other:?} is not known here").into()),
    }
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
