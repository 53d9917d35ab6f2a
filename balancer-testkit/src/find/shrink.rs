//! Making a script short that breaks a law.

use super::Trial;
use crate::{End, Event, Law, List};

/// How many shorter scripts are tried.
const BUDGET: usize = 2_000;

/// The shortest script found that breaks the same law.
pub(super) fn shrink(trial: &Trial, events: &[Event], law: Law) -> Vec<Event> {
    let mut tries = 0;
    let mut breaks = |events: &[Event]| {
        tries += 1;
        if tries > BUDGET {
            return None;
        }
        let ran = trial.run(events);
        let same = ran.violation.is_some_and(|violation| violation.law == law);
        same.then_some(ran.applied)
    };
    // What could not happen, or came after the violation, goes first.
    let Some(mut best) = breaks(events) else {
        return events.to_vec();
    };
    loop {
        let before = best.clone();
        let mut size = (best.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < best.len() {
                let mut shorter = best.clone();
                shorter.drain(at..(at + size).min(best.len()));
                match breaks(&shorter) {
                    Some(applied) if applied.len() < best.len() => best = applied,
                    _ => at += size,
                }
            }
            if size == 1 {
                break;
            }
            size /= 2;
        }
        let mut at = 0;
        while at < best.len() {
            for simpler in simpler(&best[at]) {
                let mut tried = best.clone();
                tried[at] = simpler;
                if let Some(applied) = breaks(&tried)
                    && applied.len() <= best.len()
                {
                    best = applied;
                    break;
                }
            }
            at += 1;
        }
        if best == before {
            return best;
        }
    }
}

/// What could stand in for an event.
fn simpler(event: &Event) -> Vec<Event> {
    match event {
        Event::Update(list) => {
            let text = list.to_string();
            let names: Vec<&str> = text.split_whitespace().collect();
            // Long lists lose half of their names at a time.
            let part = if names.len() > 16 { names.len() / 2 } else { 1 };
            let without = (0..names.len()).step_by(part).map(|from| {
                let left_out = from..from + part;
                let kept = names
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| !left_out.contains(i));
                Event::Update(List::named(kept.map(|(_, name)| *name)))
            });
            without.collect()
        }
        Event::Again => Vec::new(),
        Event::Pick(end) if *end != End::Ok => vec![Event::Pick(End::Ok)],
        Event::Step(step, name, Some(_)) => vec![Event::Step(*step, name.clone(), None)],
        Event::Random(value) if *value != 0 => vec![Event::Random(0)],
        _ => Vec::new(),
    }
}
