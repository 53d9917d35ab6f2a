//! Where a service config comes from: the command line, a file, or stdin.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::exit::Unusable;

/// More of a file is not read: the parser refuses far shorter ones.
const MOST: u64 = 16 << 20;

/// Reads a file, or stdin where it is `-`. What is in it may be anything.
pub(crate) fn read(file: &str) -> Result<Vec<u8>, Unusable> {
    let mut bytes = Vec::new();
    let outcome = if file == "-" {
        io::stdin().lock().take(MOST).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut bytes))
    };
    match outcome {
        Ok(_) => Ok(bytes),
        Err(error) if file == "-" => Err(Unusable::new(format!("stdin: {error}"))),
        Err(error) => Err(Unusable::new(format!("{file}: {error}"))),
    }
}

/// Reads `JSON` or `@FILE`.
pub(crate) fn read_inline(json_or_file: &str) -> Result<Vec<u8>, Unusable> {
    match json_or_file.strip_prefix('@') {
        Some(file) => read(file),
        None => Ok(json_or_file.as_bytes().to_owned()),
    }
}
