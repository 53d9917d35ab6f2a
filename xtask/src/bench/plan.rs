//! Who is measured, under which loads.

/// Somebody who is measured. The names are the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    pub name: &'static str,
    pub kind: Kind,
    /// What it stands for, for readers.
    pub what: &'static str,
    pub tls: bool,
    pub streaming: bool,
    /// Takes so long an RPC that a tenth of the RPCs has to do for counts.
    pub slow: bool,
}

/// What a contender is to the bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    /// The same with more to do.
    OursWithMore,
    /// Less than a channel: what there is to lose.
    Floor,
    /// Has every backend, as ours has.
    Rival,
    /// Ours, with one backend.
    OursToOne,
    /// Has one backend only: its connection carries all RPCs, which saves system calls.
    RivalToOne,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scenario {
    /// What `--only` calls it.
    pub name: &'static str,
    pub what: &'static str,
    pub concurrency: usize,
    pub size: usize,
    pub streaming: bool,
    pub tls: bool,
}

/// Backends, in one other process.
pub(super) const BACKENDS: usize = 8;

pub(super) const OURS: &str = "ours";
pub(super) const FLOOR: &str = "direct-h2";
pub(super) const BARE: &str = "raw-h2";
pub(super) const BALANCE_LIST: &str = "tonic-balance";
pub(super) const GO: &str = "grpc-go";

const fn contender(name: &'static str, kind: Kind, what: &'static str) -> Contender {
    Contender {
        name,
        kind,
        what,
        tls: false,
        streaming: false,
        slow: false,
    }
}

/// Everybody.
pub(super) const CONTENDERS: &[Contender] = &[
    Contender {
        tls: true,
        streaming: true,
        ..contender(OURS, Kind::Ours, "this workspace's channel, `round_robin`")
    },
    contender(
        "ours-deadline",
        Kind::OursWithMore,
        "the same, each RPC with a deadline: a header and a timer",
    ),
    contender(
        BARE,
        Kind::Floor,
        "gRPC's frames on `h2` by hand, without tonic",
    ),
    contender("raw-hyper", Kind::Floor, "the same on hyper's client"),
    contender(
        FLOOR,
        Kind::Floor,
        "tonic's client on the barest `h2` service",
    ),
    Contender {
        streaming: true,
        ..contender(
            "direct-hyper",
            Kind::Floor,
            "tonic's client straight on hyper's connections",
        )
    },
    Contender {
        tls: true,
        streaming: true,
        ..contender(BALANCE_LIST, Kind::Rival, "tonic's `Channel::balance_list`")
    },
    contender(
        "p2c-h2",
        Kind::Floor,
        "tower's power of two choices and `Buffer` over direct-h2's connections: how little a choice \
         by load can take, on a transport that nobody can have",
    ),
    Contender {
        tls: true,
        streaming: true,
        ..contender(
            "p2c-tonic",
            Kind::Rival,
            "the same over tonic's `Channel`s, one for each backend, as tower's users have it: two \
             queues for each RPC, tower's and the channel's own",
        )
    },
    Contender {
        tls: true,
        streaming: true,
        ..contender("ginepro", Kind::Rival, "ginepro's channel, on tonic 0.13")
    },
    Contender {
        tls: true,
        streaming: true,
        ..contender(
            "ours-1",
            Kind::OursToOne,
            "this workspace's channel, one backend",
        )
    },
    Contender {
        tls: true,
        streaming: true,
        ..contender(
            "tonic-single",
            Kind::RivalToOne,
            "tonic's `Channel`, one backend",
        )
    },
    Contender {
        slow: true,
        ..contender(
            "grpc",
            Kind::RivalToOne,
            "the official `grpc` crate as published, which cannot choose round_robin by its public \
             interface and leaves Nagle's algorithm on: one backend",
        )
    },
];

const fn unary(name: &'static str, what: &'static str, concurrency: usize) -> Scenario {
    Scenario {
        name,
        what,
        concurrency,
        size: 16,
        streaming: false,
        tls: false,
    }
}

/// Every load.
pub(super) const SCENARIOS: &[Scenario] = &[
    unary("c64", "unary, 16 B, 64 at a time", 64),
    unary("c1", "unary, 16 B, one at a time", 1),
    unary("c16", "unary, 16 B, 16 at a time", 16),
    unary("c256", "unary, 16 B, 256 at a time", 256),
    Scenario {
        size: 1024,
        ..unary("1KiB", "unary, 1 KiB, 64 at a time", 64)
    },
    Scenario {
        size: 64 * 1024,
        ..unary("64KiB", "unary, 64 KiB, 16 at a time", 16)
    },
    Scenario {
        streaming: true,
        ..unary("streaming", "messages of 16 B on 64 open streams", 64)
    },
    Scenario {
        tls: true,
        ..unary("tls", "unary, 16 B, 64 at a time, TLS", 64)
    },
];

// === impl Scenario ===

impl Scenario {
    /// Who can do it.
    pub(super) fn contenders(&self) -> impl Iterator<Item = &'static Contender> {
        let (tls, streaming) = (self.tls, self.streaming);
        CONTENDERS
            .iter()
            .filter(move |one| (one.tls || !tls) && (one.streaming || !streaming))
    }

    /// Whether grpc-go's client does it.
    pub(super) fn has_go(&self) -> bool {
        !self.tls && !self.streaming
    }

    /// What one turn of it is called.
    pub(super) fn unit(&self) -> &'static str {
        if self.streaming { "message" } else { "RPC" }
    }
}

// === impl Kind ===

impl Kind {
    /// Who of ours is to be compared with it.
    pub(super) fn against(self) -> &'static str {
        match self {
            Self::RivalToOne | Self::OursToOne => "ours-1",
            _ => OURS,
        }
    }

    pub(super) fn is_rival(self) -> bool {
        matches!(self, Self::Rival | Self::RivalToOne)
    }
}
