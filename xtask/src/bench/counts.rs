//! What needs no rounds: instructions and allocations, which are the same on a busy machine.

use anyhow::Result;

use super::{
    plan::{Contender, Scenario},
    rounds::Progress,
    run::{Binaries, Job, Server},
};

/// What was counted under one load.
#[derive(Debug)]
pub(super) struct Counted {
    pub scenario: &'static Scenario,
    pub rows: Vec<Row>,
    /// Who could not be counted, and why.
    pub absent: Vec<(&'static str, String)>,
}

/// Per RPC, or message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub contender: &'static Contender,
    /// `None` where callgrind was not asked, or is not there.
    pub instructions: Option<u64>,
    pub allocations: f64,
}

/// Counts everybody.
pub(super) fn run(
    binaries: &Binaries,
    scenario: &'static Scenario,
    server: &Server,
    instructions: bool,
    progress: &mut Progress,
) -> Counted {
    let mut counted = Counted {
        scenario,
        rows: Vec::new(),
        absent: Vec::new(),
    };
    for contender in scenario.contenders() {
        progress.step(&format!("{}, counting {}", scenario.name, contender.name));
        let job = Job {
            contender: contender.name,
            scenario,
            server,
        };
        match count(binaries, contender, job, instructions) {
            Ok(row) => counted.rows.push(row),
            Err(error) => counted.absent.push((contender.name, format!("{error:#}"))),
        }
    }
    counted
}

fn count(
    binaries: &Binaries,
    contender: &'static Contender,
    job: Job<'_>,
    instructions: bool,
) -> Result<Row> {
    Ok(Row {
        contender,
        instructions: instructions
            .then(|| binaries.instructions(job))
            .transpose()?,
        allocations: binaries.allocations(job)?,
    })
}

// === impl Counted ===

impl Counted {
    /// The row of that contender.
    pub(super) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender.name == name)
    }
}
