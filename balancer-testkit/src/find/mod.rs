//! Finders: how scripts that break a law are found, and made short.

mod alphabet;
mod done;
mod explore;
mod fail_over;
mod fairness;
mod liveness;
mod random;
mod rote;
mod shrink;
mod threads;
mod trial;

use std::{fmt, sync::Arc};

use balancer_api::Builder;

pub use explore::{Exploration, explore};
pub use random::{Search, search};

pub(crate) use done::done_keeps_books;
pub(crate) use fairness::fairness;
pub(crate) use liveness::answer_calls;
pub(crate) use random::guided;
pub(crate) use rote::by_rote;
pub(crate) use threads::threads_agree;
pub(crate) use trial::Trial;

use crate::{Profile, Scenario, Violation};

/// A law that was broken, the shortest script that the kit found for it, and the conversation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which law, and how it was broken.
    pub violation: Violation,
    /// The script, shrunk.
    pub script: Scenario,
    /// How many events the script had when it was found.
    pub found_with: usize,
    /// The conversation that the script leads to.
    pub conversation: String,
}

/// Runs one script, in each reconnect mode that the profile claims, under every law of the profile.
/// Events that cannot happen are passed over.
///
/// # Errors
/// A law was broken: which one, by the shortest script found.
pub fn judge(
    builder: &Arc<dyn Builder>,
    profile: &Profile,
    scenario: &Scenario,
) -> Result<(), Box<Failure>> {
    let profile = Arc::new(profile.clone());
    for setup in profile.setups() {
        let trial = Trial::new(builder.clone(), profile.clone(), setup, profile.laws);
        if let Some(violation) = trial.judge(scenario.events()) {
            return Err(Box::new(trial.failure(scenario.events(), violation)));
        }
    }
    Ok(())
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        match self.script.events().len() {
            0 => writeln!(
                f,
                "no script is needed: it happens from the start, or once the world turns good"
            )?,
            count => writeln!(f, "the shortest script found ({count} events):")?,
        }
        for event in self.script.events() {
            writeln!(f, "  {event}")?;
        }
        writeln!(
            f,
            "the conversation (-> told, <- asked, <~ asked outside of a callback):"
        )?;
        for line in self.conversation.lines() {
            writeln!(f, "  {line}")?;
        }
        if self.conversation.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "replay it with:\n  BALANCER_KIT_SCRIPT='{}' cargo test\nor keep it: `.regression(\"..\")` on the profile",
            self.script.one_line()
        )
    }
}
