//! A policy of the application's own, chosen by name from a service config: RPCs of one tenant go to
//! one server, so that its cache is warm.
//!
//! `cargo run -p balancer-channel --example custom_policy`

#[path = "greeter/mod.rs"]
mod greeter;

use std::sync::Arc;

use balancer_api::{
    Builder, ConfigError, ConfigFields, LbConfig, ParseContext, Pick, PickError, PickOptions,
    Picker, Rejected,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};
use balancer_channel::Channel;
use greeter::{Greetings, pb::helloworld::greeter_client::GreeterClient};
use tonic::metadata::MetadataValue;

/// What the service config says: `{"by_header":{"header":"x-tenant"}}`.
#[derive(Clone, Debug)]
struct ByHeader {
    header: Arc<str>,
}

/// Chooses by the header's value; changes with the READY servers, not with the RPCs.
struct ByHeaderPicker {
    ready: ReadySet<()>,
    header: Arc<str>,
}

/// The policy, ready to be registered.
fn by_header() -> impl Builder {
    let make = || ByHeader {
        header: "x-tenant".into(),
    };
    BaseBuilder::new("by_header", make)
        .with_description("one server for each value of a header")
        .with_config_parser(parse)
}

fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
    let mut fields = ConfigFields::parse(json)?;
    let header = fields.string("header")?;
    let header = header.unwrap_or_else(|| "x-tenant".to_owned()).into();
    fields.finish(cx);
    Ok(LbConfig::new(json, ByHeader { header }))
}

// === impl ByHeader ===

impl PickerBuilder for ByHeader {
    type Data = ();

    fn data(&mut self, _: &balancer_api::Endpoint, _: &BaseContext<'_>) {}

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        if let Some(config) = config.and_then(LbConfig::downcast_ref::<ByHeader>) {
            self.clone_from(config);
        }
        Ok(())
    }

    fn build_picker(&mut self, ready: &ReadySet<()>, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(ByHeaderPicker {
            ready: ready.clone(),
            header: self.header.clone(),
        })
    }
}

// === impl ByHeaderPicker ===

impl Picker for ByHeaderPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let value = options.headers().get(&*self.header);
        let hash = fnv(value.map_or(&[], |value| value.as_bytes()));
        let index = hash.checked_rem(self.ready.len());
        let chosen = index.and_then(|index| self.ready.get(index));
        let chosen = chosen.ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(chosen.sub_conn()))
    }
}

/// FNV-1a: short, and the same on every machine.
fn fnv(bytes: &[u8]) -> usize {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    hash as usize
}

/// The main part, apart from `main` so that a test can run it: who greeted which tenant.
pub(crate) async fn run() -> Result<Vec<(&'static str, Greetings)>, Box<dyn std::error::Error>> {
    let servers = greeter::start(3).await?;
    let channel = Channel::builder(format!("ipv4:{}", greeter::list(&servers)))
        .plaintext()
        .policy(Arc::new(by_header()))
        .default_service_config(r#"{"loadBalancingConfig":[{"by_header":{"header":"x-tenant"}}]}"#)
        .warm_up(std::time::Duration::from_secs(5))
        .build()?;
    let mut client = GreeterClient::new(channel.clone());

    let mut by_tenant = Vec::new();
    for tenant in ["ann", "bob", "cem", "dee"] {
        let greetings = greeter::greet(&mut client, 5, |_, request| {
            let value = MetadataValue::from_static(tenant);
            request.metadata_mut().insert("x-tenant", value);
        });
        by_tenant.push((tenant, greetings.await?));
    }
    channel.close().await;
    Ok(by_tenant)
}

#[tokio::main]
#[allow(dead_code, reason = "the test runs `run`")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (tenant, greetings) in run().await? {
        println!("{tenant}: {greetings:?}");
    }
    Ok(())
}
