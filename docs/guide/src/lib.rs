//! The sources of the chapter "Write a policy, prove it": each of its code blocks is a part of a file
//! here, and the tests here print what it says they print.
//!
//! Read the chapter, `docs/write-a-policy.md`; then [`cautious`], where it ends.
#![forbid(unsafe_code)]

pub mod broken;
pub mod cautious;
pub mod config;
pub mod least_request;
pub mod random;
