//! The service config in TXT records (gRFC A2).

use balancer_registry::{Limits, TxtClient, parse_txt_choices};
use hickory_resolver::{TokioResolver, proto::rr::RData};

/// Looks up `_grpc_config.` and the host's name.
pub(crate) struct TxtConfig {
    name: String,
    /// Of this machine: a choice may be for some only.
    hostname: String,
    /// Which percentile of all clients this channel is. Drawn once, so that it keeps its choice.
    roll: u8,
}

// === impl TxtConfig ===

impl TxtConfig {
    pub(crate) fn new(host: &str) -> Self {
        Self {
            name: format!("_grpc_config.{host}"),
            hostname: gethostname::gethostname().to_string_lossy().into_owned(),
            roll: fastrand::u8(0..100),
        }
    }

    /// The service config that is for this client, if there is one; an error says why none of the
    /// records counts.
    pub(crate) async fn look_up(&self, resolver: &TokioResolver) -> Option<Result<String, String>> {
        let found = match resolver.txt_lookup(&*self.name).await {
            Ok(found) => found,
            Err(error) => {
                // Most hosts have none; and a DNS that fails now must not take a config away.
                tracing::debug!(name = self.name, %error, "no TXT record");
                return None;
            }
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(text) => Some(&text.txt_data[..]),
                _ => None,
            });
        match parse_txt_choices(records, &Limits::default()) {
            Ok(choices) => {
                let client = TxtClient::new("rust", &self.hostname, self.roll);
                choices.choose(&client).map(|json| Ok(json.to_owned()))
            }
            Err(error) => Some(Err(format!("TXT record of {}: {error}", self.name))),
        }
    }
}
