//! Service configs of an attacker: each as large as is let through, and slow to read for a parser
//! that does something twice.

/// The size limit.
pub(crate) const SIZE: usize = 64 << 10;

/// What is tried, with a name for each.
pub(crate) fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let in_list = |text: String| format!(r#"{{"loadBalancingConfig":[{text}]}}"#);
    let in_methods = |text: String| format!(r#"{{"methodConfig":[{text}]}}"#);
    let in_names = |text: String| in_methods(format!(r#"{{"name":[{text}]}}"#));
    let in_codes = |text: String| {
        in_methods(format!(
            r#"{{"name":[{{}}],"retryPolicy":{{"retryableStatusCodes":[{text}]}}}}"#
        ))
    };
    let room = SIZE - 200;
    let many = |item: &dyn Fn(usize) -> String| repeat(item, room);
    let one_escape = "\\u0061";
    let texts: Vec<(&'static str, String)> = vec![
        ("lists in lists", "[".repeat(SIZE)),
        ("objects in objects", r#"{"a":"#.repeat(SIZE / 5)),
        ("lists and objects in turn", r#"[{"a":"#.repeat(SIZE / 6)),
        ("an empty list 64 deep, again and again", {
            let deep = format!("{}{}", "[".repeat(62), "]".repeat(62));
            format!("{{\"x\":[{}]}}", many(&|_| deep.clone()))
        }),
        ("one blank after the other", " ".repeat(SIZE)),
        ("lines", "\n".repeat(SIZE)),
        ("no value", "x".repeat(SIZE)),
        ("control characters", "\u{1}".repeat(SIZE)),
        ("an endless string", format!("{{\"{}", "a".repeat(room))),
        (
            "an endless key of escapes",
            format!("{{\"{}", one_escape.repeat(room / 6)),
        ),
        (
            "one long string",
            format!("{{\"x\":\"{}\"}}", "é".repeat(room / 2)),
        ),
        ("a long string of escapes", {
            in_list(format!(
                r#"{{"least_request":{{"x":"{}"}}}}"#,
                "\\u0001".repeat(room / 6)
            ))
        }),
        ("one long number", format!("{{\"x\":{}}}", "9".repeat(room))),
        (
            "one long fraction",
            format!("{{\"x\":0.{}e-300}}", "9".repeat(room)),
        ),
        (
            "one long exponent",
            format!("{{\"x\":1e-{}}}", "9".repeat(room)),
        ),
        ("a long number as a string", {
            in_methods(format!(
                r#"{{"maxRequestMessageBytes":"{}"}}"#,
                "9".repeat(room)
            ))
        }),
        (
            "numbers with exponents",
            format!("[{}]", many(&|_| "1.7e308".into())),
        ),
        (
            "tiny keys",
            format!("{{{}}}", many(&|i| format!("\"{i:x}\":0"))),
        ),
        (
            "the same key",
            format!("{{{}}}", many(&|_| "\"a\":0".into())),
        ),
        (
            "the same keys, mixed",
            format!("{{{}}}", many(&|i| format!("\"{}\":0", i * 7919 % 64))),
        ),
        (
            "keys in falling order",
            format!("{{{}}}", many(&|i| format!("\"{:05}\":0", 99_999 - i))),
        ),
        ("keys that differ at their end", {
            let stem = "x".repeat(250);
            format!("{{{}}}", many(&|i| format!("\"{stem}{i}\":0")))
        }),
        (
            "escaped keys",
            format!("{{{}}}", many(&|i| format!("\"{one_escape}{i}\":0"))),
        ),
        ("the same key, 60 deep", {
            let inside = repeat(&|_| "\"a\":0".into(), room - 400);
            format!("{}{{{inside}}}{}", r#"{"b":"#.repeat(60), "}".repeat(60))
        }),
        (
            "objects with a key twice",
            format!("[{}]", many(&|_| r#"{"a":0,"a":0}"#.into())),
        ),
        (
            "near misses",
            format!("{{{}}}", many(&|i| format!("\"metodConfig{i}\":0"))),
        ),
        ("long unknown keys", {
            let stem = "\u{7f}".repeat(1000);
            format!("{{{}}}", many(&|i| format!("\"{stem}{i}\":0")))
        }),
        (
            "unknown policies",
            in_list(many(&|i| format!("{{\"p{i}\":0}}"))),
        ),
        ("policies after the chosen one", {
            in_list(format!(
                r#"{{"round_robin":{{}}}},{}"#,
                many(&|i| format!("{{\"p{i}\":0}}"))
            ))
        }),
        (
            "a list of numbers for policies",
            in_list(format!("{{\"round_robin\":0}},{}", many(&|_| "0".into()))),
        ),
        ("unknown fields of a policy", {
            in_list(format!(
                "{{\"least_request\":{{{}}}}}",
                many(&|i| format!("\"{i:x}\":0"))
            ))
        }),
        ("policies in policies, with unknown fields inside", {
            let inside = repeat(&|i| format!("\"{i:x}\":0"), room - 15 * 40);
            in_list(nested(
                15,
                &format!("{{\"least_request\":{{{inside}}}}}"),
                "",
            ))
        }),
        ("policies in policies, with a long list inside", {
            let inside = repeat(&|_| "0".into(), room - 15 * 40);
            in_list(nested(
                15,
                &format!("{{\"least_request\":{{\"x\":[{inside}]}}}}"),
                "",
            ))
        }),
        ("policies in policies, with unknown fields beside", {
            let beside = repeat(&|i| format!("\"{i:x}\":0"), room / 15 - 60);
            in_list(nested(15, r#"{"round_robin":{}}"#, &format!("{beside},")))
        }),
        ("policies in policies, one too deep", {
            let inside = repeat(&|_| "0".into(), room - 40 * 15);
            in_list(nested(
                16,
                &format!("{{\"x\":{{}}}},{{\"y\":[{inside}]}}"),
                "",
            ))
        }),
        (
            "method names",
            in_names(many(&|i| format!("{{\"service\":\"{i:x}\"}}"))),
        ),
        (
            "the same method name",
            in_names(many(&|_| "{\"service\":\"a\"}".into())),
        ),
        ("empty method names", in_names(many(&|_| "{}".into()))),
        (
            "methods without services",
            in_names(many(&|_| "{\"method\":\"a\"}".into())),
        ),
        ("names that are none", in_names(many(&|_| "0".into()))),
        ("method configs", in_methods(many(&|_| "{}".into()))),
        (
            "method configs that are none",
            in_methods(many(&|_| "[]".into())),
        ),
        (
            "bad time-outs",
            in_methods(many(&|_| "{\"timeout\":0}".into())),
        ),
        ("status codes", in_codes(many(&|i| (i % 17).to_string()))),
        ("bad status codes", in_codes(many(&|_| "\"x\"".into()))),
    ];
    let mut corpus: Vec<_> = texts
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect();
    let not_utf8 = |at: usize| {
        let mut bytes = vec![b' '; SIZE];
        bytes[at] = 0xff;
        bytes
    };
    corpus.extend([
        ("ten megabytes", vec![b'['; 10 << 20]),
        ("no UTF-8", vec![0x80; SIZE]),
        ("no UTF-8 at the end", not_utf8(SIZE - 1)),
        (
            "UTF-16",
            "{}".repeat(SIZE / 4).bytes().flat_map(|b| [b, 0]).collect(),
        ),
        ("nothing but zeros", vec![0; SIZE]),
        ("byte order marks", "\u{feff}".repeat(SIZE / 3).into_bytes()),
    ]);
    corpus
}

/// Items with commas between them, up to `size` bytes.
fn repeat(item: &dyn Fn(usize) -> String, size: usize) -> String {
    let mut text = String::new();
    for i in 0.. {
        let item = item(i);
        if text.len() + item.len() + 1 > size {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    text
}

/// `depth` policies around `inside`, each with `beside` before its child.
fn nested(depth: usize, inside: &str, beside: &str) -> String {
    let open = format!("{{\"nest\":{{{beside}\"childPolicy\":[");
    format!("{}{inside}{}", open.repeat(depth), "]}}".repeat(depth))
}
