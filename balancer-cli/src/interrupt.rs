//! Ctrl-C.

use std::future::Future;

/// Listens for Ctrl-C from now on, also before the future is polled; it ends when it was pressed.
///
/// Without a handler, should there be none to have, Ctrl-C ends the process as it always has.
pub(crate) fn listen() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let listener = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::interrupt())
    };
    #[cfg(windows)]
    let listener = tokio::signal::windows::ctrl_c();
    async move {
        let pressed = match listener {
            Ok(mut listener) => listener.recv().await,
            Err(_) => None,
        };
        if pressed.is_none() {
            std::future::pending().await
        }
    }
}
