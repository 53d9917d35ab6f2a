//! Settings by environment: how deep, how many, from which seed.

use std::env;

/// How much the kit does, read from the environment.
///
/// | variable | meaning | default |
/// |---|---|---|
/// | `BALANCER_KIT_DEPTH` | events of the exhaustive exploration | 4 |
/// | `BALANCER_KIT_CASES` | random scripts | 400 |
/// | `BALANCER_KIT_LENGTH` | events of a random script, at most | 40 |
/// | `BALANCER_KIT_SEED` | first seed | 1 |
/// | `BALANCER_KIT_THREADS` | threads of the exploration | 2 |
/// | `BALANCER_KIT_SCRIPT` | runs this script only, and shows the conversation | |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Knobs {
    /// Events of the exhaustive exploration.
    pub depth: usize,
    /// Random scripts.
    pub cases: usize,
    /// Events of a random script, at most.
    pub length: usize,
    /// The first seed.
    pub seed: u64,
    /// Threads of the exploration.
    pub threads: usize,
    /// Runs this script only.
    pub script: Option<String>,
}

impl Knobs {
    /// The settings of this process.
    ///
    /// # Panics
    /// A variable is set to something that is no number.
    pub fn from_env() -> Self {
        Self {
            depth: number("BALANCER_KIT_DEPTH", 4) as usize,
            cases: number("BALANCER_KIT_CASES", 400) as usize,
            length: number("BALANCER_KIT_LENGTH", 40) as usize,
            seed: number("BALANCER_KIT_SEED", 1),
            threads: number("BALANCER_KIT_THREADS", 2).max(1) as usize,
            script: env::var("BALANCER_KIT_SCRIPT").ok(),
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, and is {text}")),
        Err(_) => default,
    }
}
