//! Benchmarks of the workspace, with rivals behind a feature.
#![forbid(unsafe_code)]
