//! What an application may say of a single call.

/// Whether a call waits for a connection instead of failing while there is none.
///
/// Put it into the request's extensions; it counts before what the service config says.
///
/// ```
/// use balancer_channel::WaitForReady;
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(WaitForReady(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitForReady(pub bool);
