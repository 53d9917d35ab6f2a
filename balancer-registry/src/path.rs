//! Where in a document something stands, written out only when somebody wants to read it.

use std::fmt::Write;

use balancer_api::ConfigError;

/// A place, as a chain to the root that lives on the stack: a document without errors pays nothing.
#[derive(Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

/// Paths hold keys of the document, so they are cut like any text of strangers.
const MAX_CHARS: usize = 256;

/// Untrusted text as it may be shown: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    ConfigError::new("", text, "").value().to_owned()
}

/// Cuts a text that is escaped already.
pub(crate) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        let keep = text[..end].char_indices().next_back().map_or(0, |(i, _)| i);
        text.truncate(keep);
        text.push('…');
    }
    text
}

/// Adds a key to a path.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shown(key));
}

/// Adds an index to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

// === impl Path ===

impl Path<'_> {
    pub(crate) fn render(&self) -> String {
        let mut path = String::new();
        self.render_into(&mut path);
        cut(path)
    }

    // As deep as the typed parts of a service config, not as the document.
    fn render_into(&self, path: &mut String) {
        match self {
            Self::Root => {}
            Self::Key(outer, key) => {
                outer.render_into(path);
                push_key(path, key);
            }
            Self::Index(outer, index) => {
                outer.render_into(path);
                push_index(path, *index);
            }
        }
    }
}
