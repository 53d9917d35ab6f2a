//! A policy that uses a backend only after it has answered a call, again and again by a timer; and
//! the ways to get calls and timers wrong.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use balancer_api::{
    Builder, CallEvent, CallId, CallRequest, Endpoint, Pick, PickError, PickOptions, Picker,
    SubConn, TimerId,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet, ReadySubConn},
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    NeverCancelsCalls,
    TimerForEachEvent,
    NeverTriesAgain,
    AnswerDoesNotPublish,
    CallsAgainAtOnce,
}

struct Prober {
    bug: Bug,
    turn: usize,
    probes: BTreeMap<CallId, SubConn>,
    again: BTreeMap<TimerId, SubConn>,
    good: Vec<SubConn>,
    ready: Vec<SubConn>,
}

struct Probed(Vec<SubConn>, usize);

/// The policy with one bug, or none.
pub fn prober(bug: Bug) -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("mutant_prober", move || Prober {
        bug,
        turn: 0,
        probes: BTreeMap::new(),
        again: BTreeMap::new(),
        good: Vec::new(),
        ready: Vec::new(),
    }))
}

impl Prober {
    fn probe(&mut self, sub_conn: &SubConn, cx: &BaseContext<'_>) {
        let request = CallRequest::new("/probe.Prober/Probe").with_half_close(true);
        let id = cx.client_conn().start_call(sub_conn, request);
        self.probes.insert(id, sub_conn.clone());
    }
}

impl PickerBuilder for Prober {
    type Data = ();

    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}

    fn on_ready(&mut self, ready: &ReadySubConn, cx: &BaseContext<'_>) {
        self.ready.push(ready.sub_conn().clone());
        self.probe(ready.sub_conn(), cx);
    }

    fn on_not_ready(&mut self, ready: &ReadySubConn, cx: &BaseContext<'_>) {
        let sub_conn = ready.sub_conn();
        self.good.retain(|good| good != sub_conn);
        self.ready.retain(|known| known != sub_conn);
        let mine: Vec<CallId> = self
            .probes
            .iter()
            .filter(|(_, probed)| *probed == sub_conn)
            .map(|(id, _)| *id)
            .collect();
        for id in mine {
            self.probes.remove(&id);
            if self.bug != Bug::NeverCancelsCalls {
                cx.client_conn().cancel_call(id);
            }
        }
        let timers: Vec<TimerId> = self
            .again
            .iter()
            .filter(|(_, probed)| *probed == sub_conn)
            .map(|(id, _)| *id)
            .collect();
        for id in timers {
            self.again.remove(&id);
            cx.client_conn().cancel_timer(id);
        }
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent, cx: &BaseContext<'_>) -> bool {
        let Some(sub_conn) = self.probes.get(&id).cloned() else {
            return false;
        };
        if self.bug == Bug::TimerForEachEvent {
            for _ in 0..8 {
                cx.client_conn().set_timer(Duration::from_secs(60));
            }
        }
        match event {
            CallEvent::Message(_) => {
                if !self.good.contains(&sub_conn) {
                    self.good.push(sub_conn);
                }
                self.bug != Bug::AnswerDoesNotPublish
            }
            CallEvent::Headers(_) => false,
            CallEvent::End { .. } => {
                self.probes.remove(&id);
                if self.bug == Bug::CallsAgainAtOnce && self.ready.contains(&sub_conn) {
                    self.probe(&sub_conn, cx);
                } else if self.bug != Bug::NeverTriesAgain && self.ready.contains(&sub_conn) {
                    let timer = cx.client_conn().set_timer(Duration::from_secs(5));
                    self.again.insert(timer, sub_conn);
                }
                false
            }
        }
    }

    fn handle_timer(&mut self, id: TimerId, cx: &BaseContext<'_>) -> bool {
        if let Some(sub_conn) = self.again.remove(&id) {
            self.probe(&sub_conn, cx);
        }
        false
    }

    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        self.turn += 1;
        let good = ready.iter().map(ReadySubConn::sub_conn);
        let good = good.filter(|sub_conn| self.good.contains(sub_conn));
        Arc::new(Probed(good.cloned().collect(), self.turn))
    }
}

impl Picker for Probed {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let _ = self.1;
        match self.0.len() {
            0 => Err(PickError::NoSubConnAvailable),
            count => {
                let at = options.random() as usize % count;
                Ok(Pick::new(&self.0[at]))
            }
        }
    }
}
