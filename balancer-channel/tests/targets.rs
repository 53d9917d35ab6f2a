//! The forms of a target, and what is said of texts that are none.

#[path = "support/harness.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod harness;

use balancer_channel::{Channel, Target};

#[test]
fn each_form_has_one_authority() {
    let forms = [
        ("dns:///greeter.prod:50051", "greeter.prod:50051"),
        ("dns://127.0.0.1/greeter.prod:50051", "greeter.prod:50051"),
        ("dns://[::1]:5353/greeter.prod", "greeter.prod"),
        ("dns:greeter.prod", "greeter.prod"),
        ("greeter.prod:50051", "greeter.prod:50051"),
        ("greeter.prod.", "greeter.prod."),
        ("http://greeter.prod:80/", "greeter.prod:80"),
        ("https://greeter.prod", "greeter.prod"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        ("::1", "[::1]:443"),
        ("2001:db8::1", "[2001:db8::1]:443"),
        ("::1:f80", "[::1:f80]:443"),
        ("[::1:80]", "[::1:80]:443"),
        ("1:2:3:4:5:6:7:80", "[1:2:3:4:5:6:7:80]:443"),
        ("ipv6:2001:db8::1", "[2001:db8::1]:443"),
        ("ipv4:127.0.0.1:80,127.0.0.2:81", "127.0.0.1:80"),
        ("ipv4:127.0.0.1", "127.0.0.1:443"),
        ("ipv6:[::1]:80,[::2]:80", "[::1]:80"),
        ("ipv6:[fe80::1%251]:80", "[fe80::1]:80"),
        ("unix:relative.sock", "localhost"),
        ("unix:///absolute.sock", "localhost"),
        ("unix:with%20a%20space", "localhost"),
        ("passthrough:///anything:1", "anything:1"),
        ("passthrough:///[fe80::1%251]:80", "[fe80::1]:80"),
        ("passthrough:///user:secret@host:1", "localhost"),
    ];
    for (text, authority) in forms {
        let target: Target = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(target.authority(), authority, "{text}");
        assert_eq!(target.as_str(), text, "the text must be kept");
    }
}

#[test]
fn what_is_no_target_is_told_why() {
    let texts = [
        ("", "must not be empty"),
        (" ", "white space"),
        ("a b:1", "white space"),
        ("host:0", "port"),
        ("host:65536", "port"),
        ("host:", "port"),
        ("host:-1", "port"),
        (":80", "must name a host"),
        ("host..:80", "labels"),
        (".host:80", "labels"),
        ("user@host:80", "'@'"),
        ("host/path:80", "'/'"),
        ("::1::80:", "brackets"),
        ("[::1:80", "bracket"),
        ("::1:80", "write [::1]:80 with a port, or [::1:80] without"),
        ("dns:///2001:db8::1:8080", "write [2001:db8::1]:8080"),
        ("ipv6:::1:80", "write [::1]:80"),
        ("dns://::1:53/host", "write [::1]:53"),
        ("::1:50051", "brackets"),
        ("[::1]80", "not a port"),
        ("[127.0.0.1]:80", "not an IPv6"),
        ("ipv4:", "not an IPv4"),
        ("ipv4:1.2.3:80", "not an IPv4"),
        ("ipv4:1.2.3.4:80,", "not an IPv4"),
        ("ipv4:1.2.3.4:0", "port"),
        ("ipv6:[::1]:0", "port 0"),
        ("ipv6:nonsense", "not an IPv6"),
        ("unix:", "must name a socket"),
        ("unix:50%", "two hexadecimal digits"),
        ("unix:%2", "two hexadecimal digits"),
        ("unix:%zz", "two hexadecimal digits"),
        ("unix:a%00b", "zero byte"),
        ("unix:%ff", "UTF-8"),
        ("unix://host/path", "unix:///absolute"),
        ("dns://host:80", "three slashes"),
        ("dns://ns.example/host:80", "an IP address"),
        ("dns://127.0.0.1:x/host:80", "an IP address"),
        ("http:////host", "path"),
        ("xds:///service", "xds"),
        ("passthrough:///", "passthrough:///address"),
    ];
    for (text, said) in texts {
        match text.parse::<Target>() {
            Ok(target) => panic!("{text:?} must not be taken for {target:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains(said),
                    "{text:?}: {error}: must speak of {said:?}"
                );
            }
        }
    }
    let long = format!("{}:80", "a".repeat(100_000));
    let error = long
        .parse::<Target>()
        .expect_err("longer than any target")
        .to_string();
    assert!(
        error.len() < 1_000,
        "the text is cut: {} bytes",
        error.len()
    );
}

/// Both forms are URIs: what is written by its number is meant, and decoded once.
#[tokio::test(crate = "crate::harness")]
async fn a_sockets_path_may_be_percent_encoded() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("UTF-8");
    for (written, meant) in [("a%20b", "a b"), ("c%2525", "c%25"), ("d-ä", "d-ä")] {
        let socket = tokio::net::UnixListener::bind(format!("{folder}/{meant}")).expect("bound");
        for target in [
            format!("unix:{folder}/{written}"),
            format!("unix://{folder}/{written}"),
        ] {
            let channel = Channel::builder(&target).plaintext().build();
            let channel = channel.expect("a channel");
            let connecting = channel.connect();
            let accepted = async { socket.accept().await.map(drop) };
            let patience = std::time::Duration::from_secs(10);
            let accepted = tokio::time::timeout(patience, accepted);
            let (_, accepted) = tokio::join!(connecting, accepted);
            let accepted = accepted.unwrap_or_else(|_| panic!("{target}: must reach its socket"));
            accepted.unwrap_or_else(|error| panic!("{target}: {error}"));
            channel.close().await;
        }
    }
}
