//! Who is trusted over TLS, from an application's view: every bad certificate with each choice of
//! roots, protocols, versions, clients' certificates, and what may never be plaintext.

mod support;

#[path = "rpc/secured.rs"]
mod secured;

use std::{sync::Arc, time::Duration};

use balancer_channel::{BuildError, Channel, TlsConfig};
use balancer_testpeer::{Backend, Server};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use secured::{Authority, Identity, Secured};
use support::{echo, text};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion, crypto::ring::default_provider,
    server::WebPkiClientVerifier, version,
};
use tonic::{Code, Request, Status};

/// Who must be proved, unless something else is said.
const NAME: &str = "backend.test";

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate that proves nothing.
struct Bad {
    what: &'static str,
    identity: Identity,
    /// Who has to be proved.
    name: &'static str,
    /// What the error says.
    says: &'static str,
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

/// Every way to be wrong.
fn bad_ones(ours: &Authority) -> Vec<Bad> {
    let bad = |what, identity, name, says| Bad {
        what,
        identity,
        name,
        says,
    };
    let expired = {
        let mut params = named(&[NAME]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        ours.issue(&params)
    };
    let early = {
        let mut params = named(&[NAME]);
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
        ours.issue(&params)
    };
    let common_name = {
        let mut params = named(&[]);
        params.distinguished_name.push(DnType::CommonName, NAME);
        ours.issue(&params)
    };
    let for_clients = {
        let mut params = named(&[NAME]);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        ours.issue(&params)
    };
    let self_signed = {
        let key = KeyPair::generate().expect("a key");
        let certificate = named(&[NAME]).self_signed(&key).expect("a certificate");
        Identity {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key,
        }
    };
    let by_a_leaf = {
        let leaf = KeyPair::generate().expect("a key");
        let params = named(&["leaf.test"]);
        let issuer = rcgen::CertifiedIssuer::self_signed(params.clone(), leaf);
        let issuer = issuer.expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let certificate = named(&[NAME]).signed_by(&key, &issuer);
        let certificate = certificate.expect("a certificate");
        // What it calls its authority is a certificate of ours for that key, but no authority's.
        let middle = ours.certify(&params, issuer.key());
        Identity {
            chain: vec![certificate.der().clone(), middle],
            pem: certificate.pem(),
            key,
        }
    };
    let issue = |names: &[&str]| ours.issue(&named(names));
    let stranger = Authority::named("theirs");
    let forger = Authority::named("ours");
    vec![
        bad("expired", expired, NAME, "xpired"),
        bad("not yet valid", early, NAME, "not valid yet"),
        bad("another name", issue(&["other.test"]), NAME, "name"),
        bad("a common name alone", common_name, NAME, "name"),
        bad(
            "a wildcard one level up",
            issue(&["*.backend.test"]),
            "a.b.backend.test",
            "name",
        ),
        bad(
            "a wildcard for itself",
            issue(&["*.backend.test"]),
            NAME,
            "name",
        ),
        bad("a part of a wildcard", issue(&["back*.test"]), NAME, "name"),
        bad("no address", issue(&[NAME]), "127.0.0.1", "name"),
        bad(
            "another address",
            issue(&["127.0.0.2"]),
            "127.0.0.1",
            "name",
        ),
        bad("self-signed", self_signed, NAME, "UnknownIssuer"),
        bad(
            "of a stranger",
            stranger.issue(&named(&[NAME])),
            NAME,
            "UnknownIssuer",
        ),
        bad(
            "of a forger",
            forger.issue(&named(&[NAME])),
            NAME,
            "BadSignature",
        ),
        bad("of a leaf", by_a_leaf, NAME, "invalid peer certificate"),
        bad("for clients only", for_clients, NAME, "key usage"),
    ]
}

/// A server's configuration without a word about clients.
fn proving(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key())
        .expect("an identity")
}

/// An RPC to a server that has to prove `name`; the server has seen so many RPCs.
async fn call(server: &Secured, tls: TlsConfig, name: &str) -> (Result<(), Status>, usize) {
    let channel = Channel::builder(format!("ipv4:{}", server.addr()))
        .tls(tls)
        .authority(name)
        .build()
        .expect("a channel");
    let mut request = Request::new(text("hello"));
    request.set_timeout(PATIENCE);
    let result = echo(&channel, request).await.map(drop);
    channel.close().await;
    assert_eq!(channel.task_count(), 0, "no task may be left");
    (result, server.server.journal().streams())
}

fn refused(what: &str, (result, streams): (Result<(), Status>, usize), says: &str) {
    let status = result.expect_err(what);
    println!("{what}: {}", status.message());
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    assert!(status.message().contains(says), "{what}: {status:?}");
    assert!(!status.message().contains("BEGIN"), "{what}: {status:?}");
    assert_eq!(streams, 0, "{what}: nothing may be sent");
}

#[tokio::test(crate = "crate::support::harness")]
async fn no_bad_certificate_is_accepted() {
    let ours = Authority::new();
    for bad in bad_ones(&ours) {
        let config = proving(&bad.identity, &[&version::TLS12, &version::TLS13]);
        let server = Secured::start_with(config, &[b"h2"], Backend::new("bad")).await;
        refused(
            bad.what,
            call(&server, ours.trusted(), bad.name).await,
            bad.says,
        );
        if let Some(platform) = platform() {
            let what = format!("{}, platform roots", bad.what);
            refused(
                &what,
                call(&server, platform, bad.name).await,
                "certificate",
            );
        }
    }
}

/// The platform trusts none of ours. `None` where it has no roots at all.
fn platform() -> Option<TlsConfig> {
    let platform = TlsConfig::new().platform_roots();
    let channel = Channel::builder("ipv4:127.0.0.1:1").tls(platform.clone());
    match channel.build() {
        Ok(_) => Some(platform),
        Err(error) => {
            println!("SKIP platform roots: {error}");
            None
        }
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn good_ones_are_accepted_in_both_versions() {
    let ours = Authority::new();
    let wildcard = ["*.backend.test"];
    for (names, wanted) in [
        (&[NAME][..], NAME),
        (&["first.test", NAME], NAME),
        (&wildcard, "a.backend.test"),
        (&["127.0.0.1"], "127.0.0.1"),
    ] {
        for version in [&version::TLS12, &version::TLS13] {
            let config = proving(&ours.issue(&named(names)), &[version]);
            let server = Secured::start_with(config, &[b"h2"], Backend::new("good")).await;
            let (result, _) = call(&server, ours.trusted(), wanted).await;
            result.unwrap_or_else(|status| panic!("{names:?}, {version:?}: {status:?}"));
        }
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn http2_must_be_agreed_upon() {
    let ours = Authority::new();
    let identity = ours.issue(&named(&[NAME]));
    for (what, alpn, says) in [
        ("no protocol", &[][..], "ALPN h2"),
        ("HTTP/1.1", &[&b"http/1.1"[..]], "TLS handshake failed"),
    ] {
        let config = proving(&identity, &[&version::TLS12, &version::TLS13]);
        let server = Secured::start_with(config, alpn, Backend::new("old")).await;
        refused(what, call(&server, ours.trusted(), NAME).await, says);
    }
}

#[tokio::test(crate = "crate::support::harness")]
async fn servers_that_ask_who_we_are_get_the_right_answer_or_none() {
    let (ours, theirs) = (Authority::new(), Authority::named("theirs"));
    let identity = ours.issue(&named(&[NAME]));
    for version in [&version::TLS12, &version::TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(ours.certificate()).expect("a root");
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(identity.chain.clone(), identity.key())
            .expect("an identity");
        let server = Secured::start_with(config, &[b"h2"], Backend::new("strict")).await;
        let with = |authority: &Authority| {
            let me = authority.issue(&named(&["client.test"]));
            let key = me.key.serialize_pem();
            ours.trusted().identity_pem(me.pem, key)
        };
        let nobody = call(&server, ours.trusted(), NAME).await;
        refused("no certificate", nobody, "");
        let stranger = call(&server, with(&theirs), NAME).await;
        refused("a stranger's certificate", stranger, "");
        let (known, _) = call(&server, with(&ours), NAME).await;
        known.unwrap_or_else(|status| panic!("{version:?}: {status:?}"));
    }
}

/// Neither by a scheme, nor by a server that speaks nothing else, nor by forgetting.
#[tokio::test(crate = "crate::support::harness")]
async fn nothing_becomes_plaintext_that_was_not_asked_to() {
    let ours = Authority::new();
    let server = Server::start(Backend::new("plain")).await.expect("a port");
    let addr = server.addr();
    let http = Channel::builder(format!("http://{addr}"));
    let error = http.tls(ours.trusted()).build().expect_err("must not");
    assert!(
        matches!(error, BuildError::SecurityMismatch { .. }),
        "{error}"
    );
    let https = Channel::builder(format!("https://{addr}"));
    let error = https.plaintext().build().expect_err("must not");
    assert!(
        matches!(error, BuildError::SecurityMismatch { .. }),
        "{error}"
    );
    for target in [format!("http://{addr}"), format!("ipv4:{addr}")] {
        let error = Channel::builder(target).build().expect_err("must not");
        assert!(matches!(error, BuildError::NoSecurity), "{error}");
    }

    let channel = Channel::builder(format!("ipv4:{addr}")).tls(ours.trusted());
    let channel = channel.build().expect("a channel");
    for _ in 0..10 {
        let status = echo(&channel, text("secret")).await.expect_err("no TLS");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(
            status.message().contains("does not speak TLS"),
            "{status:?}"
        );
    }
    channel.close().await;
    assert_eq!(server.journal().streams(), 0, "nothing may be sent");

    let identity = ours.issue(&named(&[NAME]));
    let config = proving(&identity, &[&version::TLS12, &version::TLS13]);
    let secured = Secured::start_with(config, &[b"h2"], Backend::new("good")).await;
    let channel = Channel::builder(format!("ipv4:{}", secured.addr())).plaintext();
    let channel = channel.build().expect("a channel");
    let status = echo(&channel, text("hello")).await.expect_err("it is TLS");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    channel.close().await;
}
