//! One channel, its world and the puppets in it: what a trial is played on.

use std::{sync::Arc, time::Duration};

use balancer_api::{
    Code, ConnectivityState as State, NewSubConnOptions, Reconnect, Status, SubConn,
};

use super::{
    Complaint, Witness,
    puppet::{Answer, Book, Instance, Puppet},
    under_test::{
        Ability, ChannelUnderTest, Ending, MakeChannel, Peer, Resolved, RpcOptions, failed, words,
    },
};

/// What a trial comes to: the sentence says what must have been, and what was.
pub(super) type Check = Result<(), String>;

/// Ends a trial unless something is so.
macro_rules! must {
    ($so:expr, $($words:tt)+) => {
        if !$so {
            return Err(format!($($words)+));
        }
    };
}
pub(super) use must;

pub(super) struct Stage {
    channel: Box<dyn ChannelUnderTest>,
    state: Arc<dyn Fn() -> State + Send + Sync>,
    pub(super) book: Book,
    pub(super) witness: Witness,
    /// The policy that works while no service config says otherwise.
    pub(super) first: Arc<Puppet>,
    pub(super) second: Arc<Puppet>,
    pub(super) third: Arc<Puppet>,
}

/// The name of the witness's own policy, as a config has it.
pub(super) const OWN: &str = "witness";

impl Stage {
    pub(super) fn new(make: &MakeChannel) -> Self {
        let (book, witness) = (Book::default(), Witness::new());
        let [first, second, third] =
            ["first", "second", "third"].map(|name| Puppet::new(name, &book));
        let mut policies: Vec<_> = [&first, &second, &third]
            .map(|puppet| witness.around(puppet.builder()))
            .into();
        policies.push(witness.policy());
        let mut channel = make(policies);
        let state = channel.state_reader();
        Self {
            channel,
            state,
            book,
            witness,
            first,
            second,
            third,
        }
    }

    /// The first thing of these that the channel cannot do.
    pub(super) fn cannot<'a>(
        &self,
        mut needed: impl Iterator<Item = &'a Ability>,
    ) -> Option<Ability> {
        needed.find(|ability| !self.channel.can(**ability)).copied()
    }

    // --- the world ---

    pub(super) fn resolve(&mut self, addresses: &[&str]) {
        self.resolved(Resolved::new(addresses.iter().copied()));
    }

    pub(super) fn resolve_with(&mut self, addresses: &[&str], policies: &[(&str, &str)]) {
        let found = Resolved::new(addresses.iter().copied());
        self.resolved(found.with_policies(policies.iter().copied()));
    }

    fn resolved(&mut self, found: Resolved) {
        let config = found.service_config();
        let config = config.map_or(String::new(), |json| format!(" with {json}"));
        let addresses = found.addresses.join(", ");
        self.book
            .line(format!("the resolver finds [{addresses}]{config}"));
        self.channel.resolve(Ok(found));
        self.channel.run();
    }

    pub(super) fn resolver_fails(&mut self, message: &str) {
        self.book.line(format!("the resolver fails: {message}"));
        self.channel.resolve(Err(message.to_owned()));
        self.channel.run();
    }

    pub(super) fn peer(&mut self, address: &str, peer: Peer) {
        let Peer { dial, serve } = peer;
        self.book.line(format!(
            "the peer at {address}: dials {dial:?}, RPCs {serve:?}"
        ));
        self.channel.set_peer(address, peer);
        self.channel.run();
    }

    pub(super) fn end(&mut self, address: &str, how: Ending) {
        self.book.line(format!(
            "the peer at {address} ends its connections: {how:?}"
        ));
        self.channel.end_connections(address, how);
        self.channel.run();
    }

    pub(super) fn run(&mut self) {
        self.channel.run();
    }

    pub(super) fn pass(&mut self, seconds: f64) {
        self.book.line(format!("{seconds} s pass"));
        self.channel.advance(Duration::from_secs_f64(seconds));
    }

    pub(super) fn close(&mut self) {
        self.book.line("the application closes the channel");
        self.channel.close();
        self.channel.run();
    }

    pub(super) fn open_connections(&mut self) -> usize {
        self.channel.open_connections()
    }

    pub(super) fn state(&self) -> State {
        (self.state)()
    }

    pub(super) fn state_reader(&self) -> Arc<dyn Fn() -> State + Send + Sync> {
        self.state.clone()
    }

    // --- policies ---

    /// The resolver finds `a`; answers the first policy.
    pub(super) fn begin(&mut self) -> Result<Arc<Instance>, String> {
        self.resolve(&["a"]);
        self.first.instance()
    }

    /// A SubConn to each address, READY, that reconnects when asked.
    pub(super) fn ready(
        &mut self,
        instance: &Arc<Instance>,
        addresses: &[&str],
    ) -> Result<SubConn, String> {
        let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
        let sub_conn = instance.make(addresses, options)?;
        sub_conn.connect();
        self.channel.run();
        let states = instance.states(&sub_conn);
        must!(
            states == [State::Connecting, State::Ready],
            "a SubConn to {addresses:?} that is told to connect must become CONNECTING and READY, not {states:?}"
        );
        Ok(sub_conn)
    }

    pub(super) fn publish(
        &mut self,
        instance: &Arc<Instance>,
        state: State,
        name: &str,
        answer: Answer,
    ) {
        instance.publish(state, name, answer);
        self.channel.run();
    }

    // --- RPCs ---

    pub(super) fn fail_fast(&mut self) -> usize {
        self.rpc(RpcOptions::fail_fast())
    }

    pub(super) fn wait_for_ready(&mut self) -> usize {
        self.rpc(RpcOptions::wait_for_ready())
    }

    pub(super) fn rpc(&mut self, options: RpcOptions) -> usize {
        let kind = match options.wait_for_ready {
            true => "waits for ready",
            false => "fails fast",
        };
        let timeout = options
            .timeout
            .map_or(String::new(), |timeout| format!(", has {timeout:?}"));
        let when = options
            .when
            .map_or("starts".to_owned(), |state| format!("starts at {state}"));
        let rpc = self.channel.start_rpc(options);
        self.book
            .line(format!("RPC {rpc}, which {kind}{timeout}, {when}"));
        self.channel.run();
        rpc
    }

    pub(super) fn cancel(&mut self, rpc: usize) {
        self.book.line(format!("RPC {rpc} is cancelled"));
        self.channel.cancel_rpc(rpc);
        self.channel.run();
    }

    pub(super) fn outcome(&mut self, rpc: usize) -> Option<Result<(), Status>> {
        let outcome = self.channel.outcome(rpc);
        self.book.line(format!("RPC {rpc} {}", words(&outcome)));
        outcome
    }

    pub(super) fn must_wait(&mut self, rpc: usize, why: &str) -> Check {
        let outcome = self.outcome(rpc);
        must!(
            outcome.is_none(),
            "RPC {rpc} must wait, {why}; it {}",
            words(&outcome)
        );
        Ok(())
    }

    pub(super) fn must_be_answered(&mut self, rpc: usize, why: &str) -> Check {
        let outcome = self.outcome(rpc);
        must!(
            matches!(outcome, Some(Ok(()))),
            "RPC {rpc} must be answered, {why}; it {}",
            words(&outcome)
        );
        Ok(())
    }

    pub(super) fn must_fail(&mut self, rpc: usize, code: Code, text: &str, why: &str) -> Check {
        let outcome = self.outcome(rpc);
        must!(
            failed(&outcome, code, text),
            "RPC {rpc} must fail with {code} and say {text:?}, {why}; it {}",
            words(&outcome)
        );
        Ok(())
    }

    /// The picker must have been asked so often.
    pub(super) fn must_ask(&mut self, picker: &str, times: usize, why: &str) -> Check {
        let asked = self.book.asked(picker);
        must!(
            asked == times,
            "picker {picker} must be asked {times} times, {why}; it was asked {asked} times"
        );
        Ok(())
    }

    // --- the end ---

    /// Ends the channel, and answers what the witness has to say, beside picks whose observers were
    /// never told.
    pub(super) fn finish(mut self) -> (Vec<Complaint>, u64) {
        self.channel.close();
        self.channel.run();
        let complaints = self.witness.complaints();
        let (picks, ends) = self.witness.picks_and_ends();
        (complaints, picks.saturating_sub(ends))
    }
}
