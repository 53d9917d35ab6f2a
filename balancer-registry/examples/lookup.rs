//! How long looking up a method's config takes: `cargo run --release --example lookup`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fmt::Write, hint::black_box, time::Instant};

use support::accept;

const RUNS: u32 = 1_000_000;

fn main() {
    let mut names = String::new();
    for i in 0..500 {
        let _ = write!(
            names,
            r#"{{"service":"pkg.Service{i}","method":"Method"}},{{"service":"pkg.Service{i}"}},"#
        );
    }
    let default = r#"{"methodConfig":[{"name":[{}]}]}"#.to_owned();
    let many = format!(r#"{{"methodConfig":[{{"name":[{names}{{}}]}}]}}"#);
    for (config, path, what) in [
        ("{}".to_owned(), "/pkg.Service7/Method", "no config"),
        (default, "/pkg.Service7/Method", "default only"),
        (
            many.clone(),
            "/pkg.Service7/Method",
            "the method's entry of 1001",
        ),
        (
            many.clone(),
            "/pkg.Service7/Other",
            "the service's entry of 1001",
        ),
        (many, "/pkg.Other/Method", "the default of 1001"),
    ] {
        let config = accept(config);
        let start = Instant::now();
        for _ in 0..RUNS {
            black_box(config.method_config(black_box(path)));
        }
        let nanos = start.elapsed().as_nanos() / u128::from(RUNS);
        println!("{nanos:>4} ns  {what}");
    }
}
