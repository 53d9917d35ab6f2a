//! Development commands of the workspace, as a library so that their rules are tested like any other code.
//!
//! [`ci::STEPS`] is the one list of what CI runs. A rule of [`tidy`] is a pure function over a
//! [`tidy::Tree`]: the command feeds it this workspace, its tests feed it small wrong ones.
#![forbid(unsafe_code)]

pub mod bench;
pub mod breaks;
pub mod ci;
pub mod codegen;
pub mod conformance;
pub mod disk;
pub mod fuzz;
pub mod hygiene;
pub mod interop;
pub mod loom;
pub mod mutants;
pub mod new_policy;
pub mod newcomer;
pub mod pains;
pub mod reliability;
pub mod report;
pub mod sim_channel;
pub mod tidy;
pub mod workspace;
