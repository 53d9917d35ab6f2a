//! Ctrl-C.

/// Ends when Ctrl-C is pressed.
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler Ctrl-C ends the process as it always has.
        std::future::pending().await
    }
}
