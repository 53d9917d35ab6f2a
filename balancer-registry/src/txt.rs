//! Service configs in DNS TXT records (gRFC A2): choices, of which each client takes one.

use crate::{
    Limits, ServiceConfigError,
    fields::{Fields, Unknown},
    json::{self, Value},
    path::Path,
    report::Report,
    shape::TXT_CHOICE,
};

/// The choices that the TXT records of `_grpc_config.<name>` offer.
///
/// From [`parse_txt_choices`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxtChoices {
    choices: Vec<Choice>,
}

/// What a client must tell of itself to be given a choice.
///
/// ```
/// use balancer_registry::TxtClient;
/// let client = TxtClient::new("rust", "web-7.example", 42);
/// # let _ = client;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxtClient<'a> {
    language: &'a str,
    hostname: &'a str,
    roll: u8,
}

/// A service config, and the clients that it is for.
#[derive(Clone, PartialEq, Eq)]
struct Choice {
    /// Empty: all.
    languages: Vec<String>,
    hostnames: Vec<String>,
    percentage: u8,
    json: Box<str>,
}

/// How a TXT record with choices begins.
const ATTRIBUTE: &[u8] = b"grpc_config=";

/// Reads the choices in TXT records. Each record is the list of its strings, of at most 255 bytes
/// each as DNS has it, which are put together again; records about other things are passed over.
///
/// The service configs in them are not parsed: only the one that is taken matters.
///
/// ```
/// use balancer_registry::{Limits, TxtClient, parse_txt_choices};
/// let record: [&[u8]; 2] = [
///     br#"grpc_config=[{"clientLanguage":["rust"],"serviceConfig":{"metho"#,
///     br#"dConfig":[]}},{"percentage":10,"serviceConfig":{}}]"#,
/// ];
/// let choices = parse_txt_choices([record], &Limits::default())?;
/// let rust = TxtClient::new("rust", "a.example", 99);
/// assert_eq!(choices.choose(&rust), Some(r#"{"methodConfig":[]}"#));
/// assert_eq!(choices.choose(&TxtClient::new("go", "a.example", 9)), Some("{}"));
/// assert_eq!(choices.choose(&TxtClient::new("go", "a.example", 10)), None);
/// # Ok::<(), balancer_registry::ServiceConfigError>(())
/// ```
///
/// # Errors
/// A choice that is not understood, an unknown field in it included, makes all of them invalid.
/// Paths begin with `grpc_config`; the choices of all records are counted through.
pub fn parse_txt_choices<R>(records: R, limits: &Limits) -> Result<TxtChoices, ServiceConfigError>
where
    R: IntoIterator<Item: IntoIterator<Item: AsRef<[u8]>>>,
{
    let mut report = Report::new(limits);
    let mut rest = limits.clone();
    let mut choices = Vec::new();
    let mut count = 0;
    for strings in records {
        let record = record(strings, limits.bytes() + ATTRIBUTE.len());
        let Some(list) = record.strip_prefix(ATTRIBUTE) else {
            continue;
        };
        // The limit is for all of them together.
        let Some(doc) = json::scan(list, &rest, &mut report) else {
            break;
        };
        rest.max_bytes = rest.bytes().saturating_sub(list.len());
        let path = Path::Key(&Path::Root, "grpc_config");
        let Some(list) = doc.root().elements() else {
            report.error(&path, doc.text(), "must be a list of choices");
            continue;
        };
        for value in list {
            choices.extend(Choice::read(value, &Path::Index(&path, count), &mut report));
            count += 1;
        }
    }
    report.finish()?;
    Ok(TxtChoices { choices })
}

/// Puts the strings of a record together, but not more than can be needed to find it too long.
fn record(strings: impl IntoIterator<Item: AsRef<[u8]>>, max: usize) -> Vec<u8> {
    let mut record = Vec::new();
    for string in strings {
        record.extend_from_slice(string.as_ref());
        if record.len() > max {
            break;
        }
    }
    record
}

// === impl TxtChoices ===

impl TxtChoices {
    /// The JSON of the first choice that is for `client`.
    pub fn choose(&self, client: &TxtClient<'_>) -> Option<&str> {
        self.choices
            .iter()
            .find(|choice| choice.is_for(client))
            .map(|choice| &*choice.json)
    }
}

// === impl TxtClient ===

impl<'a> TxtClient<'a> {
    /// A client written in `language` on the machine `hostname`, both compared without regard to
    /// ASCII case. `roll` is a number from 0 to 99 by chance, so that a choice for 30 percent of
    /// the clients is for this one if it is below 30; roll once per channel.
    pub fn new(language: &'a str, hostname: &'a str, roll: u8) -> Self {
        Self {
            language,
            hostname,
            roll,
        }
    }
}

// === impl Choice ===

impl Choice {
    fn read(value: Value<'_>, path: &Path<'_>, report: &mut Report) -> Option<Self> {
        let fields = Fields::read(value, path, &TXT_CHOICE, &Unknown::Refuse, report)?;
        let owned = |texts: Vec<std::borrow::Cow<'_, str>>| {
            texts.into_iter().map(|text| text.into_owned()).collect()
        };
        let languages = fields.strings("clientLanguage", report).map(owned);
        let percentage = fields.u32("percentage", 0..=100, report).unwrap_or(100);
        let hostnames = fields.strings("clientHostname", report).map(owned);
        fields.require("serviceConfig", report);
        let config = fields.value("serviceConfig")?;
        if config.members().is_none() {
            fields.error("serviceConfig", config.raw(), "must be an object", report);
        }
        Some(Self {
            languages: languages.unwrap_or_default(),
            hostnames: hostnames.unwrap_or_default(),
            percentage: u8::try_from(percentage).unwrap_or(100),
            json: config.raw().into(),
        })
    }

    fn is_for(&self, client: &TxtClient<'_>) -> bool {
        let accepts = |list: &[String], text: &str| {
            list.is_empty() || list.iter().any(|item| item.eq_ignore_ascii_case(text))
        };
        accepts(&self.languages, client.language)
            && accepts(&self.hostnames, client.hostname)
            && client.roll < self.percentage
    }
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice")
            .field("languages", &self.languages)
            .field("hostnames", &self.hostnames)
            .field("percentage", &self.percentage)
            .field("bytes", &self.json.len())
            .finish()
    }
}
