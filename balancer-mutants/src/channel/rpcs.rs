//! RPCs: the pick loop, streams, transparent retries, and who is told of it.

use balancer_api::{
    Code, ConnectivityState as State, Done, DoneInfo, Pick, PickError, PickOptions, Status,
    SubConn, Timestamp,
};
use balancer_testkit::witness::{RpcOptions, Serve};

use super::{Fault, Published, Reference, conn::Handle, lock};

/// An RPC, under way or over.
pub(super) struct Rpc {
    options: RpcOptions,
    deadline: Option<Timestamp>,
    stage: Stage,
    /// How often a server refused it.
    refused: u32,
    /// How often it turned out not to have left.
    unsent: u32,
    /// Whether a fault has struck it.
    struck: bool,
    pub(super) outcome: Option<Result<(), Status>>,
    /// What a faulty channel tells when all is over.
    late: Vec<Done>,
    never_expires: bool,
}

enum Stage {
    When(State),
    Start,
    Waiting(u64),
    /// On a connection that has no room for a stream.
    Unopened(u64, Done),
    Running(u64, Done, Option<Timestamp>),
    Over,
}

// === impl Rpc ===

impl Rpc {
    pub(super) fn due(&self) -> Option<Timestamp> {
        let deadline = match self.stage {
            Stage::Over | Stage::When(_) => None,
            Stage::Waiting(_) if self.never_expires => None,
            _ => self.deadline,
        };
        let answer = match &self.stage {
            Stage::Running(.., at) => *at,
            _ => None,
        };
        deadline.into_iter().chain(answer).min()
    }

    pub(super) fn conn(&self) -> Option<u64> {
        match &self.stage {
            Stage::Unopened(conn, _) | Stage::Running(conn, ..) => Some(*conn),
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    fn end(&mut self, outcome: Result<(), Status>) {
        for done in self.late.drain(..) {
            done.complete(&DoneInfo::new().with_err(&Status::unavailable("late")));
        }
        self.stage = Stage::Over;
        self.outcome = Some(outcome);
    }
}

// === impl Reference ===

impl Reference {
    pub(super) fn begin_rpc(&mut self, options: RpcOptions) -> usize {
        let deadline = options.timeout.map(|timeout| self.now() + timeout);
        self.rpcs.push(Rpc {
            options,
            deadline,
            stage: options.when.map_or(Stage::Start, Stage::When),
            refused: 0,
            unsent: 0,
            struck: false,
            outcome: None,
            late: Vec::new(),
            never_expires: self.is(Fault::WaitsForEver),
        });
        self.rpcs.len() - 1
    }

    /// Takes every RPC as far as it gets; answers whether one moved.
    pub(super) fn drive_rpcs(&mut self) -> bool {
        let mut moved = false;
        for rpc in 0..self.rpcs.len() {
            while self.step(rpc) {
                moved = true;
            }
        }
        moved
    }

    fn step(&mut self, n: usize) -> bool {
        let now = self.now();
        let state = *lock(&self.shared.state);
        let generation = self.published.as_ref().map_or(0, |it| it.generation);
        let picks_first = self.is(Fault::PicksBeforeDeadline);
        let rpc = &mut self.rpcs[n];
        let expired = rpc.due().is_some() && rpc.deadline.is_some_and(|at| at <= now);
        if expired && !(picks_first && matches!(rpc.stage, Stage::Start)) {
            let status = Status::new(Code::DeadlineExceeded, "the deadline has passed");
            self.give_up(n, status);
            return true;
        }
        match &rpc.stage {
            Stage::Over => false,
            Stage::When(wanted) => {
                let begins = *wanted == state;
                if begins {
                    rpc.stage = Stage::Start;
                }
                begins
            }
            Stage::Start => {
                self.look(n);
                true
            }
            Stage::Waiting(seen) => {
                let survives = self.fault == Fault::WaitSurvivesClose && rpc.options.wait_for_ready;
                let moves = (self.closed && !survives) || *seen != generation;
                if moves {
                    self.look(n);
                }
                moves
            }
            Stage::Unopened(conn, _) => {
                let failed = !self.conns[conn].alive;
                if failed {
                    self.unopened(n);
                }
                failed
            }
            Stage::Running(.., at) => {
                let answered = at.is_some_and(|at| at <= now);
                if answered {
                    self.answered(n);
                }
                answered
            }
        }
    }

    /// Asks the picker.
    fn look(&mut self, n: usize) {
        let options = self.rpcs[n].options;
        let waits = options.wait_for_ready;
        let survives = self.is(Fault::WaitSurvivesClose) && waits;
        if self.closed && !survives {
            let code = match self.fault {
                Fault::CloseIsUnavailable => Code::Unavailable,
                _ => Code::Cancelled,
            };
            self.rpcs[n].end(Err(Status::new(code, "the channel is closed")));
            return;
        }
        let Some(published) = self.published.clone() else {
            self.rpcs[n].stage = Stage::Waiting(0);
            return;
        };
        let Published {
            generation,
            policy,
            picker,
        } = published;
        let wait = Stage::Waiting(generation);
        let asked = PickOptions::new("/suite.Suite/Call").with_wait_for_ready(waits);
        let picked = picker.pick(&asked).map(Pick::into_owned);
        let rpc = &mut self.rpcs[n];
        let again = !rpc.struck;
        let unavailable = |text: &str| Err(Status::unavailable(text.to_owned()));
        match picked {
            Ok(pick) => {
                let sub_conn = pick.sub_conn().clone();
                let (done, _) = pick.into_parts();
                self.picked(n, &sub_conn, done, generation, &policy);
            }
            Err(PickError::NoSubConnAvailable) => {
                rpc.stage = wait;
                if self.fault == Fault::AsksTwice && again {
                    rpc.struck = true;
                    rpc.stage = Stage::Start;
                }
            }
            Err(PickError::TransientFailure(why)) => {
                let queue = match self.fault {
                    Fault::WaitForReadyFails => false,
                    Fault::FailFastWaits => true,
                    _ => waits,
                };
                if queue {
                    rpc.stage = wait;
                } else if self.fault == Fault::FailFastSaysNothing {
                    rpc.end(unavailable("unavailable"));
                } else {
                    rpc.end(unavailable(why.as_deref().unwrap_or_default()));
                }
            }
            Err(PickError::Failed(_)) if waits && self.fault == Fault::FailedWaits => {
                rpc.stage = wait;
            }
            Err(PickError::Failed(why)) => rpc.end(unavailable(&why)),
            Err(PickError::Drop(_)) if waits && self.fault == Fault::DropWaits => {
                rpc.stage = wait;
            }
            Err(PickError::Drop(_)) if self.fault == Fault::DropRetried && again => {
                rpc.struck = true;
                rpc.stage = Stage::Start;
            }
            Err(PickError::Drop(status)) => {
                let status = match self.fault {
                    Fault::CodesAsTheyAre => (*status).clone(),
                    _ => status.restricted_to_control_plane(),
                };
                rpc.end(Err(status));
            }
        }
    }

    fn picked(&mut self, n: usize, sub_conn: &SubConn, done: Done, seen: u64, policy: &str) {
        let handle = sub_conn.downcast_ref::<Handle>();
        let handle = handle.filter(|handle| handle.belongs_to(&self.shared));
        let Some(handle) = handle else {
            done.complete(&DoneInfo::new());
            if self.is(Fault::StrangeWaits) {
                self.rpcs[n].stage = Stage::Waiting(seen);
            } else {
                let text = format!("policy {policy:?} picked a SubConn that is not the channel's");
                self.rpcs[n].end(Err(Status::new(Code::Internal, text)));
            }
            return;
        };
        let sub = self.subs.get(&handle.id);
        let removed = sub.is_none_or(|sub| sub.removed);
        let ready = sub.filter(|sub| !sub.removed && sub.state == State::Ready);
        let Some(conn) = ready.and_then(|sub| sub.conn) else {
            let wrong = Status::unavailable("the SubConn is not READY");
            let mut info = DoneInfo::new();
            if self.is(Fault::NotReadyIsAnError) {
                info = info.with_err(&wrong);
            }
            done.complete(&info);
            let fails = match self.fault {
                Fault::NotReadyFails => !removed && !self.rpcs[n].options.wait_for_ready,
                Fault::RemovedFails => removed,
                _ => false,
            };
            if fails {
                self.rpcs[n].end(Err(wrong));
            } else {
                self.rpcs[n].stage = Stage::Waiting(seen);
            }
            return;
        };
        let now = self.now();
        let late = self.is(Fault::PicksBeforeDeadline);
        if late && self.rpcs[n].deadline.is_some_and(|at| at <= now) {
            drop(done);
            let status = Status::new(Code::DeadlineExceeded, "the deadline has passed");
            self.rpcs[n].end(Err(status));
            return;
        }
        let address = self.conns[&conn].address.clone();
        let rpc = &mut self.rpcs[n];
        match self.peers.get(&address).copied().unwrap_or_default().serve {
            Serve::Answer => rpc.stage = Stage::Running(conn, done, Some(now)),
            Serve::AnswerAfter(wait) => rpc.stage = Stage::Running(conn, done, Some(now + wait)),
            Serve::NoStream => rpc.stage = Stage::Unopened(conn, done),
            Serve::Refuse => self.refused(n, done),
            Serve::BreakAfterHeaders => {
                let status = Status::unavailable("the stream was reset");
                let again = self.is(Fault::RetriesAfterHeaders);
                self.broken(n, done, status, again);
            }
        }
    }

    fn answered(&mut self, n: usize) {
        let rpc = &mut self.rpcs[n];
        if let Stage::Running(_, done, _) = std::mem::replace(&mut rpc.stage, Stage::Over) {
            let info = DoneInfo::new()
                .with_bytes_sent(true)
                .with_bytes_received(true);
            done.complete(&info);
            rpc.end(Ok(()));
        }
    }

    /// The connection ended before there was room for a stream.
    fn unopened(&mut self, n: usize) {
        let fault = self.fault;
        let status = Status::unavailable("the connection ended before the RPC had left");
        let rpc = &mut self.rpcs[n];
        let Stage::Unopened(_, done) = std::mem::replace(&mut rpc.stage, Stage::Start) else {
            return;
        };
        rpc.unsent += 1;
        let gives_up = match fault {
            Fault::UnsentFails => true,
            Fault::UnsentOnce => rpc.unsent > 1,
            _ => false,
        };
        let sent = fault == Fault::UnsentWasSent;
        match fault {
            Fault::UnopenedUntold => self.graveyard.push(done),
            Fault::DoneLate => rpc.late.push(done),
            _ => self.failed(done, &status, sent),
        }
        if gives_up {
            self.rpcs[n].end(Err(status));
        }
    }

    fn refused(&mut self, n: usize, done: Done) {
        let status = Status::unavailable("the server refused the stream");
        let limit = match self.fault {
            Fault::RefusedFails => 0,
            Fault::RefusedAgain => 3,
            _ => 1,
        };
        if self.is(Fault::DoneLate) {
            self.rpcs[n].late.push(done);
        } else {
            self.failed(done, &status, true);
        }
        let rpc = &mut self.rpcs[n];
        rpc.refused += 1;
        rpc.stage = Stage::Start;
        if rpc.refused > limit {
            rpc.end(Err(status));
        }
    }

    /// An attempt that a server may have seen has failed.
    fn broken(&mut self, n: usize, done: Done, status: Status, again: bool) {
        self.failed(done, &status, true);
        let rpc = &mut self.rpcs[n];
        if again && !rpc.struck {
            rpc.struck = true;
            rpc.stage = Stage::Start;
        } else {
            rpc.end(Err(status));
        }
    }

    /// Tells the observers of a failed attempt.
    fn failed(&self, done: Done, status: &Status, sent: bool) {
        let mut info = DoneInfo::new().with_bytes_sent(sent);
        if !self.is(Fault::ErrorsUntold) {
            info = info.with_err(status);
        }
        done.complete(&info);
    }

    pub(super) fn rpcs_lost(&mut self, conn: u64) {
        let again = self.is(Fault::RetriesOnLoss);
        for n in 0..self.rpcs.len() {
            let rpc = &mut self.rpcs[n];
            if !matches!(&rpc.stage, Stage::Running(on, ..) if *on == conn) {
                continue;
            }
            if let Stage::Running(_, done, _) = std::mem::replace(&mut rpc.stage, Stage::Over) {
                let status = Status::unavailable("the connection broke");
                self.broken(n, done, status, again);
            }
        }
    }

    /// The RPC ends for a reason of its own side.
    fn give_up(&mut self, n: usize, status: Status) {
        let untold = match status.code() {
            Code::Cancelled if self.closed => self.is(Fault::CloseUntold),
            Code::Cancelled => self.is(Fault::CancelUntold),
            _ => false,
        };
        let stage = std::mem::replace(&mut self.rpcs[n].stage, Stage::Over);
        if let Stage::Unopened(_, done) | Stage::Running(_, done, _) = stage {
            match untold {
                true => self.graveyard.push(done),
                false => self.failed(done, &status, true),
            }
        }
        self.rpcs[n].end(Err(status));
    }

    pub(super) fn cancel(&mut self, n: usize) {
        if !self.rpcs[n].is_over() {
            self.give_up(n, Status::new(Code::Cancelled, "cancelled"));
        }
    }

    /// The channel is closed: those in flight end; those that wait find out by themselves.
    pub(super) fn cancel_all(&mut self) {
        for n in 0..self.rpcs.len() {
            if self.rpcs[n].conn().is_some() {
                self.give_up(n, Status::new(Code::Cancelled, "the channel is closed"));
            }
        }
    }
}
