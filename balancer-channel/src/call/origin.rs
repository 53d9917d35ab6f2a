//! What the attempts of one RPC have in common.

use std::{fmt, sync::Arc, task::Context};

use balancer_api::{Code, Status};
use balancer_registry::CodeSet;
use http::HeaderValue;
use tonic::body::Body;

use super::{
    attempt::{Attempt, Failed, Stopped, Trouble},
    pushback::Pushback,
    throttle::Throttle,
};
use crate::transport::{ReplayBody, RpcRequest, RpcResponse, SharedBody, from_tonic};

/// The header that tells a server how many attempts came before.
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// An RPC of which several attempts are made.
pub(super) struct Origin {
    /// Never polled; the attempts are made after it.
    model: Attempt,
    /// The request without its body.
    head: http::Request<()>,
    pub(super) body: SharedBody,
    /// How many attempts were made; transparent retries are not counted.
    pub(super) made: u32,
    /// What the ended ones have been through.
    trouble: Trouble,
}

/// How one of several attempts ended.
pub(super) enum Ended {
    /// With a response that commits the RPC: it goes on, or it is a success.
    Begun(RpcResponse),
    /// With a failure.
    Failed(Failure),
}

/// A failed attempt. What the RPC ends with if there is no other.
pub(super) struct Failure {
    pub(super) result: Result<http::Response<Body>, tonic::Status>,
    pub(super) pushback: Pushback,
    status: Status,
    last_word: bool,
}

// === impl Origin ===

impl Origin {
    /// Takes the request from `attempt`, which has not picked yet.
    pub(super) fn of(attempt: &mut Attempt) -> Self {
        let (body, limit) = attempt.request.body.take();
        let nothing = RpcRequest::new(http::Request::new(()), Body::empty());
        let head = std::mem::replace(&mut attempt.request, nothing).head;
        let nothing = RpcRequest::new(http::Request::new(()), Body::empty());
        Self {
            model: Attempt::again(attempt, nothing, Trouble::default()),
            head,
            body: SharedBody::new(body, limit),
            made: 0,
            trouble: Trouble::default(),
        }
    }

    /// Makes the next attempt, which avoids where `running` ones are.
    pub(super) fn attempt<'a>(
        &mut self,
        running: impl IntoIterator<Item = &'a Attempt>,
    ) -> Box<Attempt> {
        let mut head = self.head.clone();
        if self.made > 0 {
            head.headers_mut()
                .insert(PREVIOUS_ATTEMPTS, HeaderValue::from(self.made));
        }
        let body = ReplayBody::shared(self.body.reader(self.made));
        let mut trouble = self.trouble.clone();
        for attempt in running {
            trouble.picks = trouble.picks.saturating_add(1);
            if let Some(sub_conn) = attempt.sub_conn() {
                trouble.avoid(sub_conn);
            }
        }
        // A server may refuse the first attempt only and have it sent again for nothing.
        trouble.refused |= self.made > 0;
        self.made += 1;
        let request = RpcRequest { head, body };
        Box::new(Attempt::again(&self.model, request, trouble))
    }

    /// Looks at how `attempt` ended.
    pub(super) fn ended(
        &mut self,
        attempt: &mut Attempt,
        result: Result<RpcResponse, Stopped>,
        cx: &mut Context<'_>,
    ) -> Ended {
        if let Some(trouble) = attempt.trouble() {
            self.trouble.picks = self.trouble.picks.max(trouble.picks);
            for sub_conn in &trouble.tried {
                self.trouble.avoid(sub_conn);
            }
        }
        match result {
            Ok(response) => {
                let Some(Err(status)) = response.status() else {
                    return Ended::Begun(response);
                };
                let status = status.clone();
                let pushback = Pushback::of(response.headers());
                if let Some(sub_conn) = attempt.sub_conn() {
                    self.trouble.failed_on(sub_conn.clone());
                }
                Ended::Failed(Failure {
                    result: Ok(attempt.begun(response, cx)),
                    status,
                    pushback,
                    last_word: false,
                })
            }
            Err(stopped) => {
                let Failed { status, last_word } = match stopped {
                    Stopped::Failed(failed) => failed,
                    Stopped::Several(_) => Failed {
                        status: tonic::Status::internal("attempts within attempts"),
                        last_word: true,
                    },
                };
                Ended::Failed(Failure {
                    status: from_tonic(&status),
                    result: Err(status),
                    pushback: Pushback::None,
                    last_word,
                })
            }
        }
    }

    /// Whether there may be another attempt after `failure`, as far as throttle and server say.
    /// `codes` are those after which there may.
    pub(super) fn may_go_on(&self, failure: &Failure, codes: CodeSet) -> bool {
        if failure.last_word {
            return false;
        }
        let never = failure.pushback == Pushback::Never;
        if !never && !codes.contains(failure.code()) {
            return false;
        }
        // A server that wants no more attempts has failed, too.
        let allowed = self.throttle().is_none_or(|throttle| throttle.failed());
        allowed && !never
    }

    pub(super) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.model.extra().and_then(|extra| extra.throttle.as_ref())
    }

    pub(super) fn model(&self) -> &Attempt {
        &self.model
    }
}

// === impl Failure ===

impl Failure {
    /// Whether no policy may make another attempt after it, whatever its code.
    pub(super) fn is_last_word(&self) -> bool {
        self.last_word
    }

    pub(super) fn code(&self) -> Code {
        self.status.code()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.code(), self.status.message())
    }
}
