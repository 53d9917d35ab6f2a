//! A new policy's crate is made where it may be, and refused by field, value and rule elsewhere. That
//! it compiles and is proven takes a nested build: the CI step `new-policy`.

use std::fs;

use clap::Parser;
use xtask::new_policy::{self, Options, with_member};
use xtask::workspace::Workspace;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

fn make(args: &[&str]) -> Result<(), String> {
    let words = std::iter::once("new-policy").chain(args.iter().copied());
    let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
    let made = new_policy::run(&Workspace::here(), &command.options);
    made.map(|_| ()).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_name_that_breaks_the_rule_is_refused() {
    for (name, rule) in [
        ("Mine", "must begin with a letter from a to z"),
        ("", "must begin with a letter from a to z"),
        (
            "my-own",
            "must be of a to z, 0 to 9 and _ only, as in weighted_random",
        ),
        ("my__own", "must not end with _ or have two in a row"),
        (
            "round_robin",
            "must not be the name of a policy that everybody knows",
        ),
        (
            "roundrobin",
            "must be new, and the workspace has balancer-roundrobin",
        ),
    ] {
        assert_eq!(make(&[name]), Err(format!("NAME: {name}: {rule}")));
    }
    let long = "a".repeat(33);
    let refused = make(&[&long]).expect_err("must be refused");
    assert!(refused.contains("at most 32"), "{refused}");
}

#[test]
fn a_crate_outside_asks_for_versions_and_a_second_one_for_another_place() {
    let directory = std::env::temp_dir().join(format!("balancer-new-{}", std::process::id()));
    let path = directory.display().to_string();
    make(&["calm_order", "--path", &path]).expect("must be made");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("must be there");

    let manifest = read("Cargo.toml");
    assert!(
        manifest.contains("name = \"balancer-calm-order\""),
        "{manifest}"
    );
    assert!(manifest.contains("balancer-api = \"0.1.0\""), "{manifest}");
    assert!(!manifest.contains("workspace = true"), "{manifest}");
    let library = read("src/lib.rs");
    assert!(library.contains("struct CalmOrderPicker"), "{library}");
    for name in [
        "README.md",
        "tests/conformance.rs",
        "tests/story.rs",
        "benches/pick.rs",
    ] {
        let text = read(name).to_lowercase();
        assert!(
            !text.contains("taking"),
            "{name} must not keep the template's name"
        );
    }

    let again = make(&["calm_order", "--path", &path]).expect_err("the place is taken");
    assert!(
        again.ends_with("must not exist, or be an empty directory"),
        "{again}"
    );
    fs::remove_dir_all(&directory).expect("must be ours");
}

#[test]
fn a_crate_inside_becomes_a_member() {
    let manifest = "[workspace]\nmembers = [\n    \"a\",\n]\n\n[workspace.package]\n";
    let wanted = "[workspace]\nmembers = [\n    \"a\",\n    \"b/c\",\n]\n\n[workspace.package]\n";
    assert_eq!(with_member(manifest, "b/c").as_deref(), Some(wanted));
    assert_eq!(with_member("[package]\n", "b"), None);
}
