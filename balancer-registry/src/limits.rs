//! What a service config may cost and ask for.

use balancer_api::MAX_POLICY_DEPTH;

/// Bounds on a service config, which may come from an attacker: DNS TXT records are not signed.
///
/// A config can lower what the application allows, never raise it.
///
/// ```
/// use balancer_registry::Limits;
/// let mut limits = Limits::default();
/// assert_eq!((limits.max_bytes, limits.max_depth, limits.max_errors), (65_536, 64, 16));
/// limits.max_attempts = 3;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of JSON. 64 KiB; more than 16 MiB counts as 16 MiB.
    pub max_bytes: usize,
    /// Levels of `[` and `{`. 64; more than 128 counts as 128.
    pub max_depth: usize,
    /// Policies inside each other, the outermost one included. 16; more than
    /// [`MAX_POLICY_DEPTH`](balancer_api::MAX_POLICY_DEPTH) counts as that.
    pub max_policy_depth: usize,
    /// How many times [`max_bytes`](Self::max_bytes) the lists of child policies may have together;
    /// what is inside two policies counts twice, since both read it. 4.
    pub child_policy_factor: usize,
    /// Errors that are reported; reading goes on behind the last one, only the count is kept. 16, at
    /// least 1.
    pub max_errors: usize,
    /// Warnings that are kept. 64.
    pub max_warnings: usize,
    /// Entries of a policy list that the explanation of a choice names. 256.
    pub max_skipped: usize,
    /// Names in all of `methodConfig`. 4,096.
    pub max_method_names: usize,
    /// Attempts of one RPC, the first one included. 5, as gRFC A6 asks; a config that wants more
    /// gets this many and a warning.
    pub max_attempts: u32,
    /// Connections of one SubConn. 10, as gRFC A105 asks; a config that wants more gets this many
    /// and a warning.
    pub max_connections_per_subchannel: u32,
}

/// What serde_json allows too, which the policies' parsers are likely to use.
const DEEPEST: usize = 128;

/// Offsets into the text are kept in 32 bits.
const LARGEST: usize = 16 << 20;

// === impl Limits ===

impl Limits {
    /// For a child policy's list, a part of a config that was already found small enough. Some room
    /// is left because a policy may write its numbers at greater length than it read them.
    pub(crate) fn of_a_child() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_depth: DEEPEST,
            ..Self::default()
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.max_bytes.min(LARGEST)
    }

    pub(crate) fn depth(&self) -> usize {
        self.max_depth.min(DEEPEST)
    }

    pub(crate) fn errors(&self) -> usize {
        self.max_errors.max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 10,
            max_depth: 64,
            max_policy_depth: MAX_POLICY_DEPTH,
            child_policy_factor: 4,
            max_errors: 16,
            max_warnings: 64,
            max_skipped: 256,
            max_method_names: 4096,
            max_attempts: 5,
            max_connections_per_subchannel: 10,
        }
    }
}
