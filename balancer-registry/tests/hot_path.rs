//! What an RPC pays for its method's config: no allocation.

mod support;

use std::{fmt::Write, hint::black_box};

use support::accept;

#[test]
fn looking_up_a_method_allocates_nothing() {
    let mut names = String::new();
    for i in 0..500 {
        let _ = write!(
            names,
            r#"{{"service":"pkg.Service{i}","method":"Method"}},{{"service":"pkg.Service{i}"}},"#
        );
    }
    let config = accept(format!(
        r#"{{"methodConfig":[{{"name":[{names}{{}}],"timeout":"1s"}}]}}"#
    ));
    let all = allocation_counter::measure(|| {
        for path in [
            "/pkg.Service7/Method",
            "/pkg.Service7/Other",
            "/other/Method",
            "",
            "/",
        ] {
            assert!(black_box(config.method_config(black_box(path))).is_some());
        }
    });
    assert_eq!(all.count_total, 0, "must not allocate");
    let counted = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1, "the counter must work");
}
