//! Numbers, times and tables for people.

use std::{fmt::Write as _, time::Duration};

/// Columns of text, as wide as they need to be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Which columns are numbers, and so aligned to the right.
    numeric: &'static [usize],
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time in the unit that suits it, with three digits that matter.
pub(crate) fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    let (number, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match number {
        n if n < 10.0 && unit != "µs" => 2,
        n if n < 100.0 && unit != "µs" => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

/// `part` of `whole`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    // Almost all is not all.
    let percent = match percent {
        p if part < whole && p > 99.9 => 99.9,
        p => p,
    };
    format!("{percent:.1} %")
}

/// `1 RPC`, `2 RPCs`.
pub(crate) fn counted(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { more })
}

/// Text from elsewhere, fit for a terminal: control characters escaped, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 256;
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

// === impl Table ===

impl Table {
    pub(crate) fn new(heads: &[&str], numeric: &'static [usize]) -> Self {
        let mut table = Self {
            rows: Vec::new(),
            numeric,
        };
        table.row(heads.iter().map(|head| (*head).to_owned()));
        table
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, each indented.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if self.numeric.contains(&column) {
                    write!(line, "  {cell:>width$}")
                } else {
                    write!(line, "  {cell:<width$}")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
