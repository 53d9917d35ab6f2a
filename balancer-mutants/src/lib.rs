//! Wrong policies and channels that the testkit must catch, and right ones that it must not.
#![forbid(unsafe_code)]
