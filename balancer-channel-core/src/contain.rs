//! Foreign code and its panics: a policy's, a resolver's, a connector's.
//!
//! Nothing that a policy does may end a task of the channel: not a panic, not the Drop of what it
//! panicked with, not the Drop of something that it handed over.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs foreign code; a panic becomes its message.
pub(crate) fn contain<T>(foreign: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(defuse)
}

/// Drops something of foreign make.
pub(crate) fn discard<T>(foreign: T) {
    let _ = contain(move || drop(foreign));
}

/// What a panic said. What it carried is dropped, which may be foreign code again.
pub(crate) fn defuse(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    };
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
        // Whoever goes so far does not get a third chance.
        mem::forget(second);
    }
    message
}
