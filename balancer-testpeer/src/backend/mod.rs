//! A good gRPC backend, and backends that are good but for one thing.

mod answer;
mod serve;

pub use answer::{Answer, MakeFrames, Response};

use crate::{Conn, Headers, Manners, PeerError, Request, frame::setting};
use std::{fmt, sync::Arc};

/// A server that keeps the protocol: echoes each message as it comes, minds windows, answers
/// PINGs, and names itself in the response header `x-backend`.
///
/// A unary call is the echo of one message. What is *not* right about a backend is set by name:
/// its [`Answer`]s, its [`Manners`], its SETTINGS.
///
/// ```
/// use balancer_testpeer::{Answer, Backend, frame::{code, setting}};
///
/// let good = Backend::new("a");
/// let refusing = Backend::new("b").answer(Answer::Reset(code::REFUSED_STREAM));
/// let narrow = Backend::new("c").setting(setting::MAX_CONCURRENT_STREAMS, 1);
/// ```
#[derive(Clone)]
pub struct Backend {
    name: String,
    settings: Vec<(u16, u32)>,
    manners: Manners,
    answers: Arc<Choose>,
}

type Choose = dyn Fn(&Request) -> Answer + Send + Sync;

// === impl Backend ===

impl Backend {
    /// A good backend.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            settings: Vec::new(),
            manners: Manners::default(),
            answers: Arc::new(|_| Answer::Echo),
        }
    }

    /// Adds a value to its first SETTINGS, legal or not.
    pub fn setting(mut self, id: u16, value: u32) -> Self {
        self.settings.push((id, value));
        self
    }

    /// Adds MAX_CONCURRENT_STREAMS. More streams than that are served all the same.
    pub fn max_concurrent_streams(self, count: u32) -> Self {
        self.setting(setting::MAX_CONCURRENT_STREAMS, count)
    }

    /// Never lets the client send a body octet on any stream: its initial window is 0.
    pub fn closed_windows(self) -> Self {
        self.setting(setting::INITIAL_WINDOW_SIZE, 0)
            .manners(Manners::closed_windows())
    }

    /// Sets what it does by itself.
    pub fn manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// Gives every request the same answer.
    pub fn answer(self, answer: Answer) -> Self {
        self.answers(move |_| answer.clone())
    }

    /// Chooses each request's answer when its headers have come.
    pub fn answers(mut self, choose: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        self.answers = Arc::new(choose);
        self
    }

    /// Serves one connection until the client closes it or an order ends it.
    ///
    /// # Errors
    /// The socket failed, or the client broke the protocol.
    pub async fn serve(self, conn: Conn) -> Result<(), PeerError> {
        serve::Serving::new(self, conn).run().await
    }

    /// The headers of an ordinary response.
    fn response_headers(&self) -> Headers {
        let mut fields = crate::conn::response_headers();
        fields.push(("x-backend".into(), self.name.clone()));
        fields.into_iter().collect()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .field("manners", &self.manners)
            .finish_non_exhaustive()
    }
}
