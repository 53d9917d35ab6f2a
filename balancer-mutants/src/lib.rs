//! Wrong policies and channels that the testkit must catch, and right ones that it must not.
#![forbid(unsafe_code)]

pub mod channel;
pub mod composite;
pub mod happy_first;
pub mod least_busy;
pub mod models;
pub mod newcomers;
pub mod page_first;
pub mod pick_first;
pub mod priority;
pub mod prober;
pub mod round_robin;
pub mod table;
pub mod unusual;
pub mod unusual_more;
