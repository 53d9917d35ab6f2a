//! JSON as a flat list of places in its text.
//!
//! A tree of values would lose what errors need (the text of a number, the order of keys, both
//! values of a key given twice) and would be taken apart by recursion. Here the text stays and each
//! value is one [`Node`] in the order of the text; a value's members follow it.

mod canonical;
mod scan;
mod string;

use std::borrow::Cow;

pub(crate) use scan::{is_number, scan};

/// A document whose form is proven: JSON, small and shallow enough, no key given twice.
pub(crate) struct Doc<'a> {
    text: &'a str,
    /// In the order of the text; the root is the first. Never empty.
    nodes: Vec<Node>,
    /// Whether the text is already what `canonical` would make of it.
    is_canonical: bool,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d> {
    doc: &'d Doc<'d>,
    index: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number,
    /// Whether it holds a backslash.
    String {
        escaped: bool,
    },
    Array,
    Object,
}

#[derive(Clone, Copy)]
struct Node {
    kind: Kind,
    /// The value's text.
    start: u32,
    end: u32,
    /// The first node that is not inside this one.
    after: u32,
    /// The text of its key, between the quotes. Empty unless it is a member of an object.
    key: Span,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
    escaped: bool,
}

// === impl Doc ===

impl Doc<'_> {
    pub(crate) fn root(&self) -> Value<'_> {
        Value {
            doc: self,
            index: 0,
        }
    }

    pub(crate) fn text(&self) -> &str {
        self.text
    }

    fn slice(&self, start: u32, end: u32) -> &str {
        &self.text[start as usize..end as usize]
    }
}

// === impl Value ===

impl<'d> Value<'d> {
    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    pub(crate) fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The text as it was written.
    pub(crate) fn raw(self) -> &'d str {
        self.doc.slice(self.node().start, self.node().end)
    }

    /// The key of a member of an object.
    pub(crate) fn key(self) -> Cow<'d, str> {
        let Span {
            start,
            end,
            escaped,
        } = self.node().key;
        string::unescape(self.doc.slice(start, end), escaped)
    }

    /// The text of a string.
    pub(crate) fn as_str(self) -> Option<Cow<'d, str>> {
        let Kind::String { escaped } = self.kind() else {
            return None;
        };
        let raw = self.raw();
        Some(string::unescape(&raw[1..raw.len() - 1], escaped))
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        match self.kind() {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A number, written as proto JSON allows: as it is or as a string. Always finite.
    pub(crate) fn as_number(self) -> Option<f64> {
        let number: f64 = match self.kind() {
            Kind::Number => self.raw().parse().ok()?,
            Kind::String { .. } => {
                let text = self.as_str()?;
                is_number(&text).then(|| text.parse().ok()).flatten()?
            }
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The elements of an array, if it is one.
    pub(crate) fn elements(self) -> Option<Members<'d>> {
        (self.kind() == Kind::Array).then(|| self.inside())
    }

    /// The members of an object, if it is one. Their keys differ.
    pub(crate) fn members(self) -> Option<Members<'d>> {
        (self.kind() == Kind::Object).then(|| self.inside())
    }

    fn inside(self) -> Members<'d> {
        Members {
            doc: self.doc,
            next: self.index + 1,
            end: self.node().after,
        }
    }

    fn node(self) -> &'d Node {
        &self.doc.nodes[self.index as usize]
    }
}

/// What is inside an array or an object, in the order of the text.
#[derive(Clone)]
pub(crate) struct Members<'d> {
    doc: &'d Doc<'d>,
    next: u32,
    end: u32,
}

// === impl Members ===

impl<'d> Iterator for Members<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        (self.next < self.end).then(|| {
            let value = Value {
                doc: self.doc,
                index: self.next,
            };
            self.next = value.node().after;
            value
        })
    }
}
