//! Scripts as values: lists of events that can be run, shrunk, stored and read.

use std::{fmt, str::FromStr};

use crate::{Event, ParseEventError};

/// A script: events in their order. Displays as text, one event per line, and is read back from it.
///
/// ```
/// use balancer_testkit::Scenario;
/// let scenario: Scenario = "update a b\n\n# a comes up\nconnecting a; ready a".parse().unwrap();
/// assert_eq!(scenario.events().len(), 3);
/// assert_eq!(scenario.to_string(), "update a b\nconnecting a\nready a");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario(Vec<Event>);

// === impl Scenario ===

impl Scenario {
    /// A script of these events.
    pub fn new(events: impl Into<Vec<Event>>) -> Self {
        Self(events.into())
    }

    /// The events.
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// The script on one line, as the replay setting takes it.
    pub fn one_line(&self) -> String {
        self.to_string().replace('\n', "; ")
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, event) in self.0.iter().enumerate() {
            write!(f, "{}{event}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl FromStr for Scenario {
    type Err = ParseEventError;

    fn from_str(text: &str) -> Result<Self, ParseEventError> {
        let lines = text.split(['\n', ';']).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Vec<Event>> for Scenario {
    fn from(events: Vec<Event>) -> Self {
        Self(events)
    }
}

impl FromIterator<Event> for Scenario {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}
