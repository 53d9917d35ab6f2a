//! Where an RPC's instructions go: callgrind's count by function, added up by whose function it is.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::Result;

use super::run::{Binaries, Job};
use crate::workspace::read;

/// Instructions per RPC by part.
pub(super) type Parts = BTreeMap<&'static str, f64>;

/// Whose function it is, by what its name holds first.
const PARTS: &[(&str, &str)] = &[
    ("balancer_channel_core::", "balancer-channel-core"),
    ("balancer_channel::", "balancer-channel"),
    ("balancer_roundrobin::", "balancer-roundrobin"),
    ("balancer_api::", "balancer-api"),
    ("balancer_registry::", "balancer-registry"),
    ("tonic::", "tonic, http-body"),
    ("tonic_prost::", "tonic, http-body"),
    ("http_body", "tonic, http-body"),
    ("prost::", "tonic, http-body"),
    ("h2::", "h2"),
    ("hyper::", "hyper"),
    ("hyper_util::", "hyper"),
    ("tower::", "tower"),
    ("http::", "http"),
    ("tokio::", "tokio, mio"),
    ("mio::", "tokio, mio"),
    ("tokio_util::", "tokio, mio"),
    ("benches::", "the bench, with what is inlined there"),
    ("bytes::", "bytes"),
    ("malloc", "malloc and free"),
    ("calloc", "malloc and free"),
    ("realloc", "malloc and free"),
    ("free", "malloc and free"),
    ("__rust_alloc", "malloc and free"),
    ("unlink_chunk", "malloc and free"),
    ("mem", "copies of memory"),
];

const REST: &str = "the rest";

/// Long enough that what happens once does not show.
const COUNTS: (u64, u64) = (1_000, 5_000);

/// Profiles one contender.
pub(super) fn run(binaries: &Binaries, job: Job<'_>, scratch: &Path) -> Result<Parts> {
    let out = scratch.join("callgrind.out");
    let mut parts = Parts::new();
    for (count, sign) in [(COUNTS.0, -1.0), (COUNTS.1, 1.0)] {
        binaries.profile(job, count, &out)?;
        let mut command = Command::new("callgrind_annotate");
        command
            .args(["--threshold=100", "--inclusive=no"])
            .arg(&out);
        for (part, instructions) in by_part(&read(command)?) {
            *parts.entry(part).or_default() += sign * instructions;
        }
    }
    for instructions in parts.values_mut() {
        *instructions /= (COUNTS.1 - COUNTS.0) as f64;
    }
    Ok(parts)
}

fn by_part(report: &str) -> Parts {
    let mut parts = Parts::new();
    for (instructions, function) in report.lines().filter_map(function) {
        *parts.entry(part_of(function)).or_default() += instructions;
    }
    parts
}

/// A line such as `12,345 ( 1.2%)  file:function [object]`.
fn function(line: &str) -> Option<(f64, &str)> {
    let (number, rest) = line.trim_start().split_once(" (")?;
    let instructions = number.replace(',', "").parse().ok()?;
    let (_, named) = rest.split_once(")  ")?;
    // Of the program as a whole.
    let (_, function) = named.split_once(':')?;
    Some((instructions, function))
}

fn part_of(function: &str) -> &'static str {
    // The object's path comes last, and may hold any word.
    let function = function
        .rsplit_once(" [")
        .map_or(function, |(name, _)| name);
    let first = PARTS
        .iter()
        .filter_map(|(word, part)| Some((function.find(word)?, *part)))
        .min_by_key(|(at, _)| *at);
    first.map_or(REST, |(_, part)| part)
}
