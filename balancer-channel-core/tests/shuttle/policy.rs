//! A policy for the models: any READY backend, by chance.

use std::sync::Arc;

use balancer_api::{
    Builder, Endpoint, Pick, PickError, PickOptions, Picker,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};

struct Any;

struct AnyPicker(ReadySet);

/// Under the name that a service config is to choose it by.
pub(crate) fn any(name: &'static str) -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new(name, || Any))
}

impl PickerBuilder for Any {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(AnyPicker(ready.clone()))
    }
}

impl Picker for AnyPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let at = options.random() % self.0.len().max(1) as u64;
        let ready = self.0.get(at as usize);
        let ready = ready.ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(ready.sub_conn()))
    }
}
