//! The generated code of `proto/helloworld.proto`.

// Generated code keeps its own style, and each example uses its own part of it.
#[rustfmt::skip]
#[allow(dead_code, missing_debug_implementations, unreachable_pub)]
pub(crate) mod helloworld;
