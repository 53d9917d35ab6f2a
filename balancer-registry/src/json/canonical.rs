//! One text for equal JSON: no blanks, keys in order, no escape that is not needed.

use std::borrow::Cow;

use super::{Kind, Value, string::write_escaped};

impl<'d> Value<'d> {
    /// The value as policies get it. Equal JSON gives equal text, whatever blanks, order of keys and
    /// escapes it was written with; numbers stay as written.
    pub(crate) fn canonical(self) -> Cow<'d, str> {
        if self.doc.is_canonical {
            return Cow::Borrowed(self.raw());
        }
        let mut out = String::with_capacity(self.raw().len());
        self.write(&mut out);
        Cow::Owned(out)
    }

    // Recursion is fine here: the scan has bounded the depth.
    fn write(self, out: &mut String) {
        match self.kind() {
            Kind::Null | Kind::Bool(_) | Kind::Number => out.push_str(self.raw()),
            Kind::String { escaped: false } => out.push_str(self.raw()),
            Kind::String { escaped: true } => {
                write_escaped(out, &self.as_str().unwrap_or_default());
            }
            Kind::Array => {
                out.push('[');
                for (i, element) in self.inside().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    element.write(out);
                }
                out.push(']');
            }
            Kind::Object => {
                let mut members: Vec<_> = self.inside().map(|m| (m.key(), m)).collect();
                members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                out.push('{');
                for (i, (key, member)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_escaped(out, key);
                    out.push(':');
                    member.write(out);
                }
                out.push('}');
            }
        }
    }
}
