//! The words of a script: everything that can happen to a policy, as one line of text each.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use balancer_api::{Code, parse_duration};

use crate::{Act, List, Move};

/// One thing that happens to a policy; one line of a script.
///
/// Written and read as text, so that a script that failed can be stored and run again:
///
/// ```
/// use balancer_testkit::Event;
/// for line in ["update a b+c", "failed a connection refused", "advance 1.5s", "pick not_sent"] {
///     let event: Event = line.parse().unwrap();
///     assert_eq!(event.to_string(), line);
/// }
/// assert!("redy a".parse::<Event>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// `update a b`: the resolver has this list; `update` alone: an empty one.
    Update(List),
    /// `again`: the last list once more, with every object in it made anew.
    Again,
    /// `resolver_error no such host`
    ResolverError(Arc<str>),
    /// `connecting a`, `ready a`, `failed a connection refused`, `lost a`, `idle a`,
    /// `health_failed a`, `health_ready a`: a connection moves.
    Step(Move, Arc<str>, Option<Arc<str>>),
    /// `repeat a`: the policy is told once more what it was last told of a SubConn.
    Repeat(Arc<str>),
    /// `stranger`: the policy is told of SubConns that it does not know: one of nobody, and all of
    /// its own that are gone.
    Stranger,
    /// `refuse too many`: the next SubConn is refused for this reason.
    Refuse(Arc<str>),
    /// `timer`: time goes on until the earliest timer is due.
    Timer,
    /// `advance 1.5s`: time goes on, timers fire.
    Advance(Duration),
    /// `wake`: somebody wakes the policy.
    Wake,
    /// `exit_idle`: the application asks to connect.
    ExitIdle,
    /// `pick`: an RPC picks and succeeds at once; `pick error`, `pick dropped`, `pick not_sent`: it
    /// ends otherwise; `pick open`: it goes on until the end of the script.
    Pick(End),
    /// `random 7`: the next random number.
    Random(u64),
    /// `config {"x":1}`: the policy's configuration from the next list on.
    Config(Arc<str>),
    /// `hold`: from here on callbacks belong to one run, without a settle between them.
    Hold,
    /// `settle`: the run is over.
    Settle,
    /// `hold_shutdowns`: from here on SHUTDOWN of removed SubConns waits for `shutdown`.
    HoldShutdowns,
    /// `shutdown a`: a removed SubConn whose SHUTDOWN was held is told SHUTDOWN.
    Shutdown(Arc<str>),
    /// `headers a`: the oldest call on a SubConn is answered with headers.
    CallHeaders(Arc<str>),
    /// `message a 0a0b`: a message arrives on the oldest call on a SubConn.
    CallMessage(Arc<str>, Vec<u8>),
    /// `end a OK`: the oldest call on a SubConn ends.
    CallEnd(Arc<str>, Code),
    /// `child one publish READY`: a [`ScriptedChild`](crate::ScriptedChild) does something.
    Child(Arc<str>, Act),
    /// `close`: the policy is over.
    Close,
    /// `late`: after the close, the policy is told all the same that every SubConn is IDLE, then
    /// TRANSIENT_FAILURE, and that its timers are due.
    Late,
}

/// How an RPC of a script ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum End {
    /// With OK.
    #[default]
    Ok,
    /// With an error of the server.
    Error,
    /// The application dropped it.
    Dropped,
    /// The SubConn was not READY after all: nothing was sent.
    NotSent,
    /// Not before the script does.
    Open,
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseEventError {
    line: String,
    why: &'static str,
}

// === impl End ===

impl End {
    /// Every way to end.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Error,
        Self::Dropped,
        Self::NotSent,
        Self::Open,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Dropped => "dropped",
            Self::NotSent => "not_sent",
            Self::Open => "open",
        }
    }
}

// === impl Event ===

impl Event {
    /// A connection moves; a failure is `connection refused`.
    pub fn step(step: Move, name: impl Into<Arc<str>>) -> Self {
        Self::Step(step, name.into(), None)
    }

    /// A list of endpoints by their names.
    pub fn update(text: &str) -> Self {
        Self::Update(List::parse(text))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Update(list) => match list.to_string().as_str() {
                "" => f.write_str("update"),
                text => write!(f, "update {text}"),
            },
            Self::Again => f.write_str("again"),
            Self::ResolverError(text) => write!(f, "resolver_error {text}"),
            Self::Step(step, name, None) => write!(f, "{step} {name}"),
            Self::Step(step, name, Some(text)) => write!(f, "{step} {name} {text}"),
            Self::Repeat(name) => write!(f, "repeat {name}"),
            Self::Stranger => f.write_str("stranger"),
            Self::Refuse(why) => write!(f, "refuse {why}"),
            Self::Timer => f.write_str("timer"),
            Self::Advance(by) => write!(f, "advance {}s", by.as_secs_f64()),
            Self::Wake => f.write_str("wake"),
            Self::ExitIdle => f.write_str("exit_idle"),
            Self::Pick(End::Ok) => f.write_str("pick"),
            Self::Pick(end) => write!(f, "pick {}", end.word()),
            Self::Random(value) => write!(f, "random {value}"),
            Self::Config(json) => write!(f, "config {json}"),
            Self::Hold => f.write_str("hold"),
            Self::Settle => f.write_str("settle"),
            Self::HoldShutdowns => f.write_str("hold_shutdowns"),
            Self::Shutdown(name) => write!(f, "shutdown {name}"),
            Self::CallHeaders(name) => write!(f, "headers {name}"),
            Self::CallMessage(name, bytes) => {
                write!(f, "message {name} ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::CallEnd(name, code) => write!(f, "end {name} {code}"),
            Self::Child(label, act) => write!(f, "child {label} {act}"),
            Self::Close => f.write_str("close"),
            Self::Late => f.write_str("late"),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl FromStr for Event {
    type Err = ParseEventError;

    fn from_str(line: &str) -> Result<Self, ParseEventError> {
        let line = line.trim();
        let fail = |why| ParseEventError {
            line: line.to_owned(),
            why,
        };
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let text = text.trim();
        if let Some(step) = Move::ALL.into_iter().find(|step| step.word() == word) {
            if name.is_empty() {
                return Err(fail("which SubConn?"));
            }
            let text = (!text.is_empty()).then(|| text.into());
            return Ok(Self::Step(step, name.into(), text));
        }
        Ok(match word {
            "update" => Self::update(rest),
            "again" => Self::Again,
            "resolver_error" => Self::ResolverError(rest.into()),
            "repeat" => Self::Repeat(name.into()),
            "stranger" => Self::Stranger,
            "refuse" => Self::Refuse(rest.into()),
            "timer" => Self::Timer,
            "advance" => {
                Self::Advance(parse_duration(rest).ok_or_else(|| fail("a duration such as 1.5s"))?)
            }
            "wake" => Self::Wake,
            "exit_idle" => Self::ExitIdle,
            "pick" if rest.is_empty() => Self::Pick(End::Ok),
            "pick" => Self::Pick(
                End::ALL
                    .into_iter()
                    .find(|end| end.word() == rest)
                    .ok_or_else(|| fail("ok, error, dropped, not_sent or open"))?,
            ),
            "random" => Self::Random(rest.parse().map_err(|_| fail("a number of 64 bits"))?),
            "config" => Self::Config(rest.into()),
            "hold" => Self::Hold,
            "settle" => Self::Settle,
            "hold_shutdowns" => Self::HoldShutdowns,
            "shutdown" => Self::Shutdown(name.into()),
            "headers" => Self::CallHeaders(name.into()),
            "message" => {
                let bytes = (0..text.len() / 2)
                    .map(|i| text.get(2 * i..2 * i + 2))
                    .map(|byte| byte.and_then(|byte| u8::from_str_radix(byte, 16).ok()))
                    .collect::<Option<Vec<u8>>>()
                    .filter(|_| text.len() % 2 == 0);
                Self::CallMessage(
                    name.into(),
                    bytes.ok_or_else(|| fail("bytes, two digits each"))?,
                )
            }
            "end" => Self::CallEnd(
                name.into(),
                Code::from_name(text).ok_or_else(|| fail("a status code such as OK"))?,
            ),
            "child" => Self::Child(
                name.into(),
                Act::parse(text).ok_or_else(|| fail("what does it do? `publish READY`, say"))?,
            ),
            "close" => Self::Close,
            "late" => Self::Late,
            _ => return Err(fail("no such event")),
        })
    }
}

// === impl ParseEventError ===

impl fmt::Display for ParseEventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.line, self.why)
    }
}

impl std::error::Error for ParseEventError {}
