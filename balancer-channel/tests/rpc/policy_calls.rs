//! A policy that asks before it balances: a call on its backend's connection, and one to a server
//! that is no backend, dialled with the channel's own credentials and dialer.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn, ConnectivityState,
    Dialer, Io, NewSubConnOptions, Pick, PickError, PickOptions, Picker, Rejected, ResolveError,
    ResolvedAddrs, SubConn, SubConnState, TransportCredentials,
};
use balancer_channel::{Channel, TlsConfig};
use balancer_testpeer::Backend;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    secured::{Authority, Secured},
    stage::built,
    support::{echo, text},
};

/// The name of the server that is no backend: only the test's dialer knows where it is.
const ADVISER: &str = "adviser.test:443";

/// Knows one name beside addresses.
struct Names(SocketAddr);

#[async_trait::async_trait]
impl Dialer for Names {
    async fn dial(&self, addr: &str) -> io::Result<Box<dyn Io>> {
        let addr = match addr {
            ADVISER => self.0,
            other => other.parse().map_err(io::Error::other)?,
        };
        let socket = tokio::net::TcpStream::connect(addr).await?;
        Ok(Box::new(socket.compat()))
    }
}

/// What the policy was told.
type Told = Arc<Mutex<Vec<String>>>;

/// Whether the adviser is dialled with the credentials that policies are handed.
struct Asking(Told, bool);

struct Asker {
    cc: Arc<dyn ClientConn>,
    credentials: Option<Arc<dyn TransportCredentials>>,
    dialer: Option<Arc<dyn Dialer>>,
    told: Told,
    backend: Option<SubConn>,
    adviser: Option<SubConn>,
    calls: BTreeMap<CallId, &'static str>,
    good: usize,
}

struct Always(SubConn);

impl Builder for Asking {
    fn name(&self) -> &str {
        "asking"
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Asker {
            cc,
            credentials: options.dial_creds.filter(|_| self.1),
            dialer: options.dialer,
            told: self.0.clone(),
            backend: None,
            adviser: None,
            calls: BTreeMap::new(),
            good: 0,
        })
    }
}

impl Asker {
    fn note(&self, what: String) {
        self.told.lock().expect("never poisoned").push(what);
    }
}

impl Balancer for Asker {
    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = resolved.expect("the target is an address");
        if self.backend.is_some() {
            return Ok(());
        }
        let addresses = resolved.endpoints[0].addresses().to_vec();
        let backend = self.cc.new_sub_conn(addresses, NewSubConnOptions::new());
        let adviser = self
            .cc
            .new_lookaside(ADVISER, self.credentials.clone(), self.dialer.clone());
        let (backend, adviser) = (backend.expect("open"), adviser.expect("open"));
        backend.connect();
        adviser.connect();
        (self.backend, self.adviser) = (Some(backend), Some(adviser));
        Ok(())
    }

    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        if state.state != ConnectivityState::Ready {
            if let Some(error) = state.error {
                self.note(format!("{}: {error}", state.state));
            }
            return;
        }
        let who = if Some(sub_conn) == self.backend.as_ref() {
            "backend"
        } else {
            "adviser"
        };
        let request = CallRequest::new(format!("/asking.{who}/Ask"))
            .with_first_message(who.as_bytes().to_vec())
            .with_half_close(true);
        let id = self.cc.start_call(sub_conn, request);
        self.calls.insert(id, who);
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let who = self.calls[&id];
        match event {
            CallEvent::Headers(_) => {}
            CallEvent::Message(message) => {
                self.note(format!("{who} said {}", message.escape_ascii()));
            }
            CallEvent::End { status, .. } => {
                self.note(format!("{who} ended with {}", status.code()));
                self.good += 1;
                if let (2, Some(backend)) = (self.good, &self.backend) {
                    let picker = Arc::new(Always(backend.clone()));
                    self.cc
                        .update_balancer_state(ConnectivityState::Ready, picker);
                }
            }
        }
    }

    fn close(&mut self) {}
}

impl Picker for Always {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        Ok(Pick::new(&self.0))
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn a_policy_asks_its_backend_and_an_adviser_over_tls() {
    asks_both(true, "backend.test", |tls| tls).await;
}

/// Where backends prove another name than the target's, the adviser still proves its own: with the
/// credentials that the policy was handed, and with none of its own.
#[tokio::test(crate = "crate::support::harness")]
async fn an_adviser_proves_its_own_name_whatever_backends_prove() {
    for with_credentials in [true, false] {
        let elsewhere = |tls: TlsConfig| tls.server_name("backend.test");
        asks_both(with_credentials, "front.test", elsewhere).await;
    }
}

async fn asks_both(with_credentials: bool, target: &str, tls: impl FnOnce(TlsConfig) -> TlsConfig) {
    let authority = Authority::new();
    let seen: Told = Told::default();
    let noting = |name: &str| {
        let seen = seen.clone();
        Backend::new(name).answers(move |request| {
            let authority = request.header(":authority").unwrap_or_default();
            let line = format!("{} at {authority}", request.path());
            seen.lock().expect("never poisoned").push(line);
            balancer_testpeer::Answer::Echo
        })
    };
    let backend = Secured::start(&authority, "backend.test", noting("backend")).await;
    let adviser = Secured::start(&authority, "adviser.test", noting("adviser")).await;
    let told = Told::default();
    let channel = built(
        Channel::builder(format!("ipv4:{}", backend.addr()))
            .authority(target)
            .tls(tls(authority.trusted()))
            .dialer(Arc::new(Names(adviser.addr())))
            .policy(Arc::new(Asking(told.clone(), with_credentials)))
            .default_service_config(r#"{"loadBalancingConfig":[{"asking":{}}]}"#),
    );
    // The policy lets RPCs go when both have answered.
    let mut request = tonic::Request::new(text("hello"));
    request.set_timeout(std::time::Duration::from_secs(10));
    let response = echo(&channel, request).await;
    let response = response.unwrap_or_else(|status| panic!("{status:?}: {:?}", told.lock()));
    assert_eq!(crate::support::backend(&response), "backend");

    let mut told = told.lock().expect("never poisoned").clone();
    told.sort();
    assert_eq!(
        told,
        [
            "adviser ended with OK",
            "adviser said adviser",
            "backend ended with OK",
            "backend said backend"
        ]
    );
    let mut seen = seen.lock().expect("never poisoned").clone();
    seen.sort();
    assert_eq!(
        seen,
        [
            "/asking.adviser/Ask at adviser.test:443".to_owned(),
            format!("/asking.backend/Ask at {target}"),
            format!("/test.Echo/Unary at {target}")
        ]
    );
    let connections = backend.server.journal().accepted();
    assert_eq!(connections, 1, "the policy's call went where RPCs go");

    channel.close().await;
    assert_eq!(channel.task_count(), 0);
    for server in [&backend.server, &adviser.server] {
        server.until(|journal| journal.open() == 0).await;
    }
}
