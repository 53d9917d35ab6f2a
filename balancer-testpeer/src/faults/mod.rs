//! Ready-made bad behaviours, one function per fault.
//!
//! Faults of a backend that keeps the protocol otherwise (statuses, resets, windows, stream
//! limits, unanswered PINGs) are settings of [`Backend`](crate::Backend) and its
//! [`Answer`](crate::Answer)s; faults of the network are [`Relay`](crate::Relay)'s,
//! [`Blackhole`](crate::Blackhole)'s and [`Refused`](crate::Refused)'s.

mod flood;
mod goaway;
mod handshake;

pub use flood::{Flood, HeaderBomb, flood, header_bomb};
pub use goaway::{goaway_at_once, goaway_on_request, goaway_then_close, two_goaways};
pub use handshake::{
    IllegalSettings, close_at_once, first_frame, garbage, http1, illegal_settings, no_settings_ack,
    reset_at_once, say, settings_then_close, silence, stalled_reads,
};
