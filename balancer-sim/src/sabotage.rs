//! Worlds with a part that is broken on purpose: each law has to notice.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The executor loses some wake-ups of RPCs.
    LostWakeUp,
    /// Some RPCs forget to say that they are done.
    ForgottenDone,
    /// Some picks are given to another SubConn than the picker chose.
    OtherSubConn,
    /// Nobody hears of a connection's loss.
    DeafToLoss,
    /// A policy that has failed says that it is READY.
    Lie,
    /// The trouble is never over.
    NoEnd,
    /// Some of the channel's tasks never end.
    LeakedTask,
    /// Some connections stay open when they are closed.
    LeakedConnection,
    /// The channel's clock runs fast, so that its back-off is short.
    FastClock,
    /// Some turns are not taken.
    SkippedTurn,
    /// Policies are closed twice.
    ClosedTwice,
    /// A task runs for ever.
    Spin,
}

impl Sabotage {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::LostWakeUp,
        Self::ForgottenDone,
        Self::OtherSubConn,
        Self::DeafToLoss,
        Self::Lie,
        Self::NoEnd,
        Self::LeakedTask,
        Self::LeakedConnection,
        Self::FastClock,
        Self::SkippedTurn,
        Self::ClosedTwice,
        Self::Spin,
    ];
}
