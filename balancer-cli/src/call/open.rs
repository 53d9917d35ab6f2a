//! Makes the channel that the command line describes.

use std::{fs, path::Path, sync::Arc};

use balancer_channel::{BuildError, Channel, TlsConfig};
use balancer_registry::ServiceConfig;

use crate::{
    args::CallArgs,
    check_config, config_source,
    exit::Unusable,
    observe::{self, Tally},
    output,
};

pub(crate) struct Opened {
    pub(crate) channel: Channel,
    /// The policy that was asked for, or the default one.
    pub(crate) policy: String,
}

/// # Errors
/// The target, the service config, a file or a combination of them is bad.
pub(crate) fn open(args: &CallArgs, tally: &Arc<Tally>) -> Result<Opened, Unusable> {
    let registry = observe::registry(tally);
    let config = match &args.service_config {
        None => b"{}".to_vec(),
        Some(config) => config_source::read_inline(config)?,
    };
    let config = ServiceConfig::parse(config, &registry).map_err(|error| {
        let complaint = check_config::complaint(&error);
        Unusable::new(format!(
            "--service-config is invalid:\n{}",
            complaint.trim_end()
        ))
    })?;
    for warning in config.warnings() {
        output::say(&format!("balancer: --service-config: warning: {warning}"));
    }
    let mut builder = Channel::builder(&args.target)
        .registry(registry)
        .default_service_config(config.json());
    builder = match tls(args)? {
        None => builder.plaintext(),
        Some(tls) => builder.tls(tls),
    };
    if let Some(name) = &args.server_name {
        builder = builder.authority(name);
    }
    if !args.warm_up.is_zero() {
        builder = builder.warm_up(args.warm_up);
    }
    let channel = builder.build().map_err(|error| match error {
        BuildError::Authority(name) => {
            Unusable::new(format!("--server-name {name:?} is not a host name"))
        }
        error => Unusable::new(error),
    })?;
    Ok(Opened {
        channel,
        policy: config.resolve().name().to_owned(),
    })
}

fn tls(args: &CallArgs) -> Result<Option<TlsConfig>, Unusable> {
    if args.plaintext {
        return Ok(None);
    }
    let mut tls = TlsConfig::new();
    tls = match &args.ca {
        None => tls.platform_roots(),
        Some(file) => tls.ca_certificates_pem(read("--ca", file)?),
    };
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        tls = tls.identity_pem(read("--cert", cert)?, read("--key", key)?);
    }
    if let Some(name) = &args.server_name {
        tls = tls.server_name(name);
    }
    Ok(Some(tls))
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Unusable> {
    fs::read(file).map_err(|error| Unusable::new(format!("{flag} {}: {error}", file.display())))
}
