//! The resolvers that come with the channel.

mod dns;
mod fixed;
mod txt;

pub(crate) use dns::DnsResolver;
pub(crate) use fixed::FixedResolver;
