//! What goes wrong, by kind, and how often it hit an RPC in flight.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it; `name` says it in words")]
#[repr(usize)]
pub enum Fault {
    ConnectRefused,
    ConnectSlow,
    ConnectBlackHole,
    AcceptSilent,
    SettingsThenClose,
    GoawayAtOnce,
    Goaway,
    GoawayLow,
    TooManyPings,
    ConnectionReset,
    Partition,
    Crash,
    Flap,
    StreamRefused,
    StreamReset,
    ServerUnavailable,
    LateAnswer,
    NoAnswer,
    MaxStreams,
    Unhealthy,
    RpcDropped,
    Deadline,
    Close,
    CloseGracefully,
    HandlesDropped,
    EnterIdle,
    ResetBackoff,
    ListChanged,
    EmptyList,
    ResolverError,
    ResolverHangs,
    ResolverPanics,
    BadConfig,
    PolicySwitch,
    PolicyPanics,
    PickPanics,
    DonePanics,
    PolicyBlocks,
    PolicyMute,
    ForeignPick,
    RemovedPick,
    StalePick,
    Meddles,
    QueueFull,
}

/// How often each kind hit an RPC in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits([u64; Fault::ALL.len()]);

// === impl Fault ===

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 44] = [
        Self::ConnectRefused,
        Self::ConnectSlow,
        Self::ConnectBlackHole,
        Self::AcceptSilent,
        Self::SettingsThenClose,
        Self::GoawayAtOnce,
        Self::Goaway,
        Self::GoawayLow,
        Self::TooManyPings,
        Self::ConnectionReset,
        Self::Partition,
        Self::Crash,
        Self::Flap,
        Self::StreamRefused,
        Self::StreamReset,
        Self::ServerUnavailable,
        Self::LateAnswer,
        Self::NoAnswer,
        Self::MaxStreams,
        Self::Unhealthy,
        Self::RpcDropped,
        Self::Deadline,
        Self::Close,
        Self::CloseGracefully,
        Self::HandlesDropped,
        Self::EnterIdle,
        Self::ResetBackoff,
        Self::ListChanged,
        Self::EmptyList,
        Self::ResolverError,
        Self::ResolverHangs,
        Self::ResolverPanics,
        Self::BadConfig,
        Self::PolicySwitch,
        Self::PolicyPanics,
        Self::PickPanics,
        Self::DonePanics,
        Self::PolicyBlocks,
        Self::PolicyMute,
        Self::ForeignPick,
        Self::RemovedPick,
        Self::StalePick,
        Self::Meddles,
        Self::QueueFull,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connection refused",
            Self::ConnectSlow => "slow to connect",
            Self::ConnectBlackHole => "connects into a black hole",
            Self::AcceptSilent => "accepts, never sends SETTINGS",
            Self::SettingsThenClose => "SETTINGS, then closes",
            Self::GoawayAtOnce => "SETTINGS, then GOAWAY",
            Self::Goaway => "GOAWAY, streams may finish",
            Self::GoawayLow => "GOAWAY below open streams",
            Self::TooManyPings => "GOAWAY too_many_pings",
            Self::ConnectionReset => "connection reset",
            Self::Partition => "partition",
            Self::Crash => "crash",
            Self::Flap => "flap",
            Self::StreamRefused => "stream refused",
            Self::StreamReset => "stream reset",
            Self::ServerUnavailable => "server says UNAVAILABLE",
            Self::LateAnswer => "late answer",
            Self::NoAnswer => "no answer",
            Self::MaxStreams => "no stream left",
            Self::Unhealthy => "backend says NOT_SERVING",
            Self::RpcDropped => "RPC dropped",
            Self::Deadline => "deadline passed",
            Self::Close => "close",
            Self::CloseGracefully => "close gracefully",
            Self::HandlesDropped => "handles dropped",
            Self::EnterIdle => "enter idle",
            Self::ResetBackoff => "reset back-off",
            Self::ListChanged => "list changed",
            Self::EmptyList => "empty list",
            Self::ResolverError => "resolver error",
            Self::ResolverHangs => "resolver hangs",
            Self::ResolverPanics => "resolver panics",
            Self::BadConfig => "bad service config",
            Self::PolicySwitch => "policy switched",
            Self::PolicyPanics => "policy panics",
            Self::PickPanics => "picker panics",
            Self::DonePanics => "done callback panics",
            Self::PolicyBlocks => "policy blocks its thread",
            Self::PolicyMute => "policy never publishes",
            Self::ForeignPick => "picks a foreign SubConn",
            Self::RemovedPick => "picks a removed SubConn",
            Self::StalePick => "picks a SubConn in any state",
            Self::Meddles => "policy calls from outside its callbacks",
            Self::QueueFull => "queue of waiting RPCs full",
        }
    }
}

// === impl Hits ===

impl Hits {
    /// `fault` hit `rpcs` of them.
    pub fn add(&mut self, fault: Fault, rpcs: usize) {
        self.0[fault as usize] += rpcs as u64;
    }

    /// Adds those of another world.
    pub fn merge(&mut self, other: &Self) {
        for (sum, part) in self.0.iter_mut().zip(&other.0) {
            *sum += part;
        }
    }

    /// How often it hit.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }
}

impl Default for Hits {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}
