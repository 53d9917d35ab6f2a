//! What is checked of a composite whose children are scripted.

use std::{mem, sync::PoisonError};

use balancer_api::{ConnectivityState as State, ConnectivityStateEvaluator};

use super::{Oracle, Probe, probe};
use crate::{
    Law, World,
    conn::{Due, Inner},
    profile::Aggregation,
    scripted::{Actor, Answer, Consulted, Heard},
};

/// A child as it was at the last settle.
#[derive(Clone, Copy, Default)]
pub(super) struct Kid {
    open: bool,
    state: Option<State>,
    /// It published TRANSIENT_FAILURE, and not READY since.
    failed: bool,
}

/// A child as it is now.
struct Present {
    label: String,
    number: usize,
    open: bool,
    /// Its policy was dropped and not closed.
    forsaken: bool,
    heard: Vec<Heard>,
    idle_hands: bool,
    state: Option<State>,
    publications: usize,
    /// What was told to the composite and is this child's.
    due: Vec<Heard>,
    /// What is left of it in the channel.
    left: Option<&'static str>,
}

impl Oracle {
    /// Also forgets what the run told.
    pub(super) fn check_children(&mut self, world: &World) {
        if !self.has_cast {
            return;
        }
        let told = mem::take(&mut self.run.told);
        let (present, quiet) = {
            let inner = world.shared.lock();
            if inner.cast.actors.is_empty() {
                return;
            }
            let actors = inner.cast.actors.iter();
            let present: Vec<Present> = actors.map(|actor| look_at(actor, &inner, &told)).collect();
            (present, inner.queue.is_empty())
        };
        if self.closed {
            for child in present.iter().filter(|child| child.open) {
                let label = &child.label;
                self.broke(Law::ChildrenAreClosed, || {
                    format!("the composite is closed, and its child {label} is not")
                });
            }
        } else {
            for child in &present {
                let before = self.kids.get(child.number).copied().unwrap_or_default();
                self.check_child(child, before, &told, quiet);
            }
            self.check_exit_idle(&present, &told);
            if quiet {
                self.check_state_of_children(world, &present);
                self.check_pickers_of_children(world, &present);
            }
        }
        self.kids.resize(present.len(), Kid::default());
        for child in &present {
            let kid = &mut self.kids[child.number];
            kid.open = child.open;
            kid.state = child.state;
            match child.state {
                Some(State::TransientFailure) => kid.failed = true,
                Some(State::Ready) => kid.failed = false,
                _ => {}
            }
        }
    }

    fn check_child(&mut self, child: &Present, before: Kid, told: &[Heard], quiet: bool) {
        let label = &child.label;
        if child.forsaken {
            self.broke(Law::ChildrenAreClosed, || {
                format!("the child {label} was dropped and not closed")
            });
        }
        if !child.open {
            let closed_at = child.heard.iter().position(|heard| *heard == Heard::Close);
            let late = child.heard.get(closed_at.map_or(0, |at| at + 1));
            if let Some(heard) = late {
                self.broke(Law::ChildrenAreClosed, || {
                    format!("the child {label} is closed, and was still told: {heard:?}")
                });
            }
            if let Some(left) = child.left.filter(|_| quiet) {
                self.broke(Law::ChildrenAreClosed, || {
                    format!("the child {label} is closed, and {left} of it is left")
                });
            }
            return;
        }
        if !before.open {
            return;
        }
        if told.contains(&Heard::Error) && !child.heard.contains(&Heard::Error) {
            self.broke(Law::ErrorsReachChildren, || {
                format!("the resolver failed, and the child {label} does not hear of it")
            });
        }
        let own = child
            .heard
            .iter()
            .filter(|heard| matches!(heard, Heard::State(..) | Heard::Timer(_) | Heard::Call(_)));
        let own: Vec<Heard> = own.copied().collect();
        if own != child.due {
            let due = &child.due;
            self.broke(Law::NewsReachTheirChild, || {
                format!("the child {label} should hear {due:?} of its own, and hears {own:?}")
            });
        }
        let settled = child.heard.last().is_none_or(|last| *last == Heard::Settle);
        if !settled || (child.idle_hands && quiet) {
            self.broke(Law::ChildrenAreSettled, || {
                format!("the child {label} was told something or woke, and was not settled")
            });
        }
    }

    fn check_exit_idle(&mut self, present: &[Present], told: &[Heard]) {
        if !told.contains(&Heard::ExitIdle) {
            return;
        }
        let waiting = present.iter().filter(|child| {
            let before = self.kids.get(child.number).copied().unwrap_or_default();
            child.open && before.open && before.state == Some(State::Idle)
        });
        let deaf = |child: &&Present| !child.heard.contains(&Heard::ExitIdle);
        let (all, count) = (
            waiting.clone().find(deaf),
            waiting.clone().filter(deaf).count(),
        );
        if let Some(child) = all
            && (!self.profile.selective || count == waiting.count())
        {
            let label = child.label.clone();
            self.broke(Law::ExitIdleReachesChildren, || {
                format!(
                    "the application asks to connect, the child {label} is IDLE and is not told"
                )
            });
        }
    }

    fn check_state_of_children(&mut self, world: &World, present: &[Present]) {
        let Some(state) = world.state() else {
            return;
        };
        let mut plain = ConnectivityStateEvaluator::new();
        let mut sticky = ConnectivityStateEvaluator::new();
        let mut last = None;
        for child in present.iter().filter(|child| child.open) {
            let kid = self.kids.get(child.number).copied().unwrap_or_default();
            let own = child.state.unwrap_or(State::Connecting);
            plain.record_transition(None, own);
            let failed = kid.failed && own != State::Ready;
            sticky.record_transition(None, if failed { State::TransientFailure } else { own });
            last = Some(child.state);
        }
        let fine = match (self.profile.aggregation, last) {
            (Aggregation::Free, _) | (_, None) => true,
            (Aggregation::Same, Some(of_child)) => {
                of_child.is_none_or(|of_child| of_child == state)
            }
            (Aggregation::Usual, Some(_)) => [plain.current(), sticky.current()].contains(&state),
        };
        if !fine {
            let states: Vec<String> = present
                .iter()
                .filter(|child| child.open)
                .map(|child| {
                    let state = child.state.map_or("nothing", State::as_str);
                    format!("{}: {state}", child.label)
                })
                .collect();
            self.broke(Law::StateOfChildren, || {
                format!(
                    "{state} is published, and of the children {}",
                    states.join(", ")
                )
            });
        }
    }

    fn check_pickers_of_children(&mut self, world: &World, present: &[Present]) {
        let (Some(picker), Some(state)) = (world.picker(), world.state()) else {
            return;
        };
        if self.profile.lazy && state == State::Idle {
            return;
        }
        let consults = world.shared.lock().cast.consulted.clone();
        let taken = || -> Vec<Consulted> {
            mem::take(&mut *consults.lock().unwrap_or_else(PoisonError::into_inner))
        };
        taken();
        for _ in 0..2 + 2 * present.len() {
            let outcome = probe(&world.shared, &*picker);
            let consulted = taken();
            for one in &consulted {
                let Some(child) = present.get(one.child) else {
                    continue;
                };
                let label = &child.label;
                if !child.open {
                    self.broke(Law::ClosedChildIsUnused, || {
                        format!("a pick asked the picker of the child {label}, which is closed")
                    });
                } else if one.publication != child.publications {
                    let (old, new) = (one.publication, child.publications);
                    self.broke(Law::ChildPickerIsCurrent, || {
                        format!("a pick asked picker {old} of the child {label}, which has published {new}")
                    });
                }
            }
            if self.profile.aggregation != Aggregation::Same
                || present
                    .iter()
                    .all(|child| !child.open || child.publications == 0)
            {
                continue;
            }
            let same = match &consulted[..] {
                [one] => match (&one.answer, &outcome) {
                    (Answer::Sub(id), Probe::Sub(picked)) => *id == Some(*picked),
                    (Answer::Queue, Probe::Queue) => true,
                    (Answer::Fail(text), Probe::Fail(shown)) => shown.as_ref() == Some(text),
                    _ => false,
                },
                _ => false,
            };
            if !same {
                self.broke(Law::ChildPickerIsUnaltered, || {
                    format!("a pick asked {consulted:?}, and says {outcome:?}")
                });
            }
        }
    }
}

fn look_at(actor: &Actor, inner: &Inner, told: &[Heard]) -> Present {
    let mut own = actor.lock();
    let due = told.iter().filter(|heard| match heard {
        Heard::State(Some(id), _) => own.made.contains(id),
        Heard::Timer(id) => own.timers.contains(id),
        Heard::Call(id) => own.calls.contains(id),
        _ => false,
    });
    let due = due.copied().collect();
    let left = if inner.live.iter().any(|id| own.made.contains(id)) {
        Some("a SubConn")
    } else if inner.due.iter().any(|(_, due)| match due {
        Due::Timer(id) => own.timers.contains(id),
        Due::Deadline(_) => false,
    }) {
        Some("a timer")
    } else if inner.calls.iter().any(|call| own.calls.contains(&call.id)) {
        Some("a call")
    } else {
        None
    };
    Present {
        label: actor.label.to_string(),
        number: actor.number,
        open: !own.closed,
        forsaken: !own.closed && own.is_gone(),
        heard: mem::take(&mut own.heard),
        idle_hands: !own.todo.is_empty(),
        state: own.state,
        publications: own.publications,
        due,
        left,
    }
}
