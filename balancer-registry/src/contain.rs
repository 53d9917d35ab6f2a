//! Builders are other people's code: a panic of theirs stays theirs.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs `f`; a panic comes back as its message.
///
/// What `f` was changing may be half changed: callers throw it away.
pub(crate) fn contained<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(message)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // Its drop might panic again, outside of any guard: leave it be.
                std::mem::forget(payload);
                "no message".to_owned()
            }
        },
    }
}
