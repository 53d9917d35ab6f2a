//! The forms of a target, and what is said of texts that are none.

use balancer_channel::Target;

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
        ("ipv4:127.0.0.1:80,127.0.0.2:81", "127.0.0.1:80"),
        ("ipv4:127.0.0.1", "127.0.0.1:443"),
        ("ipv6:[::1]:80,[::2]:80", "[::1]:80"),
        ("ipv6:[fe80::1%251]:80", "[fe80::1]:80"),
        ("unix:relative.sock", "localhost"),
        ("unix:///absolute.sock", "localhost"),
        ("passthrough:///anything:1", "anything:1"),
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
        ("[::1]80", "not a port"),
        ("[127.0.0.1]:80", "not an IPv6"),
        ("ipv4:", "not an IPv4"),
        ("ipv4:1.2.3:80", "not an IPv4"),
        ("ipv4:1.2.3.4:80,", "not an IPv4"),
        ("ipv4:1.2.3.4:0", "port"),
        ("ipv6:[::1]:0", "port 0"),
        ("ipv6:nonsense", "not an IPv6"),
        ("unix:", "must name a socket"),
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
