//! A scripted ClientConn and the laws that every gRPC load-balancing policy must keep.
//!
//! # Stories
//! [`Script`] drives any [`Builder`](balancer_api::Builder) through a story, under virtual time and
//! with connections that move as the story says and no other way:
//!
//! ```
//! use balancer_testkit::Script;
//! # use balancer_api::{base::*, *};
//! # use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! # struct RoundRobin;
//! # struct RoundRobinPicker(ReadySet, AtomicUsize);
//! # impl PickerBuilder for RoundRobin {
//! #     type Data = ();
//! #     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
//! #     fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
//! #         Arc::new(RoundRobinPicker(ready.clone(), AtomicUsize::new(0)))
//! #     }
//! # }
//! # impl Picker for RoundRobinPicker {
//! #     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
//! #         let turn = self.1.fetch_add(1, Ordering::Relaxed) % self.0.len();
//! #         Ok(Pick::new(self.0.get(turn).unwrap().sub_conn()))
//! #     }
//! # }
//! # let round_robin = BaseBuilder::new("round_robin", || RoundRobin);
//! let mut conn = Script::start(round_robin, ["a", "b", "c"]);
//! conn.ready("a").ready("b").ready("c");
//! assert_eq!(conn.picks(4), ["a", "b", "c", "a"]);
//!
//! conn.lost("b");
//! assert_eq!(conn.picks(3), ["a", "c", "a"], "must skip an IDLE connection");
//! assert_eq!(conn.connects(), ["b"], "must reconnect it at once");
//! ```
//!
//! [`World`] is the engine underneath: it takes one [`Event`] at a time, refuses with an error what
//! cannot happen, and keeps a lossless [`Log`].
//!
//! # One line
//! [`conformance!`](macro@crate::conformance) proves a policy by every law, or prints the shortest
//! script that breaks it. The chapter "Write a policy, prove it" (`docs/write-a-policy.md` in the
//! repository) goes from an empty crate to a policy with a configuration, done accounting and a
//! timer, and says which [`Profile`] is for which policy.

#![forbid(unsafe_code)]

mod bench;
mod clock;
mod conformance;
mod conn;
mod differ;
mod event;
mod find;
mod knobs;
mod law;
mod list;
mod log;
mod oracle;
mod outcome;
mod passthrough;
mod profile;
mod rpc;
mod scenario;
mod scripted;
mod story;
pub mod strategy;
mod sub;
pub mod witness;
mod world;

pub use conformance::Conformance;
pub use differ::{Alike, Expected, Happened, Model, Picks};
pub use event::{End, Event, ParseEventError};
pub use find::{Exploration, Failure, Search, explore, judge, search};
pub use knobs::Knobs;
pub use law::{Family, Law, LawSet, Violation};
pub use list::{Kind, List, News, Variant};
pub use log::{Ask, Entry, Log, Told};
pub use outcome::Outcome;
pub use passthrough::PassThrough;
pub use profile::Profile;
pub use rpc::Rpc;
pub use scenario::Scenario;
pub use scripted::{Act, ScriptedChild};
pub use story::Script;
pub use sub::{Illegal, Move, SubId};
pub use witness::{ChannelLaw, ChannelSuite, ChannelUnderTest, Complaint, Witness};
pub use world::{Refused, Setup, World};
