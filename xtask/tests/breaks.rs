//! The tables of breaks: what is wrong in one is said, all of it, and what is right is put in place.

use xtask::breaks::{Break, load, parse, weave};
use xtask::workspace::Workspace;

/// Reads one table; the breaks, and what is wrong, as people see it.
fn read(text: &str) -> (Vec<Break>, Vec<String>) {
    let (breaks, wrong) = parse(&[("t.toml".to_owned(), text.to_owned())]);
    (breaks, wrong.iter().map(ToString::to_string).collect())
}

/// A break of one file, as the table has it.
fn entry(name: &str, find: &str, replace: &str) -> String {
    format!(
        "[[break]]\nname = {name:?}\nrule = 'It holds.'\nfile = 'a.rs'\nfind = {find:?}\n\
         replace = {replace:?}\nfails = ['core/machine it::holds']\n"
    )
}

/// The file `a.rs` with the breaks in it, or what is wrong.
fn woven(source: &str, table: &str) -> Result<String, Vec<String>> {
    let (breaks, wrong) = read(table);
    assert!(wrong.is_empty(), "{wrong:?}");
    let woven = weave(&breaks, |file| (file == "a.rs").then(|| source.to_owned()));
    match woven {
        Ok(files) => {
            let once = "{ static ON: ::std::sync::OnceLock<bool> = ::std::sync::OnceLock::new(); \
                        *ON.get_or_init(|| ";
            let woven = files["a.rs"].replace(once, "");
            Ok(woven.replace(r#"::std::env::var_os("BALANCER_BREAK")"#, "E"))
        }
        Err(wrong) => Err(wrong.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn every_error_names_the_table_the_break_the_field_its_value_and_the_rule() {
    let text = "[[break]]\nname = 'Wrong Name'\nrule = ' '\nfile = 'a.rs'\nfind = ''\n\
                replace = '$0 $0'\nfails = ['machine', 'machine a', 'core/machine a', 'core/machine a']\n\
                [[break.also]]\nfile = 'a.rs'\nfind = 'x'\nreplace = 'y'\n\
                [[break]]\nname = 'blind'\nrule = 'It holds.'\nfile = 'a.rs'\nfind = 'x'\n\
                replace = '$0$BROKEN'\nfails = []\n";
    let (_, wrong) = read(text);
    let of = "t.toml: break Wrong Name: ";
    let form = "must be `<crate>/<target> <test>`, as in `core/machine rig::it_works`";
    let must = [
        format!("{of}name = \"Wrong Name\": must be of a-z, 0-9, `.`, `_` and `-`, and not empty"),
        format!("{of}rule = \" \": must say what is broken"),
        format!("{of}find = \"\": must not be empty"),
        format!("{of}replace = \"$0 $0\": must have $0 exactly once, not 2 times"),
        format!("{of}replace = \"y\": must have $0 exactly once, not 0 times"),
        format!("{of}replace = \"$0 $0\": must have $BROKEN, or nothing switches it on"),
        format!("{of}fails = \"machine\": {form}"),
        format!("{of}fails = \"machine a\": {form}"),
        format!("{of}fails = \"core/machine a\": must be named once"),
        "t.toml: break blind: fails = []: must name a test, or nobody would notice".to_owned(),
    ];
    assert_eq!(wrong, must, "all of them must be said, not the first alone");
}

#[test]
fn a_field_that_is_unknown_or_missing_is_said_of_its_break() {
    let right = entry("right", "x", "$0$BROKEN");
    let unknown = entry("odd", "x", "$0$BROKEN") + "fials = []\n";
    let nameless = "[[break]]\nrule = 'It holds.'\n";
    let (breaks, wrong) = read(&format!("{right}{unknown}{nameless}"));
    assert_eq!(breaks.len(), 1, "the right one must be read all the same");
    let [odd, third] = &wrong[..] else {
        panic!("{wrong:?}");
    };
    assert!(
        odd.starts_with("t.toml: break odd: ") && odd.contains("`fials`"),
        "{odd}"
    );
    assert!(
        third.starts_with("t.toml: break number 3: missing field"),
        "{third}"
    );

    let (_, wrong) = read("[[brake]]\n");
    assert!(
        wrong[0].starts_with("t.toml: ") && wrong[0].contains("`brake`"),
        "{wrong:?}"
    );
    let (_, wrong) = read("[[break\n");
    assert_eq!(wrong.len(), 1, "what is no TOML is one error: {wrong:?}");
}

#[test]
fn a_name_is_given_once_in_all_tables() {
    let table = |name: &str| (name.to_owned(), entry("twice", "x", "$0$BROKEN"));
    let (_, wrong) = parse(&[table("a.toml"), table("b.toml")]);
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let must =
        "b.toml: break twice: name = \"twice\": must be no other break's name, and a.toml has it";
    assert_eq!(wrong, [must]);
}

#[test]
fn breaks_are_put_around_what_they_find_the_larger_outside_the_smaller() {
    let table = [
        entry("inner", "b", "($0 || $BROKEN)"),
        entry("outer", "a(b);", "if !$BROKEN { $0 }"),
        entry("same", "a(b);", "{$0}"),
        entry("before", "a(b); c", "$BROKEN; $0"),
    ];
    let table = table.concat().replace("{$0}", "{$0/*$BROKEN*/}");
    let on = |name: &str| format!("(E.is_some_and(|it| it == {name:?})) }})");
    let (inner, outer, same, before) = (on("inner"), on("outer"), on("same"), on("before"));
    let must = format!("x {before}; if !{outer} {{ {{a((b || {inner}));/*{same}*/}} }} c y");
    assert_eq!(woven("x a(b); c y", &table), Ok(must));
}

#[test]
fn what_does_not_fit_the_sources_is_said() {
    let table = [
        entry("gone", "z", "$0$BROKEN"),
        entry("twice", "b", "$0$BROKEN"),
        entry("one", "ab", "($0$BROKEN)"),
        entry("cut", "cb", "($0$BROKEN)"),
        entry("other", "x", "$0$BROKEN").replace("a.rs", "b.rs"),
    ];
    let wrong = woven("abcb", &table.concat()).expect_err("does not fit");
    let must = [
        "t.toml: break gone: find = \"z\": must occur exactly once in a.rs, not 0 times",
        "t.toml: break twice: find = \"b\": must occur exactly once in a.rs, not 2 times",
        "t.toml: break other: file = \"b.rs\": must be a file of the workspace",
    ];
    assert_eq!(wrong, must);

    let table = [
        entry("one", "abc", "($0$BROKEN)"),
        entry("cut", "cb", "($0$BROKEN)"),
    ];
    let wrong = woven("abcb", &table.concat()).expect_err("one cuts the other in two");
    let must = "t.toml: break cut: find = \"cb\": must not cross what one has found";
    assert_eq!(wrong, [must]);
}

/// A change of the sources that outdates a break says so here, at once.
#[test]
fn the_tables_of_the_workspace_fit_its_sources() {
    let workspace = Workspace::here();
    let root = workspace.root();
    let (breaks, mut wrong) = load(root).expect("tables");
    assert!(!breaks.is_empty(), "there must be a table");
    let woven = weave(&breaks, |file| {
        std::fs::read_to_string(root.join(file)).ok()
    });
    wrong.extend(woven.err().into_iter().flatten());
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let wrong = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "adapt the breaks, or take them out:\n{wrong}"
    );
}
