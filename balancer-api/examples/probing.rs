//! A policy that asks each backend how busy it is, on the connection that carries its RPCs, and
//! prefers the less loaded of two.
//!
//! A timer starts a probe on each READY SubConn. A backend answers with one message, its load as a
//! big-endian `u32`. Configuration: `{"probing":{"interval":"1s","method":"/load.Report/Get"}}`.

#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use balancer_api::{
    Builder, CallEvent, CallId, CallRequest, ConfigError, ConfigFields, Endpoint, LbConfig,
    ParseContext, Pick, PickError, PickOptions, Picker, Rejected, SubConn, TimerId,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn},
};
use bytes::Bytes;

/// What is known of a backend, kept from its first appearance until it is gone.
#[derive(Debug, Default)]
pub(crate) struct Load(AtomicU32);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Config {
    interval: Duration,
    method: Arc<str>,
}

#[derive(Default)]
struct Probing {
    config: Config,
    /// READY backends in the order in which they became it.
    probed: Vec<Probed>,
    /// Runs while there is a backend to probe.
    timer: Option<TimerId>,
}

struct Probed {
    sub_conn: SubConn,
    load: Arc<Load>,
    /// The probe that has not been answered yet; never two at once.
    call: Option<CallId>,
}

struct ProbingPicker(ReadySet<Arc<Load>>);

/// The policy, ready to be registered.
pub(crate) fn builder() -> impl Builder {
    BaseBuilder::new("probing", Probing::default)
        .with_description("the less loaded of two, by probes")
        .with_config_parser(parse)
}

fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
    let mut fields = ConfigFields::parse(json)?;
    let mut config = Config::default();
    if let Some(interval) = fields.duration("interval")? {
        // A hundred probes a second per backend are enough for anybody.
        config.interval = interval.max(Duration::from_millis(10));
    }
    if let Some(method) = fields.string("method")? {
        config.method = method.into();
    }
    fields.finish(cx);
    Ok(LbConfig::new(json, config))
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            method: "/load.Report/Get".into(),
        }
    }
}

// === impl Probing ===

impl Probing {
    fn request(&self) -> CallRequest {
        CallRequest::new(self.config.method.clone())
            .with_first_message(Bytes::new())
            .with_half_close(true)
            .with_timeout(Some(self.config.interval))
    }
}

impl PickerBuilder for Probing {
    type Data = Arc<Load>;

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) -> Self::Data {
        Arc::default()
    }

    fn set_config(
        &mut self,
        config: Option<&LbConfig>,
        _: &BaseContext<'_>,
    ) -> Result<(), Rejected> {
        self.config = match config {
            None => Config::default(),
            Some(config) => match config.downcast_ref::<Config>() {
                Some(config) => config.clone(),
                None => return Err(Rejected::new("the configuration is not one of probing")),
            },
        };
        Ok(())
    }

    fn on_ready(&mut self, ready: &ReadySubConn<Self::Data>, cx: &BaseContext<'_>) {
        let call = cx
            .client_conn()
            .start_call(ready.sub_conn(), self.request());
        self.probed.push(Probed {
            sub_conn: ready.sub_conn().clone(),
            load: ready.data().clone(),
            call: Some(call),
        });
        if self.timer.is_none() {
            self.timer = Some(cx.client_conn().set_timer(self.config.interval));
        }
    }

    fn on_not_ready(&mut self, ready: &ReadySubConn<Self::Data>, cx: &BaseContext<'_>) {
        let gone = |probed: &mut Probed| probed.sub_conn == *ready.sub_conn();
        for probed in self.probed.extract_if(.., gone) {
            if let Some(call) = probed.call {
                cx.client_conn().cancel_call(call);
            }
        }
        if self.probed.is_empty()
            && let Some(timer) = self.timer.take()
        {
            cx.client_conn().cancel_timer(timer);
        }
    }

    fn handle_timer(&mut self, id: TimerId, cx: &BaseContext<'_>) -> bool {
        if self.timer != Some(id) {
            return false;
        }
        self.timer = Some(cx.client_conn().set_timer(self.config.interval));
        let request = self.request();
        for probed in self
            .probed
            .iter_mut()
            .filter(|probed| probed.call.is_none())
        {
            let call = cx
                .client_conn()
                .start_call(&probed.sub_conn, request.clone());
            probed.call = Some(call);
        }
        // Pickers read the loads themselves: a new one is not needed.
        false
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent, _: &BaseContext<'_>) -> bool {
        let mut probed = self.probed.iter_mut();
        let Some(probed) = probed.find(|probed| probed.call == Some(id)) else {
            return false;
        };
        match event {
            CallEvent::Headers(_) => {}
            // Anything but four bytes is no answer; the last one stands.
            CallEvent::Message(bytes) => {
                if let Ok(bytes) = <[u8; 4]>::try_from(&*bytes) {
                    let load = u32::from_be_bytes(bytes);
                    probed.load.0.store(load, Ordering::Relaxed);
                }
            }
            CallEvent::End { .. } => probed.call = None,
        }
        false
    }

    fn build_picker(
        &mut self,
        ready: &ReadySet<Self::Data>,
        _: &BaseContext<'_>,
    ) -> Arc<dyn Picker> {
        Arc::new(ProbingPicker(ready.clone()))
    }
}

// === impl ProbingPicker ===

impl Picker for ProbingPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let count = self.0.len().max(1) as u64;
        let random = options.random();
        // Two different ones, where there are two.
        let first = (random >> 32) % count;
        let second = (first + 1 + (random & 0xffff_ffff) % (count - 1).max(1)) % count;
        let both = [first, second].map(|index| self.0.get(index as usize));
        let least = both
            .into_iter()
            .flatten()
            .min_by_key(|ready| ready.data().0.load(Ordering::Relaxed));
        match least {
            Some(ready) => Ok(Pick::new(ready.sub_conn())),
            None => Err(PickError::NoSubConnAvailable),
        }
    }
}

#[allow(dead_code, reason = "a test includes this file as a module")]
fn main() {
    println!("policy {}, ready to be registered", builder().name());
}
