//! Policy configuration: parsed once, shared afterwards, and children by name.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::{Value, value::RawValue};

use crate::{Builder, ConfigError};

/// How deep policies may contain policies in a service config.
pub const MAX_POLICY_DEPTH: usize = 16;

/// A policy's configuration, parsed and validated, with the JSON it was made from.
///
/// Cheap to clone. A registry gives the same `LbConfig` for the same JSON, so
/// [`is_same`](Self::is_same) tells whether anything changed.
///
/// ```
/// use balancer_api::LbConfig;
/// #[derive(Debug)]
/// struct MyConfig { choice_count: u32 }
/// let config = LbConfig::new(r#"{"choiceCount":2}"#, MyConfig { choice_count: 2 });
/// assert_eq!(config.downcast_ref::<MyConfig>().map(|c| c.choice_count), Some(2));
/// assert!(config.downcast_ref::<String>().is_none());
/// ```
#[derive(Clone)]
pub struct LbConfig(Arc<LbConfigInner>);

struct LbConfigInner {
    json: Box<str>,
    value: Box<dyn ConfigValue>,
}

trait ConfigValue: Any + fmt::Debug + Send + Sync {}
impl<T: Any + fmt::Debug + Send + Sync> ConfigValue for T {}

/// A child policy as a composite's configuration names it: which builder, with which configuration.
/// [`Child::build`](crate::Child::build) makes the child.
#[derive(Clone)]
pub struct ChildConfig {
    builder: Arc<dyn Builder>,
    config: Option<LbConfig>,
}

/// Finds the builder and parses the configuration of child policies. A registry implements it; so
/// does the kit, for scripted children.
pub trait ChildResolver {
    /// Resolves a list such as `[{"round_robin":{}}]`: the first policy that is known decides.
    ///
    /// # Errors
    /// No known policy in the list, or the chosen policy's configuration is invalid. Paths are
    /// relative to the list.
    fn resolve_child(
        &self,
        list_json: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError>;
}

/// Knows no policy: for parsing policies that have no children.
///
/// ```
/// use balancer_api::{NoChildren, ParseContext};
/// let mut cx = ParseContext::new(&NoChildren, 0);
/// assert!(cx.child_policy("childPolicy", r#"[{"round_robin":{}}]"#).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoChildren;

/// What [`Builder::parse_config`] may use beside the JSON: child policies, and a place for
/// warnings.
///
/// ```
/// use balancer_api::{NoChildren, ParseContext};
/// let mut cx = ParseContext::new(&NoChildren, 0);
/// cx.warn("shufleAddressList", "unknown field; did you mean shuffleAddressList?");
/// assert_eq!(cx.warnings()[0].path(), "shufleAddressList");
/// ```
pub struct ParseContext<'a> {
    children: &'a dyn ChildResolver,
    depth: usize,
    warnings: Vec<ConfigWarning>,
}

/// Something in a config that is accepted but probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning {
    path: String,
    message: String,
}

/// Reads the fields of a policy's JSON object and says what is wrong with them.
///
/// Each reader answers `None` for a field that is absent or `null`. [`finish`](Self::finish) warns
/// of fields that nobody asked for.
///
/// ```
/// use balancer_api::{ConfigError, ConfigFields, LbConfig, NoChildren, ParseContext};
///
/// #[derive(Debug, PartialEq)]
/// struct Config { choice_count: u32 }
///
/// fn parse(json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
///     let mut fields = ConfigFields::parse(json)?;
///     let choice_count = fields.u32("choiceCount", 2..=u32::MAX)?.unwrap_or(2).min(10);
///     fields.finish(cx);
///     Ok(LbConfig::new(json, Config { choice_count }))
/// }
///
/// let mut cx = ParseContext::new(&NoChildren, 0);
/// let config = parse(r#"{"choiceCount":99}"#, &mut cx).unwrap();
/// assert_eq!(config.downcast_ref(), Some(&Config { choice_count: 10 }));
/// let error = parse(r#"{"choiceCount":1}"#, &mut cx).unwrap_err();
/// assert_eq!(error.to_string(), "choiceCount: 1: must be a whole number of at least 2");
/// ```
#[derive(Debug)]
pub struct ConfigFields {
    /// Only what is asked for is taken apart: a composite hands most of its text on to children,
    /// and sixteen policies inside each other must not cost sixteen trees of it all.
    fields: BTreeMap<String, Box<RawValue>>,
    asked: Vec<&'static str>,
}

// === impl LbConfig ===

impl LbConfig {
    /// Keeps `value` with the JSON that it was parsed from.
    pub fn new<T>(json: impl Into<Box<str>>, value: T) -> Self
    where
        T: Any + fmt::Debug + Send + Sync,
    {
        Self(Arc::new(LbConfigInner {
            json: json.into(),
            value: Box::new(value),
        }))
    }

    /// The value, if it is a `T`. `None` in a balancer means that somebody else's configuration
    /// was handed to it: answer [`Rejected`](crate::Rejected).
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.0.value;
        any.downcast_ref()
    }

    /// The JSON that it was parsed from.
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// Whether both are clones of one value.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for LbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

// === impl ChildConfig ===

impl ChildConfig {
    /// A child made by `builder` with `config`.
    pub fn new(builder: Arc<dyn Builder>, config: Option<LbConfig>) -> Self {
        Self { builder, config }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        self.builder.name()
    }

    /// Who makes it.
    pub fn builder(&self) -> &Arc<dyn Builder> {
        &self.builder
    }

    /// The configuration to hand to the child with each resolver result.
    pub fn config(&self) -> Option<&LbConfig> {
        self.config.as_ref()
    }
}

impl fmt::Debug for ChildConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildConfig")
            .field("name", &self.name())
            .field("config", &self.config)
            .finish()
    }
}

// === impl NoChildren ===

impl ChildResolver for NoChildren {
    fn resolve_child(
        &self,
        list_json: &str,
        _: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        Err(ConfigError::new("", list_json, "no policy is known here"))
    }
}

// === impl ParseContext ===

impl<'a> ParseContext<'a> {
    /// A context at `depth` (0 for the top policy) whose children come from `children`.
    pub fn new(children: &'a dyn ChildResolver, depth: usize) -> Self {
        Self {
            children,
            depth,
            warnings: Vec::new(),
        }
    }

    /// How many policies this one is inside of.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Resolves the child policy list found in `field`.
    ///
    /// # Errors
    /// As [`ChildResolver::resolve_child`], with `field` in the path; and when policies nest deeper
    /// than [`MAX_POLICY_DEPTH`].
    pub fn child_policy(&mut self, field: &str, json: &str) -> Result<ChildConfig, ConfigError> {
        let depth = self.depth + 1;
        if depth >= MAX_POLICY_DEPTH {
            let rule = format!("policies may not nest deeper than {MAX_POLICY_DEPTH}");
            return Err(ConfigError::new(field, json, rule));
        }
        let mut cx = ParseContext::new(self.children, depth);
        let child = self.children.resolve_child(json, &mut cx);
        self.warnings
            .extend(cx.warnings.into_iter().map(|warning| warning.within(field)));
        child.map_err(|error| error.within(field))
    }

    /// Says that `field` is accepted but probably not meant.
    pub fn warn(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(ConfigWarning {
            path: field.into(),
            message: message.into(),
        });
    }

    /// What was warned of so far.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// Takes the warnings out.
    pub fn take_warnings(&mut self) -> Vec<ConfigWarning> {
        std::mem::take(&mut self.warnings)
    }
}

impl fmt::Debug for ParseContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParseContext")
            .field("depth", &self.depth)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

// === impl ConfigWarning ===

impl ConfigWarning {
    /// A warning about what stands at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// Where.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is odd about it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same warning, seen from the outside: `outer` is put before the path.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.path = ConfigError::new(self.path, "", "")
            .within(outer)
            .path()
            .to_owned();
        self
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

// === impl ConfigFields ===

impl ConfigFields {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// The text is no JSON, or no object.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        match serde_json::from_str(json) {
            Ok(fields) => Ok(Self {
                fields,
                asked: Vec::new(),
            }),
            Err(error) if error.is_data() => Err(ConfigError::new("", json, "must be an object")),
            Err(error) => Err(ConfigError::new("", json, format!("must be JSON: {error}"))),
        }
    }

    /// A `true` or `false`.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn bool(&mut self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(name, "must be true or false", Value::as_bool)
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn u32(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let rule = match (*range.start(), *range.end()) {
            (0, u32::MAX) => "must be a whole number from 0".to_owned(),
            (start, u32::MAX) => format!("must be a whole number of at least {start}"),
            (start, end) => format!("must be a whole number from {start} to {end}"),
        };
        self.read(name, &rule, |value| {
            // Proto JSON lets a number be written 2, 2.0 or "2".
            let number = match value {
                Value::String(text) => text.parse().ok()?,
                _ => value.as_f64()?,
            };
            let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
            let n = if whole { number as u32 } else { return None };
            range.contains(&n).then_some(n)
        })
    }

    /// A finite number that `accept` accepts.
    ///
    /// # Errors
    /// The field holds something else; `rule` says what it must be.
    pub fn f64(
        &mut self,
        name: &'static str,
        rule: &str,
        accept: impl FnOnce(f64) -> bool,
    ) -> Result<Option<f64>, ConfigError> {
        self.read(name, rule, |value| {
            let number = match value {
                Value::String(text) => text.parse().ok()?,
                _ => value.as_f64()?,
            };
            (f64::is_finite(number) && accept(number)).then_some(number)
        })
    }

    /// A text.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn string(&mut self, name: &'static str) -> Result<Option<String>, ConfigError> {
        self.read(name, "must be a string", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn strings(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
        self.read(name, "must be a list of strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        })
    }

    /// A duration as proto JSON writes it: seconds with up to nine decimals and an `s`, as in
    /// `"1.5s"`; not negative.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, ConfigError> {
        self.read(
            name,
            "must be a duration such as \"1.5s\", not negative",
            |value| parse_duration(value.as_str()?),
        )
    }

    /// A child policy: a list such as `[{"round_robin":{}}]`.
    ///
    /// # Errors
    /// As [`ParseContext::child_policy`].
    pub fn child_policy(
        &mut self,
        name: &'static str,
        cx: &mut ParseContext<'_>,
    ) -> Result<Option<ChildConfig>, ConfigError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => cx.child_policy(name, value.get()).map(Some),
        }
    }

    /// For a field that must be there: what its reader found, or an error that names it.
    ///
    /// ```
    /// use balancer_api::ConfigFields;
    /// let mut fields = ConfigFields::parse("{}").unwrap();
    /// let size = fields.u32("subsetSize", 1..=u32::MAX).unwrap();
    /// let error = ConfigFields::required("subsetSize", size).unwrap_err();
    /// assert_eq!(error.to_string(), "subsetSize: is required");
    /// ```
    ///
    /// # Errors
    /// The field is absent.
    pub fn required<T>(name: &'static str, found: Option<T>) -> Result<T, ConfigError> {
        found.ok_or_else(|| ConfigError::new(name, "", "is required"))
    }

    /// The JSON text of a field, for what the other readers do not cover.
    pub fn json(&mut self, name: &'static str) -> Option<String> {
        self.value(name).map(|value| value.get().to_owned())
    }

    /// Warns of every field that nobody asked for. Of very many, the first 32 are named.
    pub fn finish(self, cx: &mut ParseContext<'_>) {
        const NAMED: usize = 32;
        let mut unknown = self
            .fields
            .keys()
            .filter(|name| !self.asked.contains(&name.as_str()));
        for name in unknown.by_ref().take(NAMED) {
            let near = self
                .asked
                .iter()
                .find(|asked| asked.eq_ignore_ascii_case(name));
            let shown = crate::error::escaped(name);
            match near {
                Some(near) => cx.warn(shown, format!("unknown field; did you mean {near}?")),
                None => cx.warn(shown, "unknown field; it is ignored"),
            }
        }
        match unknown.count() {
            0 => {}
            more => cx.warn("", format!("{more} more unknown fields are ignored")),
        }
    }

    fn value(&mut self, name: &'static str) -> Option<&RawValue> {
        self.asked.push(name);
        let value = self.fields.get(name)?;
        (value.get() != "null").then_some(value)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => {
                // No tree where the text is none: nested too deep, or a number no double can hold.
                let tree = serde_json::from_str(value.get()).ok();
                match tree.as_ref().and_then(read) {
                    Some(read) => Ok(Some(read)),
                    None => Err(ConfigError::new(name, value.get(), rule)),
                }
            }
        }
    }
}

/// Parses a duration as proto JSON writes it: decimal seconds, at most nine decimals, and an `s`.
/// `None` for anything else, negative ones and those over 315,576,000,000 s (ten thousand years,
/// protobuf's limit) included.
///
/// ```
/// use balancer_api::parse_duration;
/// use std::time::Duration;
/// assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
/// assert_eq!(parse_duration("0.000000001s"), Some(Duration::from_nanos(1)));
/// for bad in ["1", "1.5", "-1s", "+1s", "1.s", ".5s", "1.0000000001s", "1m", "1 s", "1e3s", "s", ""] {
///     assert_eq!(parse_duration(bad), None, "{bad}");
/// }
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    const MAX_SECONDS: u64 = 315_576_000_000;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if digits(fraction) && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    if !digits(whole) {
        return None;
    }
    let seconds = whole
        .parse()
        .ok()
        .filter(|seconds| *seconds <= MAX_SECONDS)?;
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos))
}
