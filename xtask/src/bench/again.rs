//! Some figures of a document made anew: those of the loads that were measured again.

/// What a document's figures begin with, after which is said what was measured again.
const MADE: &str = "interleaved rounds of";

const AGAIN: &str = "Measured again at commit";

/// The old figures with those of `loads` from the `new` ones, which are of `commit` and have these loads
/// only. A section that has no row in the new figures stays.
pub(super) fn merged(old: &str, new: &str, loads: &[&str], commit: &str) -> String {
    let mut sections: Vec<(String, String)> = split(old);
    for (title, body) in split(new) {
        let Some((_, place)) = sections.iter_mut().find(|(known, _)| *known == title) else {
            continue;
        };
        match title.as_str() {
            "" => *place = noted(place, loads, commit),
            "Bars" => *place = bars(place, &body, loads),
            "Who is measured" => *place = body,
            _ if rows(&body).next().is_some() => {
                // The plots stand behind the last table.
                let plots = place.find("![").map_or("", |at| &place[at..]);
                *place = format!("{}{plots}", body.split("![").next().unwrap_or(&body));
            }
            _ => {}
        }
    }
    let text: Vec<String> = sections
        .into_iter()
        .map(|(title, body)| match title.as_str() {
            "" => body,
            title => format!("### {title}\n{body}"),
        })
        .collect();
    text.concat()
}

/// By title; what is before the first one has none.
fn split(text: &str) -> Vec<(String, String)> {
    let mut sections = vec![(String::new(), String::new())];
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("### ") {
            Some(title) => sections.push((title.trim_end().to_owned(), String::new())),
            None => {
                if let Some((_, body)) = sections.last_mut() {
                    body.push_str(line);
                }
            }
        }
    }
    sections
}

/// A table's rows, without its head.
fn rows(body: &str) -> impl Iterator<Item = &str> {
    let lines = body.split_inclusive('\n');
    lines.filter(|line| line.starts_with('|')).skip(2)
}

fn is_of(row: &str, loads: &[&str]) -> bool {
    let load = row.trim_start_matches("| ").split(':').next();
    load.is_some_and(|load| loads.contains(&load))
}

/// The bars, with the rows of the loads where the first of them was.
fn bars(old: &str, new: &str, loads: &[&str]) -> String {
    let mut fresh = rows(new)
        .filter(|row| is_of(row, loads))
        .collect::<String>();
    let mut text = String::new();
    for line in old.split_inclusive('\n') {
        if line.starts_with('|') && is_of(line, loads) {
            text.push_str(&std::mem::take(&mut fresh));
        } else {
            text.push_str(line);
        }
    }
    text
}

/// Says what was measured again, behind what was said of the run. What an earlier time measured of the
/// same loads is there no more.
fn noted(old: &str, loads: &[&str], commit: &str) -> String {
    let mut text = String::new();
    let mut after_note = false;
    for line in old.split_inclusive('\n') {
        let blank = std::mem::take(&mut after_note) && line.trim().is_empty();
        let Some((said, named)) = line.strip_prefix(AGAIN).and_then(|it| it.split_once(": "))
        else {
            if !blank {
                text.push_str(line);
            }
            if line.contains(MADE) {
                text.push_str(&format!("\n{AGAIN} `{commit}`: {}.\n", loads.join(", ")));
            }
            continue;
        };
        let named = named.trim_end().trim_end_matches('.').split(", ");
        let left: Vec<&str> = named.filter(|load| !loads.contains(load)).collect();
        if left.is_empty() {
            after_note = true;
        } else {
            text.push_str(&format!("{AGAIN}{said}: {}.\n", left.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "## Figures\n\n20 interleaved rounds of 250 ms each.\n\n### Bars\n\nRatios.\n\n\
                       | what | is |\n|---|---|\n| a: x | 1 |\n| b: x | 2 |\n| a: y | 3 |\n\n\
                       ### Times: A\n\n| c | d |\n|---|---|\n| ours | 1 |\n\n\
                       ### The policy by itself\n\n| what | is |\n|---|---|\n| pick | 9 |\n\n![plot](p)\n";
    const NEW: &str = "## Figures\n\n20 interleaved rounds of 250 ms each.\n\n### Bars\n\nRatios.\n\n\
                       | what | is |\n|---|---|\n| a: x | 7 |\n| a: z | 8 |\n\n\
                       ### Times: A\n\n| c | d |\n|---|---|\n| ours | 5 |\n\n\
                       ### The policy by itself\n\n| what | is |\n|---|---|\n\n";

    #[test]
    fn a_load_that_was_measured_again_takes_the_place_of_its_old_figures() {
        let merged = merged(OLD, NEW, &["a"], "abc");
        let expected = "## Figures\n\n20 interleaved rounds of 250 ms each.\n\n\
                        Measured again at commit `abc`: a.\n\n### Bars\n\nRatios.\n\n\
                        | what | is |\n|---|---|\n| a: x | 7 |\n| a: z | 8 |\n| b: x | 2 |\n\n\
                        ### Times: A\n\n| c | d |\n|---|---|\n| ours | 5 |\n\n\
                        ### The policy by itself\n\n| what | is |\n|---|---|\n| pick | 9 |\n\n![plot](p)\n";
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_load_is_said_to_be_of_the_last_commit_that_measured_it() {
        let once = noted(
            "20 interleaved rounds of 250 ms.\n\nNext.\n",
            &["a", "b"],
            "one",
        );
        let twice = noted(&once, &["b"], "two");
        let thrice = noted(&twice, &["a", "b"], "three");
        let head = "20 interleaved rounds of 250 ms.\n\n";
        let note = |text: &str| format!("{head}{text}\nNext.\n");
        assert_eq!(once, note("Measured again at commit `one`: a, b.\n"));
        let both = "Measured again at commit `two`: b.\n\nMeasured again at commit `one`: a.\n";
        assert_eq!(twice, note(both));
        assert_eq!(thrice, note("Measured again at commit `three`: a, b.\n"));
    }
}
