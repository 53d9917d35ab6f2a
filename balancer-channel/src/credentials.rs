//! What single RPCs are authenticated with.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tonic::{Status, metadata::MetadataMap};

/// Authenticates RPCs: fetches the metadata that a server wants to see, such as a token.
///
/// Set it for a channel with [`ChannelBuilder::call_credentials`], for one RPC with
/// [`PerCallCredentials`]; an RPC that has both sends both. It is asked for every attempt of an RPC,
/// when a connection has been picked; keep what is dear to fetch. Its metadata is never shown to a
/// policy, is marked sensitive (not in `Debug`, not in the connection's header table), and is sent
/// over encrypted connections only: an RPC with call credentials that meets another one fails with
/// UNAUTHENTICATED before anything is sent or fetched.
///
/// [`ChannelBuilder::call_credentials`]: crate::ChannelBuilder::call_credentials
///
/// # Calls
/// The RPC waits meanwhile, no longer than its deadline.
///
/// # Cancel safety
/// The future is dropped when the RPC is, or when its deadline passes.
///
/// # Example
/// ```
/// use balancer_channel::{CallCredentials, CallInfo};
/// use tonic::{Status, metadata::MetadataMap};
///
/// struct Token(String);
///
/// #[async_trait::async_trait]
/// impl CallCredentials for Token {
///     async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> {
///         let value = format!("Bearer {}", self.0).parse();
///         let value = value.map_err(|_| Status::internal("the token is not ASCII"))?;
///         let mut metadata = MetadataMap::new();
///         metadata.insert("authorization", value);
///         Ok(metadata)
///     }
/// }
/// ```
#[async_trait]
pub trait CallCredentials: Send + Sync {
    /// What to send with an RPC. Names that gRPC reserves are left out.
    ///
    /// # Errors
    /// The attempt fails with this status; codes that only servers may use become INTERNAL
    /// (gRFC A54). Its message is shown to the application: no secrets in it.
    async fn metadata(&self, call: &CallInfo) -> Result<MetadataMap, Status>;
}

/// The RPC that is to be authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallInfo {
    /// The method, such as `/greeter.Greeter/SayHello`.
    pub path: String,
    /// The channel's authority: who will see the credentials.
    pub authority: String,
}

/// Authenticates a single RPC; put it into the request's extensions.
///
/// ```
/// # use balancer_channel::{CallCredentials, CallInfo, PerCallCredentials};
/// # use std::sync::Arc;
/// # use tonic::{Status, metadata::MetadataMap};
/// # struct Token;
/// # #[async_trait::async_trait]
/// # impl CallCredentials for Token {
/// #     async fn metadata(&self, _: &CallInfo) -> Result<MetadataMap, Status> { Ok(MetadataMap::new()) }
/// # }
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(PerCallCredentials::new(Arc::new(Token)));
/// ```
#[derive(Clone)]
pub struct PerCallCredentials(pub(crate) Arc<dyn CallCredentials>);

// === impl CallInfo ===

impl CallInfo {
    /// The service's URL, as the audience of a token is usually written:
    /// `https://authority/package.Service`.
    pub fn service_url(&self) -> String {
        let service = self
            .path
            .rsplit_once('/')
            .map_or("", |(service, _)| service);
        format!("https://{}{service}", self.authority)
    }
}

// === impl PerCallCredentials ===

impl PerCallCredentials {
    /// Authenticates an RPC with `credentials`.
    pub fn new(credentials: Arc<dyn CallCredentials>) -> Self {
        Self(credentials)
    }
}

impl fmt::Debug for PerCallCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerCallCredentials")
    }
}
