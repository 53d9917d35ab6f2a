//! All breaks in the sources at once, each behind its switch.

use std::collections::BTreeMap;

use super::table::{BROKEN, Break, FOUND, Wrong};

/// What switches a break on: the environment variable, set to its name.
pub const SWITCH: &str = "BALANCER_BREAK";

/// What a break puts around a text.
struct Around<'b> {
    of: &'b Break,
    find: &'b str,
    start: usize,
    /// Where what comes behind it goes. Its start, if nothing does.
    end: usize,
    /// How long the text is, whatever comes behind it.
    length: usize,
    before: String,
    after: String,
}

/// The sources with all breaks in them, by file.
///
/// A break keeps the text that it finds, so breaks may find the same text, or one a part of the other's.
///
/// # Errors
/// Everything that is wrong: a file is not there, a text does not occur in it exactly once, or is cut in
/// two by that of another break.
pub fn weave(
    breaks: &[Break],
    read: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let mut files: BTreeMap<&str, (String, Vec<Around<'_>>)> = BTreeMap::new();
    for of in breaks {
        // Asked for once: to ask allocates, and there are tests that count.
        let switched = format!(
            "({{ static ON: ::std::sync::OnceLock<bool> = ::std::sync::OnceLock::new(); \
             *ON.get_or_init(|| ::std::env::var_os({SWITCH:?}).is_some_and(|it| it == {:?})) }})",
            of.name
        );
        for place in &of.places {
            if !files.contains_key(place.file.as_str()) {
                let Some(text) = read(&place.file) else {
                    let rule = "must be a file of the workspace";
                    wrong.push(of.wrong_in("file", &place.file, rule));
                    continue;
                };
                files.insert(&place.file, (text, Vec::new()));
            }
            let Some((text, found)) = files.get_mut(place.file.as_str()) else {
                continue;
            };
            let mut at = text.match_indices(&place.find);
            let (Some((start, _)), None) = (at.next(), at.next()) else {
                let count = text.matches(&place.find).count();
                let file = &place.file;
                let rule = format!("must occur exactly once in {file}, not {count} times");
                wrong.push(of.wrong_in("find", &place.find, rule));
                continue;
            };
            let Some((before, after)) = place.replace.split_once(FOUND) else {
                let rule = format!("must have {FOUND} exactly once");
                wrong.push(of.wrong_in("replace", &place.replace, rule));
                continue;
            };
            let length = place.find.len();
            found.push(Around {
                of,
                find: &place.find,
                start,
                end: start + if after.is_empty() { 0 } else { length },
                length,
                before: before.replace(BROKEN, &switched),
                after: after.replace(BROKEN, &switched),
            });
        }
    }
    let woven = files.into_iter().map(|(file, (text, found))| {
        let woven = put(&text, found, &mut wrong);
        (file.to_owned(), woven)
    });
    let woven = woven.collect();
    match wrong.is_empty() {
        true => Ok(woven),
        false => Err(wrong),
    }
}

/// Puts the breaks of one file around what they have found: the larger outside the smaller, of two that
/// have found the same the first outside.
fn put(text: &str, mut found: Vec<Around<'_>>, wrong: &mut Vec<Wrong>) -> String {
    found.sort_by_key(|it| (it.start, std::cmp::Reverse(it.length)));
    let (mut woven, mut at) = (String::new(), 0);
    let mut open: Vec<&Around<'_>> = Vec::new();
    let mut up_to = |position: usize, what: &str| {
        woven.push_str(&text[at..position]);
        woven.push_str(what);
        at = position;
    };
    for it in &found {
        while let Some(ended) = open.pop_if(|outer| outer.end <= it.start) {
            up_to(ended.end, &ended.after);
        }
        if let Some(outer) = open.last().filter(|outer| outer.end < it.end) {
            let rule = format!("must not cross what {} has found", outer.of.name);
            wrong.push(it.of.wrong_in("find", it.find, rule));
            continue;
        }
        up_to(it.start, &it.before);
        open.push(it);
    }
    while let Some(ended) = open.pop() {
        up_to(ended.end, &ended.after);
    }
    up_to(text.len(), "");
    woven
}
