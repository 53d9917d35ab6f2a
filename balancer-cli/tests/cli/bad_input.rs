//! Bad usage: exit code 2, nothing on stdout, and a line that names what was wrong.

use super::support::run;

/// Arguments of `call` beside a good target and `--plaintext`, and what the error must name.
const BAD_FLAGS: &[(&[&str], &str)] = &[
    (&["--tls"], "--tls"),
    (&["--nonsense"], "--nonsense"),
    (&["another-target"], "another-target"),
    (&["--count", "0"], "--count"),
    (&["--count", "-1"], "-1"),
    (&["--count", "many"], "--count"),
    (&["--count", "1.5"], "--count"),
    (&["--count", "99999999999999999999"], "--count"),
    (&["--count", "2", "--duration", "1s"], "--duration"),
    (&["--duration", "5"], "--duration"),
    (&["--duration", "s"], "--duration"),
    (&["--duration", "0s"], "--duration"),
    (&["--duration", "-1s"], "-1"),
    (&["--duration", "1h"], "--duration"),
    (&["--duration", "1 s"], "--duration"),
    (&["--duration", "1.2.3s"], "--duration"),
    (&["--duration", ".s"], "--duration"),
    (&["--duration", "1e3s"], "--duration"),
    (&["--duration", "99999999999999999999m"], "--duration"),
    (&["--duration", ""], "--duration"),
    (&["--timeout", "soon"], "--timeout"),
    (&["--timeout", "0ms"], "--timeout"),
    (&["--timeout"], "--timeout"),
    (&["--warm-up", "none"], "--warm-up"),
    (&["--warm-up", "0"], "--warm-up"),
    (&["--concurrency", "0"], "--concurrency"),
    (&["--concurrency", "100001"], "--concurrency"),
    (&["--rps", "0"], "--rps"),
    (&["--rps", "-5"], "-5"),
    (&["--rps", "NaN"], "--rps"),
    (&["--rps", "inf"], "--rps"),
    (&["--rps", "fast"], "--rps"),
    (&["--data-hex", "abc"], "--data-hex"),
    (&["--data-hex", "zz"], "--data-hex"),
    (&["--data-hex", "0x00"], "--data-hex"),
    (&["--data-hex", "é"], "--data-hex"),
    (&["--method", "pkg.Svc/Method"], "--method"),
    (&["--method", "/pkg.Svc"], "--method"),
    (&["--method", "/pkg.Svc/"], "--method"),
    (&["--method", "/a/b/c"], "--method"),
    (&["--method", "/a b/c"], "--method"),
    (&["--method", "/a/b?c"], "--method"),
    (&["--ca", "ca.pem"], "--ca"),
    (&["--server-name", "a.test"], "--server-name"),
    (&["--service-config", "{"], "--service-config"),
    (&["--service-config", ""], "--service-config"),
    (
        &[
            "--service-config",
            r#"{"loadBalancingConfig":[{"xds":{}}]}"#,
        ],
        "xds",
    ),
    (
        &["--service-config", "@there-is-no-such-file"],
        "there-is-no-such-file",
    ),
];

const BAD_TARGETS: &[&str] = &[
    "",
    " ",
    ":",
    "host:0",
    "host:65536",
    "host:port",
    "a b:80",
    "xds:///greeter",
    "dns://ns.example/host:80",
    "ipv4:",
    "ipv4:1.2.3:80",
    "ipv4:1.2.3.4:80,",
    "ipv6:[::1:80",
    "unix:",
    "unix://relative",
    "https://127.0.0.1:1",
];

#[tokio::test]
async fn bad_flags_are_bad_usage() {
    for (flags, named) in BAD_FLAGS {
        let mut args = vec!["call", "127.0.0.1:1", "--plaintext", "--json"];
        args.extend(*flags);
        let ran = run(&args).await;
        assert_eq!(ran.code, 2, "{flags:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{flags:?}: stdout is for answers");
        assert!(ran.stderr.contains(named), "{flags:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn bad_targets_are_bad_usage() {
    for target in BAD_TARGETS {
        let ran = run(["call", target, "--plaintext", "--json"]).await;
        assert_eq!(ran.code, 2, "{target:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{target:?}: stdout is for answers");
        assert_eq!(ran.stderr.lines().count(), 1, "{target:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("target"), "{target:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn security_must_be_chosen() {
    let ran = run(["call", "127.0.0.1:1"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(
        ran.stderr.contains("--plaintext") && ran.stderr.contains("--tls"),
        "must offer both: {}",
        ran.stderr
    );
    for flags in [["--cert", "a.pem"], ["--key", "a.key"]] {
        let ran = run(["call", "127.0.0.1:1", "--tls", flags[0], flags[1]]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{flags:?}");
        assert!(ran.stderr.contains("--key") || ran.stderr.contains("--cert"));
    }
    for flag in ["--ca", "--server-name"] {
        let value = if flag == "--ca" {
            "no-such-file.pem"
        } else {
            "a b"
        };
        let ran = run(["call", "127.0.0.1:1", "--tls", flag, value]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{flag}: {ran:?}");
        assert!(ran.stderr.contains(value), "{flag}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn other_verbs_refuse_what_they_do_not_know() {
    for args in [
        &["nonsense"][..],
        &["policies", "more"],
        &["demo", "--backends", "0"],
        &["demo", "--backends", "1"],
        &["demo", "--backends", "1000"],
        &["demo", "--forever"],
        &["demo", "--serve", "--json"],
        &["check-config", "a", "b"],
    ] {
        let ran = run(args).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}: must say why");
    }
}

#[tokio::test]
async fn help_teaches() {
    for (verb, taught) in [
        (&[][..], "Examples:"),
        (&["call"], "--service-config '{"),
        (&["demo"], "--serve"),
        (&["check-config"], "balancer check-config -"),
        (&["policies"], "--json"),
    ] {
        let ran = run([verb, &["--help"]].concat()).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{verb:?}");
        assert!(ran.stdout.contains(taught), "{verb:?}: {}", ran.stdout);
    }
    let ran = run(["--version"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.starts_with("balancer "), "{}", ran.stdout);
}
