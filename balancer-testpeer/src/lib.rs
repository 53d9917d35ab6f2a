//! A scriptable HTTP/2 peer that writes frames by hand, for tests.
#![forbid(unsafe_code)]
