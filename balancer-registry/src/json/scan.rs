//! The pre-scan: one pass over untrusted bytes that proves their form before anything is read.
//!
//! It keeps its own stack instead of recursing, so no depth of nesting can overflow the thread's,
//! and it takes time in proportion to the text: keys are compared by sorting those of an object
//! when it closes, which no choice of keys can slow down by more than a logarithm.

use std::borrow::Cow;

use balancer_api::ConfigError;

use super::{Doc, Kind, Node, Span, string};
use crate::{
    Limits,
    path::{cut, push_index, push_key},
    report::Report,
};

/// Scans `bytes`. `None` when something is wrong with them, and then `report` says what: the first
/// violation of JSON's grammar or of a limit ends the scan, keys given twice are all reported.
pub(crate) fn scan<'a>(bytes: &'a [u8], limits: &Limits, report: &mut Report) -> Option<Doc<'a>> {
    let text = match text(bytes, limits) {
        Ok(text) => text,
        Err(error) => {
            report.error_with(|| error);
            return None;
        }
    };
    let mut scanner = Scanner {
        text,
        bytes,
        at: 0,
        nodes: Vec::with_capacity(bytes.len() / 8 + 1),
        open: Vec::new(),
        keys: Vec::new(),
        max_depth: limits.depth(),
        report,
        unique: true,
        is_canonical: true,
    };
    match scanner.run() {
        Ok(()) => scanner.unique.then_some(Doc {
            text,
            nodes: scanner.nodes,
            is_canonical: scanner.is_canonical,
        }),
        Err(fault) => {
            scanner.report_fault(&fault);
            None
        }
    }
}

/// Whether `text` is a number as JSON writes it.
pub(crate) fn is_number(text: &str) -> bool {
    number_length(text.as_bytes()) == Ok(text.len()) && !text.is_empty()
}

struct Scanner<'a, 'r> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The arrays and objects that are not closed yet, outermost first.
    open: Vec<Open>,
    /// The keys so far of all open objects, one object after the other.
    keys: Vec<(Cow<'a, str>, u32)>,
    max_depth: usize,
    report: &'r mut Report,
    unique: bool,
    is_canonical: bool,
}

struct Open {
    node: u32,
    is_object: bool,
    /// How many elements or members came before the current one.
    index: usize,
    /// Where its keys start in `Scanner::keys`.
    keys: usize,
}

/// Why the scan ends.
struct Fault {
    at: usize,
    what: Cow<'static, str>,
    /// Whether the fault is within a value (whose key is then part of the path), or between values.
    within_value: bool,
    is_syntax: bool,
}

const VALUE: &str = "a value";

fn text<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, ConfigError> {
    let max = limits.bytes();
    if bytes.len() > max {
        let rule = format!("a service config may have at most {max} bytes");
        return Err(ConfigError::new("", format!("{} bytes", bytes.len()), rule));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let rule = "must be JSON: remove the byte order mark at the start";
        return Err(ConfigError::new("", "\u{feff}", rule));
    }
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let around = &bytes[at.saturating_sub(16)..bytes.len().min(at + 16)];
        let rule = format!("must be UTF-8: byte {at} is not");
        ConfigError::new("", String::from_utf8_lossy(around), rule)
    })
}

/// The length of the number at the start of `bytes`, or how far it could be read.
#[inline]
fn number_length(bytes: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    // No leading zero.
    if whole == at || (bytes[at] == b'0' && whole > at + 1) {
        return Err(at);
    }
    at = whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == at + 1 {
            return Err(fraction);
        }
        at = fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == at + 1 + sign {
            return Err(exponent);
        }
        at = exponent;
    }
    Ok(at)
}

// === impl Scanner ===

impl<'a> Scanner<'a, '_> {
    fn run(&mut self) -> Result<(), Fault> {
        self.blanks();
        let mut key = Span::default();
        loop {
            if !self.value(key)? {
                // An array or object has opened and something is in it.
                key = match self.open.last() {
                    Some(open) if open.is_object => self.key()?,
                    _ => Span::default(),
                };
                continue;
            }
            loop {
                self.blanks();
                let Some(open) = self.open.last_mut() else {
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err(self.expected("the end: something follows the value")),
                    };
                };
                let close = if open.is_object { b'}' } else { b']' };
                match self.bytes.get(self.at) {
                    Some(b',') => {
                        open.index += 1;
                        let is_object = open.is_object;
                        self.at += 1;
                        self.blanks();
                        key = if is_object {
                            self.key()?
                        } else {
                            Span::default()
                        };
                        break;
                    }
                    Some(&byte) if byte == close => {
                        self.at += 1;
                        self.close();
                    }
                    _ if close == b'}' => return Err(self.expected("`,` or `}`")),
                    _ => return Err(self.expected("`,` or `]`")),
                }
            }
        }
    }

    /// Reads a value, or the beginning of an array or object that is not empty. Says whether the
    /// value is complete.
    fn value(&mut self, key: Span) -> Result<bool, Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(open @ (b'{' | b'[')) => return self.open(open == b'{', key),
            Some(b'"') => Kind::String {
                escaped: self.string(true)?.escaped,
            },
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true", Kind::Bool(true))?,
            Some(b'f') => self.literal("false", Kind::Bool(false))?,
            Some(b'n') => self.literal("null", Kind::Null)?,
            _ => return Err(self.expected(VALUE).in_value()),
        };
        self.push(kind, start, key);
        Ok(true)
    }

    fn open(&mut self, is_object: bool, key: Span) -> Result<bool, Fault> {
        if self.open.len() >= self.max_depth {
            return Err(Fault {
                at: self.at,
                what: format!("must not nest deeper than {} levels", self.max_depth).into(),
                within_value: true,
                is_syntax: false,
            });
        }
        let node = self.nodes.len() as u32;
        let kind = if is_object { Kind::Object } else { Kind::Array };
        self.push(kind, self.at, key);
        self.at += 1;
        self.open.push(Open {
            node,
            is_object,
            index: 0,
            keys: self.keys.len(),
        });
        self.blanks();
        let close = if is_object { b'}' } else { b']' };
        let empty = self.peek() == Some(close);
        if empty {
            self.at += 1;
            self.close();
        }
        Ok(empty)
    }

    fn close(&mut self) {
        let Some(open) = self.open.pop() else {
            debug_assert!(false, "a bracket closes only what is open");
            return;
        };
        let after = self.nodes.len() as u32;
        let node = &mut self.nodes[open.node as usize];
        node.end = self.at as u32;
        node.after = after;
        if open.is_object {
            self.refuse_repeated(&open);
            self.keys.truncate(open.keys);
        }
    }

    /// Reports the keys that an object gives more than once.
    fn refuse_repeated(&mut self, open: &Open) {
        let keys = &mut self.keys[open.keys..];
        // Often in order, and then there is nothing to sort.
        if keys.is_sorted_by(|(a, _), (b, _)| a < b) {
            return;
        }
        self.is_canonical = false;
        keys.sort_unstable();
        let mut repeated: Vec<_> = keys
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0)
            .map(|pair| (pair[1].1, pair[1].0.clone()))
            .collect();
        repeated.sort_unstable();
        for (node, key) in repeated {
            self.unique = false;
            let node = self.nodes[node as usize];
            let value = &self.text[node.start as usize..node.end as usize];
            self.report.error_with(|| {
                let mut path = render(&self.open, &self.keys[..open.keys], true);
                push_key(&mut path, &key);
                ConfigError::new(cut(path), value, "a key must be given only once")
            });
        }
    }

    /// Reads the key and colon before a member.
    fn key(&mut self) -> Result<Span, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in quotes"));
        }
        let span = self.string(false)?;
        let text = &self.text[span.start as usize..span.end as usize];
        // The member will be the next node.
        let node = self.nodes.len() as u32;
        self.keys.push((string::unescape(text, span.escaped), node));
        self.blanks();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`").in_value());
        }
        self.at += 1;
        self.blanks();
        Ok(span)
    }

    fn string(&mut self, within_value: bool) -> Result<Span, Fault> {
        let fault = |at, what: &'static str| Fault {
            at,
            what: what.into(),
            within_value,
            is_syntax: true,
        };
        let start = self.at + 1;
        let mut escaped = false;
        let mut at = start;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += self.escape(at).ok_or_else(|| fault(at, "a whole escape"))?;
                }
                Some(0..0x20) => return Err(fault(at, "no control character in a string")),
                Some(_) => at += 1,
                None => return Err(fault(at, "a closing quote")),
            }
        }
        self.at = at + 1;
        self.is_canonical &= !escaped;
        Ok(Span {
            start: start as u32,
            end: at as u32,
            escaped,
        })
    }

    /// The length of the escape at `at`, if it is a right one. Half a surrogate pair is none: no
    /// string could hold it.
    fn escape(&self, at: usize) -> Option<usize> {
        let unit = |at: usize| {
            let text = self.bytes.get(at..at + 6)?;
            let hex = text.strip_prefix(b"\\u")?;
            let digits = hex.iter().all(u8::is_ascii_hexdigit);
            let hex = digits.then(|| str::from_utf8(hex).ok()).flatten()?;
            u32::from_str_radix(hex, 16).ok()
        };
        match self.bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
            b'u' => match unit(at)? {
                0xd800..0xdc00 => (0xdc00..0xe000).contains(&unit(at + 6)?).then_some(12),
                0xdc00..0xe000 => None,
                _ => Some(6),
            },
            _ => None,
        }
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let fault = |at, what: &'static str, is_syntax| Fault {
            at,
            what: what.into(),
            within_value: true,
            is_syntax,
        };
        let start = self.at;
        let length = number_length(&self.bytes[start..])
            .map_err(|read| fault(start + read, "a number", true))?;
        let text = &self.text[start..start + length];
        // Only an exponent or very many digits can leave the range of a double.
        let may_leave = length > 3 && (length > 300 || text.contains(['e', 'E']));
        if may_leave && !text.parse().is_ok_and(f64::is_finite) {
            let what = "must be a number that a double can hold";
            return Err(fault(start, what, false));
        }
        self.at += length;
        Ok(Kind::Number)
    }

    fn literal(&mut self, text: &'static str, kind: Kind) -> Result<Kind, Fault> {
        if !self.bytes[self.at..].starts_with(text.as_bytes()) {
            return Err(self.expected(VALUE).in_value());
        }
        self.at += text.len();
        Ok(kind)
    }

    fn push(&mut self, kind: Kind, start: usize, key: Span) {
        let after = self.nodes.len() as u32 + 1;
        self.nodes.push(Node {
            kind,
            start: start as u32,
            end: self.at as u32,
            after,
            key,
        });
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
            self.is_canonical = false;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected(&self, what: &'static str) -> Fault {
        Fault {
            at: self.at,
            what: what.into(),
            within_value: false,
            is_syntax: true,
        }
    }

    fn report_fault(&mut self, fault: &Fault) {
        let path = cut(render(&self.open, &self.keys, fault.within_value));
        let rest = &self.bytes[fault.at.min(self.bytes.len())..];
        let rest = String::from_utf8_lossy(&rest[..rest.len().min(300)]);
        let rule = if fault.is_syntax {
            let before = &self.bytes[..fault.at.min(self.bytes.len())];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let line_start = before
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |i| i + 1);
            let column = String::from_utf8_lossy(&before[line_start..])
                .chars()
                .count()
                + 1;
            let ends = if rest.is_empty() {
                ", where the text ends"
            } else {
                ""
            };
            let what = &fault.what;
            format!("must be JSON: expected {what} at line {line} column {column}{ends}")
        } else {
            fault.what.to_string()
        };
        self.report
            .error_with(|| ConfigError::new(path, rest, rule));
    }
}

/// The path of what is being read: of the current value, or of what it is in.
fn render(open: &[Open], keys: &[(Cow<'_, str>, u32)], with_current: bool) -> String {
    let mut path = String::new();
    for (i, frame) in open.iter().enumerate() {
        let is_last = i + 1 == open.len();
        if is_last && !with_current {
            break;
        }
        if frame.is_object {
            let keys_end = open.get(i + 1).map_or(keys.len(), |next| next.keys);
            // Its latest key is that of the value being read.
            if keys_end > frame.keys {
                push_key(&mut path, &keys[keys_end - 1].0);
            }
        } else {
            push_index(&mut path, frame.index);
        }
    }
    path
}

// === impl Fault ===

impl Fault {
    fn in_value(mut self) -> Self {
        self.within_value = true;
        self
    }
}
