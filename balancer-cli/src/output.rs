//! Where text goes: answers to stdout, all else to stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::Unusable;

/// Writes an answer to stdout.
///
/// # Errors
/// It cannot be written. A reader that has gone away (`| head`) is no error: it has read enough.
pub(crate) fn answer(text: &str) -> Result<(), Unusable> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Unusable::new(format!(
            "the answer cannot be written: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Writes an answer as one JSON object on one line.
///
/// # Errors
/// As [`answer`].
pub(crate) fn answer_json(answer: &impl Serialize) -> Result<(), Unusable> {
    let mut json = serde_json::to_string(answer).map_err(Unusable::new)?;
    json.push('\n');
    self::answer(&json)
}

/// Writes a line to stderr; if nobody can read it, nobody can be told so either.
pub(crate) fn say(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}

/// Rewrites the last line of a terminal on stderr; an empty one wipes it.
pub(crate) fn say_over(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[2K{line}");
    let _ = stderr.flush();
}

/// Whether somebody watches stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
