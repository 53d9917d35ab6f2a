//! Random histories: whatever happens, the table is kept and nothing gets stuck.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use balancer_api::{ConnectivityState as State, Reconnect};

use crate::{machine::MachineTimer, rig::Rig};

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Takes one random step; the rig checks table and invariants.
fn step(rig: &mut Rig, chance: &mut Chance) {
    const LISTS: [&str; 7] = ["", "a", "a b", "b a", "c", "b c d", "a a"];
    rig.random = chance.next();
    let dialling = rig.dials.values().next().map(|a| a.addr().to_owned());
    match (chance.below(22), dialling) {
        (0..=2, _) => {
            rig.connect();
        }
        (3..=4, _) => {
            rig.update(LISTS[chance.below(7) as usize]);
        }
        (5..=6, Some(address)) => {
            rig.succeed(&address);
        }
        (7..=9, Some(address)) => {
            rig.fail(&address);
        }
        (10, _) => {
            rig.lose_nth(chance.below(3) as usize);
        }
        (11, _) => {
            rig.earn_nth(chance.below(3) as usize);
        }
        (12, _) if chance.below(4) == 0 => {
            rig.reset_backoff();
        }
        (13, _) if rig.busy => {
            if let Some(address) = rig.waiting() {
                rig.begin(&address);
            }
        }
        (14, _) if chance.below(4) == 0 => rig.busy = !rig.busy,
        (15..=17, _) => {
            rig.crowd();
        }
        (18, _) => {
            rig.allow(chance.below(4) as usize);
        }
        _ => {
            let nanos = chance.below(3_000_000_000) + 1;
            rig.pass(Duration::from_nanos(nanos));
        }
    }
}

#[test]
fn no_history_breaks_the_table() {
    for seed in 0..4_000 {
        let mut chance = Chance(seed);
        let mode = [Reconnect::Immediately, Reconnect::WhenAsked][chance.below(2) as usize];
        let delay = (chance.below(2) == 0).then_some(Duration::from_millis(250));
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut rig = Rig::with(mode, "a b c", delay, Duration::from_secs(20));
            for _ in 0..120 {
                step(&mut rig, &mut chance);
            }
            rig.log();
            if chance.below(2) == 0 {
                rig.remove();
                for _ in 0..20 {
                    step(&mut rig, &mut chance);
                }
                assert_eq!(rig.state, State::Shutdown);
                let ending = rig.log();
                assert!(ending.ends_with('X'), "silence after X: {ending}");
            } else {
                ends_well(&mut rig);
            }
        }));
        assert!(run.is_ok(), "seed {seed}");
    }
}

/// From wherever it is, the SubConn connects once the network is fine and somebody asks.
fn ends_well(rig: &mut Rig) {
    rig.busy = false;
    rig.update("z");
    for _ in 0..20 {
        rig.connect();
        match rig.state {
            State::Ready => return,
            State::Connecting if rig.timers.contains_key(&MachineTimer::PassDeadline) => {
                rig.succeed("z");
            }
            _ => {
                rig.pass(Duration::from_secs(145));
            }
        }
    }
    panic!("stuck in {}", rig.state);
}
