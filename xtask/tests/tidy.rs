//! The workspace keeps its own rules, and each rule can be broken: a rule that finds nothing in a
//! wrong workspace would prove nothing about the right one.

use xtask::tidy::{self, Crate, Dep, File, Finding, Kind, RULES, Tree};
use xtask::workspace::Workspace;

// === This workspace ===

#[test]
fn this_workspace_keeps_every_rule() {
    let tree = Tree::load(&Workspace::here()).expect("cargo and git must tell what is here");
    assert!(
        tree.crates.len() > 10 && tree.files.len() > 20,
        "must look at the whole workspace"
    );
    let mut broken = String::new();
    for rule in RULES {
        for Finding { place, message } in (rule.check)(&tree) {
            broken.push_str(&format!(
                "{} ({}): {place}: {message}\n",
                rule.name, rule.what
            ));
        }
    }
    assert!(broken.is_empty(), "every rule must hold:\n{broken}");
}

// === Arrows ===

#[test]
fn a_policy_points_at_the_contract_and_nothing_else_of_ours() {
    let tree = crates(&[
        ("balancer-api", &[]),
        ("balancer-pickfirst", &[normal("balancer-api")]),
        (
            "balancer-roundrobin",
            &[normal("balancer-api"), normal("balancer-pickfirst")],
        ),
    ]);
    assert_eq!(
        tidy::arrows(&tree),
        [finding(
            "balancer-roundrobin depends on balancer-pickfirst",
            "Policy may point at Api only"
        )],
        "must name the one wrong arrow"
    );
}

#[test]
fn every_arrow_that_the_design_lacks_is_found() {
    let wrong = [
        ("balancer-api", normal("balancer-testkit")),
        ("balancer-api", normal("balancer-registry")),
        ("balancer-registry", normal("balancer-roundrobin")),
        ("balancer-registry", dev("balancer-roundrobin")),
        ("balancer-testkit", normal("balancer-registry")),
        ("balancer-testkit", normal("balancer-channel")),
        ("balancer-channel-core", normal("balancer-registry")),
        ("balancer-channel-core", normal("balancer-channel")),
        ("balancer-channel", normal("balancer-cli")),
        ("balancer-channel", normal("balancer-testkit")),
        ("balancer-cli", normal("balancer-testkit")),
        ("balancer-cli", normal("balancer-channel-core")),
        ("balancer-testpeer", normal("balancer-api")),
        ("balancer-mutants", normal("balancer-channel")),
        ("balancer-roundrobin", normal("balancer-registry")),
        ("balancer-roundrobin", normal("balancer-testkit")),
        (
            "balancer-roundrobin",
            Dep {
                kind: Kind::Build,
                ..normal("balancer-testkit")
            },
        ),
        ("balancer-roundrobin", dev("balancer-channel")),
        ("balancer-a-new-policy", normal("balancer-channel")),
    ];
    for (from, dep) in wrong {
        let tree = workspace_with(from, &dep);
        let found = tidy::arrows(&tree);
        assert_eq!(
            found.len(),
            1,
            "must refuse {from} → {dep:?} and nothing else: {found:?}"
        );
        assert!(found[0].place.starts_with(from) && found[0].place.ends_with(&dep.name));
    }
}

#[test]
fn the_arrows_of_the_design_are_let_through() {
    let right = [
        ("balancer-roundrobin", normal("balancer-api")),
        ("balancer-roundrobin", dev("balancer-testkit")),
        ("balancer-roundrobin", dev("balancer-registry")),
        ("balancer-registry", normal("balancer-api")),
        ("balancer-testkit", normal("balancer-api")),
        ("balancer-channel-core", normal("balancer-api")),
        ("balancer-channel-core", dev("balancer-testkit")),
        ("balancer-channel", normal("balancer-channel-core")),
        ("balancer-channel", normal("balancer-registry")),
        ("balancer-channel", normal("balancer-api")),
        ("balancer-channel", optional("balancer-roundrobin")),
        ("balancer-channel", dev("balancer-roundrobin")),
        ("balancer-channel", dev("balancer-testpeer")),
        ("balancer-cli", normal("balancer-channel")),
        ("balancer-cli", normal("balancer-roundrobin")),
        ("balancer-mutants", normal("balancer-testkit")),
        ("benches", normal("balancer-channel-core")),
        ("xtask", normal("balancer-testpeer")),
    ];
    for (from, dep) in right {
        let found = tidy::arrows(&workspace_with(from, &dep));
        assert_eq!(found, [], "must allow {from} → {dep:?}");
    }
}

#[test]
fn the_channels_policies_come_by_feature() {
    let tree = workspace_with("balancer-channel", &normal("balancer-roundrobin"));
    let found = tidy::arrows(&tree);
    assert!(
        found[0].message.contains("optional"),
        "must say what would be right: {found:?}"
    );
}

#[test]
fn nobody_depends_on_our_tools() {
    for tool in ["benches", "xtask", "balancer-mutants"] {
        let found = tidy::arrows(&workspace_with("balancer-cli", &dev(tool)));
        assert_eq!(found.len(), 1, "must refuse {tool}, for tests too");
        let among_tools = tidy::arrows(&workspace_with("xtask", &normal("benches")));
        assert_eq!(among_tools.len(), 1, "must refuse it between tools too");
    }
}

#[test]
fn an_unpublished_crate_has_no_arrow_for_its_tests_either() {
    let found = tidy::arrows(&workspace_with(
        "balancer-testpeer",
        &dev("balancer-testkit"),
    ));
    assert_eq!(found.len(), 1, "the peer must know nothing of ours");
}

// === Other people's crates ===

#[test]
fn the_contract_is_written_in_stable_vocabulary() {
    for theirs in ["tokio", "tonic", "hyper", "serde"] {
        let tree = crates(&[("balancer-api", &[normal("http"), normal(theirs)])]);
        let found = tidy::third_party(&tree);
        assert_eq!(
            found.len(),
            1,
            "must refuse {theirs} and keep http: {found:?}"
        );
        let tests_only = crates(&[("balancer-api", &[dev(theirs)])]);
        assert_eq!(tidy::third_party(&tests_only), [], "must leave tests free");
    }
}

#[test]
fn a_policy_takes_data_structures_only() {
    let tree = crates(&[
        ("balancer-api", &[]),
        (
            "balancer-roundrobin",
            &[normal("balancer-api"), normal("smallvec"), optional("rand")],
        ),
    ]);
    let found = tidy::third_party(&tree);
    assert_eq!(
        places(&found),
        ["balancer-roundrobin depends on rand"],
        "a feature is no way round"
    );
}

#[test]
fn the_core_has_no_runtime() {
    let tree = crates(&[(
        "balancer-channel-core",
        &[normal("arc-swap"), normal("tokio"), normal("h2")],
    )]);
    assert_eq!(
        tidy::third_party(&tree).len(),
        2,
        "must refuse the runtime and the transport"
    );
}

// === Files ===

#[test]
fn a_file_opens_with_its_purpose() {
    let tree = files(&[
        ("a/src/lib.rs", "//! What it is for.\n"),
        ("a/src/late.rs", "\n//! Too late.\n"),
        ("a/src/empty.rs", ""),
        ("a/src/bare.rs", "//!\n//! Not on the first line.\n"),
        ("a/README.md", "not Rust"),
    ]);
    let found = tidy::purpose(&tree);
    assert_eq!(
        places(&found),
        ["a/src/late.rs", "a/src/empty.rs", "a/src/bare.rs"]
    );
}

#[test]
fn a_root_file_forbids_unsafe_code() {
    let mut tree = files(&[
        ("a/src/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n"),
        ("a/src/main.rs", "//! A.\n#![deny(unsafe_code)]\n"),
    ]);
    let roots = vec![
        "a/src/lib.rs".into(),
        "a/src/main.rs".into(),
        "a/src/gone.rs".into(),
    ];
    tree.crates = vec![Crate {
        name: "a".into(),
        dir: "a".into(),
        roots,
        ..Crate::default()
    }];
    let found = tidy::forbids_unsafe(&tree);
    assert_eq!(
        places(&found),
        ["a/src/main.rs", "a/src/gone.rs"],
        "deny can be lifted, forbid cannot"
    );
}

#[test]
fn a_crate_inherits_the_lints() {
    let mut tree = files(&[
        (
            "a/Cargo.toml",
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n",
        ),
        ("b/Cargo.toml", "[package]\nversion.workspace = true\n"),
        (
            "c/Cargo.toml",
            "[lints]\n[dependencies]\nworkspace = true\n",
        ),
    ]);
    tree.crates = ["a", "b", "c"].map(|name| krate(name, &[])).into();
    let found = tidy::lints_inherited(&tree);
    assert_eq!(places(&found), ["b/Cargo.toml", "c/Cargo.toml"]);
}

#[test]
fn a_version_is_chosen_once() {
    let manifest = "[package]\nname = \"a\"\n\n[dependencies]\n# why = because\n\
        bytes = { workspace = true }\nhttp.workspace = true\n\
        tokio = { workspace = true, features = [\n    \"rt\",\n] }\n\
        h2 = \"0.4\"\n\n[features]\nx = [\"dep:h2\"]\n\n[dev-dependencies]\n\
        rand = { version = \"1\" }\n";
    let mut tree = files(&[("a/Cargo.toml", manifest)]);
    tree.crates = vec![krate("a", &[])];
    let found = tidy::shared_versions(&tree);
    assert_eq!(places(&found), ["a/Cargo.toml: h2", "a/Cargo.toml: rand"]);
}

#[test]
fn nothing_names_what_a_clone_does_not_have() {
    // In two parts each, or this file would break the rule it tests.
    let wrong = [
        concat!("open(\"/", "home/me/x\")"),
        concat!("cd /", "root"),
        concat!("let log = \"/", "tmp/log\";"),
        concat!("unix:/", "tmp/a.sock"),
        concat!("see /", "work/notes"),
        concat!("see ..", "/shared/notes.md"),
        concat!("https://index.crates", ".io/config.json"),
        concat!("https://pypi", ".org/simple"),
    ];
    for line in wrong {
        let found = tidy::mentions(&files(&[("a.md", &format!("fine\n{line}\n"))]));
        assert_eq!(places(&found), ["a.md:2"], "must refuse `{line}`");
    }
}

#[test]
fn a_url_or_a_longer_name_is_not_a_machines_path() {
    let right = [
        concat!("https://example.com/", "home/"),
        concat!("a/", "work/b"),
        concat!("/", "workspace"),
        concat!("/", "tmpfs"),
        concat!("$dir/", "tmp"),
        "[patch.crates-io]",
    ];
    for line in right {
        assert_eq!(
            tidy::mentions(&files(&[("a.md", line)])),
            [],
            "must allow `{line}`"
        );
    }
    let lock = concat!(
        "source = \"registry+https://github.com/rust-lang/crates",
        ".io-index\""
    );
    assert_eq!(
        tidy::mentions(&files(&[("Cargo.lock", lock)])),
        [],
        "cargo writes its own file"
    );
}

#[test]
fn a_long_file_is_split() {
    let long = "//! Long.\n".repeat(801);
    let found = tidy::lengths(&files(&[("a/src/long.rs", &long), ("a/notes.md", &long)]));
    assert_eq!(places(&found), ["a/src/long.rs"]);
}

#[test]
fn the_readme_shows_what_ci_runs_for_it() {
    let both = "cargo test --workspace\ncargo run --release -p balancer-cli -- demo\n";
    assert_eq!(tidy::readme_commands(&files(&[("README.md", both)])), []);
    let found = tidy::readme_commands(&files(&[("README.md", "cargo test\n")]));
    assert_eq!(found.len(), 2, "must miss both commands");
}

#[test]
fn what_is_shown_is_run() {
    let proof = (
        "balancer-roundrobin/tests/conformance.rs",
        "//! Proof.\nconformance!(RoundRobin::new());\n",
    );
    let source = ("docs/guide/src/lib.rs", "//! Guide.\nfn shown() {}\n");
    let tree = |chapter, readme| {
        let path = ("docs/write-a-policy.md", chapter);
        files(&[proof, source, path, ("README.md", readme)])
    };
    let good = tree(
        "```rust\nfn shown() {}\n```\n```console\n$ cargo add x\n```\n```text\nlaw `a`\n```\n",
        "```rust\nconformance!(RoundRobin::new());\n# fn main() {}\n```\n\
         ```console\n$ cargo test --workspace   # all\n$ balancer policies\n```\n",
    );
    assert_eq!(tidy::shown_code(&good), []);

    let bad = tree(
        "```rust\nfn other() {}\n```\n```json\n{}\n```\n```text\nok\n```\n",
        "```rust,ignore\nconformance!(other());\n```\n```console\n$ cargo install x\n```\n",
    );
    let found = tidy::shown_code(&bad);
    let chapter = "docs/write-a-policy.md";
    assert_eq!(
        places(&found),
        [
            &format!("{chapter}:1"),
            &format!("{chapter}:4"),
            &format!("{chapter}:7"),
            "README.md:1",
            "README.md:1",
            "README.md:4"
        ],
        "must find each: {found:?}"
    );
}

// === Banned calls ===

#[test]
fn a_policy_turns_the_bans_on() {
    let mut tree = files(&[
        (
            "clippy.toml",
            &bans(|path| format!("{{ path = \"{path}\", reason = \"no\" }},\n")),
        ),
        (
            "balancer-api/src/lib.rs",
            "//! A.\n#![deny(clippy::disallowed_methods)]\n",
        ),
        ("balancer-roundrobin/src/lib.rs", "//! R.\n"),
        ("balancer-channel/src/lib.rs", "//! C.\n"),
    ]);
    tree.crates = ["balancer-api", "balancer-roundrobin", "balancer-channel"]
        .map(|name| krate(name, &[]))
        .into();
    let found = tidy::banned_calls(&tree);
    assert_eq!(
        places(&found),
        ["balancer-roundrobin/src/lib.rs"],
        "the channel may read a clock"
    );
}

#[test]
fn after_each_test_of_a_channel_it_is_looked_for_leaks() {
    let file = |text: &str| files(&[("balancer-channel/tests/a.rs", text)]);
    let harness = "#[tokio::test(crate = \"crate::support::harness\")]\n";
    let broken = "#[tokio::test(\n    crate = \"crate::harness\",\n    start_paused = true\n)]\n";
    for good in [
        harness,
        broken,
        "#[tokio::test(start_paused = true, crate = \"crate::support::harness\")]\n",
        "#[tokio::test(\n    start_paused = true,\n    crate = \"crate::support::harness\"\n)]\n",
        "// Leaks: none are possible.\n#[tokio::test]\n",
        "    // Leaks: the servers'.\n    let home = runtime::Runtime::new();\n",
        "#[test]\nfn plain() {}\n",
    ] {
        assert_eq!(tidy::leaks(&file(good)), [], "{good}");
    }
    for bare in [
        "#[tokio::test]\n",
        "// Leaks: of another line.\nfn other() {}\n#[tokio::test(start_paused = true)]\n",
        "#[tokio::test(crate = \"tokio\")]\n",
        "    let home = tokio::runtime::Runtime::new();\n",
        "    let home = tokio::runtime::Builder::new_current_thread();\n",
        "    let core = Core::new(env, settings);\n",
    ] {
        assert_eq!(tidy::leaks(&file(bare)).len(), 1, "{bare}");
    }
    let elsewhere = files(&[("balancer-cli/tests/a.rs", "#[tokio::test]\n")]);
    assert_eq!(tidy::leaks(&elsewhere), []);
    let counted = tidy::leak_checks(&file(&format!("{harness}{broken}")));
    assert_eq!(counted.checked, 2);
}

#[test]
fn the_list_of_bans_is_whole_and_has_reasons() {
    let without_reasons = bans(|path| format!("{{ path = \"{path}\" }},\n"));
    let found = tidy::banned_calls(&files(&[("clippy.toml", &without_reasons)]));
    assert_eq!(found.len(), tidy::BANNED.len(), "must ask for each reason");
    let found = tidy::banned_calls(&files(&[("clippy.toml", "disallowed-methods = []\n")]));
    assert_eq!(found.len(), tidy::BANNED.len(), "must miss each ban");
}

#[test]
fn a_policys_map_names_its_hasher() {
    let text = "//! Maps.\n\
        struct A(HashMap<SubConn, usize>);\n\
        struct B(HashMap<SubConn, fn(u8) -> u8, Fixed>);\n\
        struct C(HashSet<(u8, u8)>);\n\
        struct D(HashSet<Vec<u8>, Fixed>);\n\
        struct E(BTreeMap<u8, u8>);\n\
        // A HashMap<K, V> in prose.\n\
        fn f() { x.collect::<HashMap<_, _>>(); }\n\
        struct G(HashMap<\n    u8,\n    u8,\n>);\n";
    let mut tree = files(&[
        ("balancer-roundrobin/src/maps.rs", text),
        ("balancer-channel/src/maps.rs", text),
    ]);
    tree.crates = ["balancer-roundrobin", "balancer-channel"]
        .map(|name| krate(name, &[]))
        .into();
    let at = |line: usize| format!("balancer-roundrobin/src/maps.rs:{line}");
    let mut found = places(&tidy::random_state(&tree));
    found.sort();
    assert_eq!(
        found,
        [at(2), at(4), at(8), at(9)],
        "must find each map that is hashed by chance"
    );
}

// === Small workspaces ===

fn crates(list: &[(&str, &[Dep])]) -> Tree {
    let crates = list.iter().map(|(name, deps)| krate(name, deps)).collect();
    Tree {
        crates,
        files: Vec::new(),
    }
}

/// All our crates without any arrow but one.
fn workspace_with(from: &str, dep: &Dep) -> Tree {
    let names = [
        "balancer-api",
        "balancer-roundrobin",
        "balancer-a-new-policy",
        "balancer-registry",
        "balancer-testkit",
        "balancer-channel-core",
        "balancer-channel",
        "balancer-cli",
        "balancer-testpeer",
        "balancer-mutants",
        "benches",
        "xtask",
    ];
    let deps = |name: &str| {
        if name == from {
            vec![dep.clone()]
        } else {
            Vec::new()
        }
    };
    let crates = names.iter().map(|name| krate(name, &deps(name))).collect();
    Tree {
        crates,
        files: Vec::new(),
    }
}

fn krate(name: &str, deps: &[Dep]) -> Crate {
    Crate {
        name: name.into(),
        dir: name.into(),
        published: !matches!(
            name,
            "balancer-testpeer" | "balancer-mutants" | "benches" | "xtask"
        ),
        roots: vec![format!("{name}/src/lib.rs")],
        deps: deps.to_vec(),
    }
}

fn normal(name: &str) -> Dep {
    Dep {
        name: name.into(),
        kind: Kind::Normal,
        optional: false,
    }
}

fn optional(name: &str) -> Dep {
    Dep {
        optional: true,
        ..normal(name)
    }
}

fn dev(name: &str) -> Dep {
    Dep {
        kind: Kind::Dev,
        ..normal(name)
    }
}

fn files(list: &[(&str, &str)]) -> Tree {
    let file = |(path, text): &(&str, &str)| File {
        path: (*path).into(),
        text: (*text).into(),
    };
    Tree {
        crates: Vec::new(),
        files: list.iter().map(file).collect(),
    }
}

fn bans(line: impl Fn(&str) -> String) -> String {
    tidy::BANNED.iter().map(|path| line(path)).collect()
}

fn finding(place: &str, message: &str) -> Finding {
    Finding {
        place: place.into(),
        message: message.into(),
    }
}

fn places(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| finding.place.clone())
        .collect()
}
