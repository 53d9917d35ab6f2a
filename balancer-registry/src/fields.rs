//! Reads the fields of an object, and reports what breaks their rules.

use std::{borrow::Cow, ops::RangeInclusive, time::Duration};

use balancer_api::parse_duration;

use crate::{
    Registry,
    json::Value,
    path::{Path, shown},
    report::Report,
    shape::Shape,
};

/// The known fields of one object. A field that is `null` counts as absent, as in proto JSON.
pub(crate) struct Fields<'d, 'p> {
    path: &'p Path<'p>,
    shape: &'static Shape,
    values: Vec<Option<Value<'d>>>,
}

/// What an unknown key of an object means.
pub(crate) enum Unknown<'r> {
    /// It is ignored, with a warning that uses the registry to guess what was meant.
    Warn(&'r Registry),
    /// It makes the document invalid.
    Refuse,
}

// === impl Fields ===

impl<'d, 'p> Fields<'d, 'p> {
    /// Reads `value`, which must be an object.
    pub(crate) fn read(
        value: Value<'d>,
        path: &'p Path<'p>,
        shape: &'static Shape,
        unknown: &Unknown<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let Some(members) = value.members() else {
            report.error(path, value.raw(), "must be an object");
            return None;
        };
        let mut values = vec![None; shape.fields.len()];
        for member in members {
            let key = member.key();
            if let Some(i) = shape.position(&key) {
                values[i] = (!member.is_null()).then_some(member);
                continue;
            }
            let path = Path::Key(path, &key);
            match unknown {
                Unknown::Warn(registry) => report.warn(&path, || {
                    shape.unknown(&key, |name| registry.get(name).is_some())
                }),
                Unknown::Refuse => {
                    let known = shape.fields.join(", ");
                    let rule = format!("unknown field; known here are {known}");
                    report.error(&path, member.raw(), rule);
                }
            }
        }
        Some(Self {
            path,
            shape,
            values,
        })
    }

    pub(crate) fn value(&self, name: &'static str) -> Option<Value<'d>> {
        let position = self.shape.position(name);
        debug_assert!(position.is_some(), "a shape lists every field that is read");
        self.values[position?]
    }

    /// Reports a field that must be there and is not.
    pub(crate) fn require(&self, name: &'static str, report: &mut Report) {
        if self.value(name).is_none() {
            self.error(name, "", "is required", report);
        }
    }

    /// Reports what is wrong with a field.
    pub(crate) fn error(
        &self,
        name: &'static str,
        value: &str,
        rule: impl Into<String>,
        report: &mut Report,
    ) {
        report.error(&Path::Key(self.path, name), value, rule);
    }

    pub(crate) fn warn(
        &self,
        name: &'static str,
        report: &mut Report,
        message: impl FnOnce() -> String,
    ) {
        report.warn(&Path::Key(self.path, name), message);
    }

    pub(crate) fn bool(&self, name: &'static str, report: &mut Report) -> Option<bool> {
        self.get(name, report, "must be true or false", Value::as_bool)
    }

    pub(crate) fn string(&self, name: &'static str, report: &mut Report) -> Option<Cow<'d, str>> {
        self.get(name, report, "must be a string", Value::as_str)
    }

    /// A whole number in `range`, written `2`, `2.0` or `"2"`.
    pub(crate) fn u32(
        &self,
        name: &'static str,
        range: RangeInclusive<u32>,
        report: &mut Report,
    ) -> Option<u32> {
        let value = self.value(name)?;
        let number = whole(value).filter(|n| range.contains(n));
        if number.is_none() {
            let (min, max) = range.into_inner();
            let rule = format!("must be a whole number from {min} to {max}");
            self.error(name, value.raw(), rule, report);
        }
        number
    }

    /// A number greater than 0.
    pub(crate) fn positive(&self, name: &'static str, report: &mut Report) -> Option<f64> {
        let rule = "must be a number greater than 0";
        self.get(name, report, rule, |value| {
            value.as_number().filter(|n| *n > 0.0)
        })
    }

    /// Seconds with an `s`, not negative.
    pub(crate) fn duration(&self, name: &'static str, report: &mut Report) -> Option<Duration> {
        let rule = "must be a duration such as \"1.5s\", not negative";
        self.get(name, report, rule, |value| parse_duration(&value.as_str()?))
    }

    /// A duration longer than nothing.
    pub(crate) fn positive_duration(
        &self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<Duration> {
        let rule = "must be a duration such as \"1.5s\", longer than 0s";
        self.get(name, report, rule, |value| {
            parse_duration(&value.as_str()?).filter(|d| !d.is_zero())
        })
    }

    pub(crate) fn list(
        &self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<impl Iterator<Item = Value<'d>> + Clone + use<'d>> {
        self.get(name, report, "must be a list", Value::elements)
    }

    /// Strings; what else is in the list is reported and left out.
    pub(crate) fn strings(
        &self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<Vec<Cow<'d, str>>> {
        let list = self.list(name, report)?;
        let path = Path::Key(self.path, name);
        let mut strings = Vec::new();
        for (i, element) in list.enumerate() {
            match element.as_str() {
                Some(text) => strings.push(text),
                None => report.error(&Path::Index(&path, i), element.raw(), "must be a string"),
            }
        }
        Some(strings)
    }

    fn get<T>(
        &self,
        name: &'static str,
        report: &mut Report,
        rule: &str,
        read: impl FnOnce(Value<'d>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = read(value);
        if read.is_none() {
            self.error(name, value.raw(), rule, report);
        }
        read
    }
}

/// A whole number of 32 bits.
pub(crate) fn whole(value: Value<'_>) -> Option<u32> {
    let number = value.as_number()?;
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    fits.then_some(number as u32)
}

/// Names for a message: shown safely, and not too many.
pub(crate) fn name_list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    const MOST: usize = 16;
    let mut text = String::new();
    let mut more = 0;
    for (i, name) in names.into_iter().enumerate() {
        if i >= MOST {
            more += 1;
            continue;
        }
        if i > 0 {
            text.push_str(", ");
        }
        let name: String = name.as_ref().chars().take(64).collect();
        text.push_str(&shown(&name));
    }
    match (text.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => text,
        (false, more) => format!("{text} and {more} more"),
    }
}
