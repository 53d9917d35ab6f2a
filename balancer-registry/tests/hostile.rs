//! Service configs of an attacker: whatever the text, an answer, and a short one.

mod support;

use std::{sync::Arc, thread};

use balancer_registry::{Limits, Registry, ServiceConfig};
use support::{Panicking, accept, corpus::corpus, parse, refuse_once, registry};

#[test]
fn every_text_of_the_corpus_gets_a_short_answer() {
    let mut valid = 0;
    for (name, text) in corpus() {
        match parse(&text) {
            Ok(config) => {
                valid += 1;
                assert!(config.warnings().len() <= 65, "{name}: too many warnings");
                assert!(
                    config.resolve().skipped().len() <= 256,
                    "{name}: too many skipped"
                );
            }
            Err(error) => {
                assert!(
                    (1..=16).contains(&error.errors().len()),
                    "{name}: {}",
                    error.errors().len()
                );
                assert!(error.to_string().len() < 32 << 10, "{name}: a long message");
                for error in error.errors() {
                    assert!(
                        error.path().chars().count() <= 256,
                        "{name}: {}",
                        error.path()
                    );
                    assert!(
                        error.value().chars().count() <= 256,
                        "{name}: {}",
                        error.value()
                    );
                    assert!(
                        error.rule().chars().count() <= 4096,
                        "{name}: {}",
                        error.rule()
                    );
                }
            }
        }
    }
    assert!(
        valid > 10,
        "must hold valid texts too, which cost the most: {valid}"
    );
}

/// Row 13 of the scoreboard.
#[test]
#[ignore = "a row of cargo xtask reliability"]
fn the_worst_text_takes_milliseconds() {
    let most = if cfg!(debug_assertions) { 50 } else { 5 };
    let worst = corpus().into_iter().map(|(name, text)| {
        // The best of some: what the machine does meanwhile is not the parser's doing.
        let took = (0..20).map(|_| {
            let started = std::time::Instant::now();
            let _ = parse(&text);
            started.elapsed()
        });
        (took.min().unwrap_or_default(), name)
    });
    let (took, name) = worst.max().expect("there are texts");
    let kind = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let pass = took <= std::time::Duration::from_millis(most);
    let verdict = if pass { "PASS" } else { "FAIL" };
    println!("row\t13\t{took:.1?} for {name:?}, {kind} build\t{verdict}");
    assert!(pass, "{name}: {took:?}");
}

#[test]
fn no_depth_overflows_the_stack() {
    // A small stack makes recursion over the text show itself.
    let small = thread::Builder::new().stack_size(128 << 10);
    let deep = small.spawn(|| {
        let mut limits = Limits::default();
        limits.max_bytes = usize::MAX;
        limits.max_depth = usize::MAX;
        for open in ["[", "{\"a\":", "[{\"a\":"] {
            let text = format!("{{\"x\":{}", open.repeat(100_000));
            let error = ServiceConfig::parse_with(&text, &registry(), &limits).unwrap_err();
            assert_eq!(
                error.errors()[0].rule(),
                "must not nest deeper than 128 levels"
            );
        }
        let text = format!("{{\"x\":{}", "[".repeat(16 << 20));
        let error = ServiceConfig::parse_with(&text, &registry(), &limits).unwrap_err();
        assert_eq!(
            error.errors()[0].rule(),
            "a service config may have at most 16777216 bytes"
        );
    });
    deep.expect("a thread").join().expect("must not panic");
}

#[test]
fn the_deepest_policies_fit_a_worker_s_stack() {
    let worker = thread::Builder::new().stack_size(2 << 20);
    let parsed = worker.spawn(|| {
        let children = |depth: usize| {
            let open = r#"{"nest":{"childPolicy":["#.repeat(depth);
            let close = "]}}".repeat(depth);
            format!(r#"{{"loadBalancingConfig":[{open}{{"round_robin":{{}}}}{close}]}}"#)
        };
        let mut limits = Limits::default();
        limits.max_depth = 128;
        let parse_within =
            |limits: &Limits, config: &str| ServiceConfig::parse_with(config, &registry(), limits);
        let sixteen = parse_within(&limits, &children(15));
        assert!(sixteen.is_ok(), "sixteen policies are allowed");
        let error = parse_within(&limits, &children(16)).unwrap_err();
        let error = &error.errors()[0];
        assert_eq!(error.rule(), "policies may not nest deeper than 16");
        assert!(
            error
                .path()
                .starts_with("loadBalancingConfig[0].nest.childPolicy[0].nest")
        );
        // The application may allow less, not more.
        limits.max_policy_depth = 3;
        assert!(parse_within(&limits, &children(2)).is_ok(), "three of them");
        let error = parse_within(&limits, &children(3)).unwrap_err();
        let error = &error.errors()[0];
        assert_eq!(error.rule(), "policies may not nest deeper than 3");
        assert_eq!(error.path().matches("childPolicy").count(), 3);
        limits.max_policy_depth = usize::MAX;
        assert!(parse_within(&limits, &children(15)).is_ok());
        assert!(parse_within(&limits, &children(16)).is_err());
    });
    parsed.expect("a thread").join().expect("must not panic");
}

#[test]
fn many_tiny_keys_are_only_many() {
    let mut limits = Limits::default();
    limits.max_bytes = 4 << 20;
    let keys: Vec<_> = (0..100_000).map(|i| format!("\"{i}\":{i}")).collect();
    let text = format!("{{{}}}", keys.join(","));
    let config = ServiceConfig::parse_with(text, &registry(), &limits).unwrap();
    let last = config.warnings().last().map(ToString::to_string);
    assert_eq!(last.as_deref(), Some("99936 more warnings are not shown"));

    let text = format!("{{{},\"7\":0}}", keys.join(","));
    let error = ServiceConfig::parse_with(text, &registry(), &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid service config: 7: 0: a key must be given only once"
    );
}

#[test]
fn children_may_not_be_read_again_and_again() {
    // Each level reads all that is inside it: sixteen levels of 60 KiB would be a megabyte.
    let inside = format!(r#"{{"round_robin":{{"x":"{}"}}}}"#, "x".repeat(60_000));
    let nested = |depth: usize| {
        let open = r#"{"nest":{"childPolicy":["#.repeat(depth);
        let close = "]}}".repeat(depth);
        format!(r#"{{"loadBalancingConfig":[{open}{inside}{close}]}}"#)
    };
    accept(nested(4));
    let (path, _, rule) = refuse_once(nested(5));
    assert_eq!(
        rule,
        "child policies may have at most 262144 bytes together, those inside others counted each time"
    );
    assert_eq!(
        path,
        format!("loadBalancingConfig{}", "[0].nest.childPolicy".repeat(5))
    );
}

#[test]
fn a_parser_that_panics_makes_the_config_invalid() {
    let registry = registry();
    registry.register(Arc::new(Panicking("shaky"))).unwrap();
    for json in [
        r#"{"loadBalancingConfig":[{"shaky":{"a":1}}]}"#,
        r#"{"loadBalancingConfig":[{"nest":{"childPolicy":[{"shaky":{"a":1}}]}}]}"#,
    ] {
        let error = ServiceConfig::parse(json, &registry).unwrap_err();
        let error = &error.errors()[0];
        assert!(error.path().ends_with("[0].shaky"), "{}", error.path());
        assert_eq!(error.value(), r#"{"a":1}"#);
        assert_eq!(
            error.rule(),
            r#"the policy's parser panicked: cannot stand {"a":1}"#
        );
    }
    let fine = ServiceConfig::parse(r#"{"loadBalancingConfig":[{"nest":{}}]}"#, &registry);
    assert!(fine.is_ok(), "must leave the registry usable");
}

#[test]
fn an_empty_registry_answers_too() {
    for (name, text) in corpus() {
        let parsed = ServiceConfig::parse(&text, &Registry::new());
        assert!(parsed.is_err(), "{name}: there is no policy to choose");
    }
}
