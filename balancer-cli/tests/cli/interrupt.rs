//! Ctrl-C: what was done until then is reported.

use super::support::{Ran, balancer};
use balancer_testpeer::{Backend, Server};
use serde_json::json;

/// Sends what Ctrl-C sends.
pub(crate) async fn interrupt(process: Option<u32>) {
    let id = process.expect("it runs").to_string();
    let sent = tokio::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(sent.await.expect("kill must run").success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_load_is_reported() {
    let server = Server::start(Backend::new("a")).await.expect("a server");
    let address = server.addr().to_string();
    let call = [
        "call",
        &address,
        "--plaintext",
        "--json",
        "--duration",
        "10m",
    ];
    let child = balancer(call).spawn().expect("the binary must run");
    server.until(|journal| journal.streams() >= 20).await;
    interrupt(child.id()).await;
    let ran = Ran::new(child.wait_with_output().await.expect("must end"));
    assert_eq!(ran.code, 130, "{ran:?}");
    let json = ran.json();
    let rpcs = json["rpcs"].as_u64().expect("a count");
    assert!(rpcs >= 19, "all but the one under way: {json}");
    assert_eq!(json["codes"], json!({"OK": rpcs}), "none is made to fail");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_that_would_take_for_ever_does_not_hold_it_up() {
    let backend = Backend::new("a").answer(balancer_testpeer::Answer::Never);
    let server = Server::start(backend).await.expect("a server");
    let address = server.addr().to_string();
    let call = ["call", &address, "--plaintext", "--timeout", "10m"];
    let child = balancer(call).spawn().expect("the binary must run");
    server.until(|journal| journal.streams() == 1).await;
    interrupt(child.id()).await;
    let ran = Ran::new(child.wait_with_output().await.expect("must end"));
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(
        ran.stdout.contains("interrupted; 1 RPC under way"),
        "{ran:?}"
    );
}
