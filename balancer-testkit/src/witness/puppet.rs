//! A policy that does what a trial says, and writes down what it is told.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, ClientConn, Code, ConfigError,
    ConnectivityState as State, DoneInfo, LbConfig, NewSubConnOptions, OnDone, ParseContext, Pick,
    PickError, PickOptions, Picker, Rejected, ResolveError, ResolvedAddrs, Status, SubConn,
    SubConnState, TimerId,
};

use super::lock;

/// What happened, in order. Clones are one book.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Pages>);

#[derive(Default)]
struct Pages {
    lines: Mutex<Vec<String>>,
    entries: Mutex<Vec<Entry>>,
    names: Mutex<Vec<(SubConn, String)>>,
}

/// What became of pickers.
#[derive(Clone)]
struct Entry {
    picker: String,
    end: Option<Ended>,
}

/// What the observers of a pick were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) error: Option<Code>,
    pub(super) sent: bool,
}

/// All policies of one name.
pub(super) struct Puppet {
    name: &'static str,
    book: Book,
    hook: Mutex<Option<Hook>>,
    instances: Mutex<Vec<Arc<Instance>>>,
}

type Hook = Arc<dyn Fn(&Arc<Instance>, &Told) + Send + Sync>;

/// One of them.
pub(super) struct Instance {
    name: String,
    pub(super) cc: Arc<dyn ClientConn>,
    book: Book,
    told: Mutex<Vec<Told>>,
}

/// What it was told.
#[derive(Clone)]
pub(super) enum Told {
    Built,
    State(SubConn, State),
    Addresses(Vec<String>, Option<String>),
    ResolverError(String),
    Timer(TimerId),
    Call(CallId, CallEvent),
    ExitIdle,
    Settle,
    Close,
}

/// What a picker of a puppet answers.
#[derive(Clone)]
pub(super) enum Answer {
    Queue,
    Fail(&'static str),
    Failed(&'static str),
    Drop(Code, &'static str),
    Pick(SubConn),
    /// One after the other, then the last for ever.
    InTurn(Vec<SubConn>),
}

struct Strings(Arc<Puppet>);

struct Live {
    puppet: Arc<Puppet>,
    instance: Arc<Instance>,
}

struct Scripted {
    name: String,
    answer: Answer,
    book: Book,
    /// Looked at when it is asked.
    look: Option<Look>,
}

/// Runs when a picker is asked; what it answers goes into the book.
pub(super) type Look = Arc<dyn Fn() -> String + Send + Sync>;

struct Observer(String, Book);

// === impl Book ===

impl Book {
    pub(super) fn line(&self, line: impl Into<String>) {
        lock(&self.0.lines).push(line.into());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.0.lines).clone()
    }

    fn enter(&self, picker: &str, end: Option<Ended>) {
        let picker = picker.to_owned();
        match &end {
            None => self.line(format!("    an RPC asks picker {picker}")),
            Some(ended) => {
                let error = ended
                    .error
                    .map_or("no error".to_owned(), |code| code.to_string());
                let sent = if ended.sent { "sent" } else { "nothing sent" };
                self.line(format!("    done of a pick of {picker}: {error}, {sent}"));
            }
        }
        lock(&self.0.entries).push(Entry { picker, end });
    }

    /// How often the picker was asked.
    pub(super) fn asked(&self, picker: &str) -> usize {
        let entries = lock(&self.0.entries);
        let asked = |entry: &&Entry| entry.picker == picker && entry.end.is_none();
        entries.iter().filter(asked).count()
    }

    /// How its picks ended.
    pub(super) fn ended(&self, picker: &str) -> Vec<Ended> {
        let entries = lock(&self.0.entries);
        let of = entries.iter().filter(|entry| entry.picker == picker);
        of.filter_map(|entry| entry.end).collect()
    }

    /// Who was asked and who was told, in order: `asks p`, `done p`.
    pub(super) fn order(&self) -> Vec<String> {
        let entries = lock(&self.0.entries);
        let word = |entry: &Entry| match entry.end {
            None => format!("asks {}", entry.picker),
            Some(_) => format!("done {}", entry.picker),
        };
        entries.iter().map(word).collect()
    }

    fn call_it(&self, sub_conn: &SubConn, name: &str) {
        lock(&self.0.names).push((sub_conn.clone(), name.to_owned()));
    }

    fn name_of(&self, sub_conn: &SubConn) -> String {
        let names = lock(&self.0.names);
        let known = names.iter().find(|(known, _)| known == sub_conn);
        known.map_or("a SubConn it never had".to_owned(), |(_, name)| {
            format!("the SubConn to {name}")
        })
    }
}

// === impl Puppet ===

impl Puppet {
    pub(super) fn new(name: &'static str, book: &Book) -> Arc<Self> {
        Arc::new(Self {
            name,
            book: book.clone(),
            hook: Mutex::default(),
            instances: Mutex::default(),
        })
    }

    pub(super) fn builder(self: &Arc<Self>) -> impl Builder + use<> {
        Strings(self.clone())
    }

    /// From now on, `hook` runs within each callback, after it was written down.
    pub(super) fn on(&self, hook: impl Fn(&Arc<Instance>, &Told) + Send + Sync + 'static) {
        *lock(&self.hook) = Some(Arc::new(hook));
    }

    /// How many were built.
    pub(super) fn built(&self) -> usize {
        lock(&self.instances).len()
    }

    /// The last that was built.
    pub(super) fn instance(&self) -> Result<Arc<Instance>, String> {
        let instances = lock(&self.instances);
        let last = instances.last().cloned();
        last.ok_or_else(|| format!("the channel must have built policy {:?}", self.name))
    }

    fn tell(&self, instance: &Arc<Instance>, told: Told) {
        // So many of them; they would hide the rest.
        if !matches!(told, Told::Settle) {
            let line = told.words(&self.book);
            self.book
                .line(format!("  {} is told: {line}", instance.name));
        }
        lock(&instance.told).push(told.clone());
        let hook = lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook(instance, &told);
        }
    }
}

impl fmt::Debug for Puppet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Puppet({})", self.name)
    }
}

// === impl Instance ===

impl Instance {
    /// Makes a SubConn and answers it.
    pub(super) fn make(
        &self,
        addresses: &[&str],
        options: NewSubConnOptions,
    ) -> Result<SubConn, String> {
        let list = addresses.iter().map(|addr| Address::new(*addr)).collect();
        let made = self.cc.new_sub_conn(list, options);
        let made = made.map_err(|error| format!("a SubConn must be made, not {error}"))?;
        self.book.call_it(&made, &addresses.join(", "));
        Ok(made)
    }

    /// Publishes a picker of that name.
    pub(super) fn publish(&self, state: State, name: &str, answer: Answer) {
        self.publish_looking(state, name, answer, None);
    }

    pub(super) fn publish_looking(
        &self,
        state: State,
        name: &str,
        answer: Answer,
        look: Option<Look>,
    ) {
        self.book.line(format!(
            "{} publishes {state} with picker {name}",
            self.name
        ));
        let picker = Scripted {
            name: name.to_owned(),
            answer,
            book: self.book.clone(),
            look,
        };
        self.cc.update_balancer_state(state, Arc::new(picker));
    }

    pub(super) fn told(&self) -> Vec<Told> {
        lock(&self.told).clone()
    }

    pub(super) fn forget(&self) {
        lock(&self.told).clear();
    }

    /// The states of a SubConn that it was told.
    pub(super) fn states(&self, sub_conn: &SubConn) -> Vec<State> {
        let states = |told: Told| match told {
            Told::State(of, state) if of == *sub_conn => Some(state),
            _ => None,
        };
        self.told().into_iter().filter_map(states).collect()
    }

    pub(super) fn count(&self, which: impl Fn(&Told) -> bool) -> usize {
        lock(&self.told).iter().filter(|told| which(told)).count()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.count(|told| matches!(told, Told::Close)) > 0
    }
}

// === impl Told ===

impl Told {
    fn words(&self, book: &Book) -> String {
        match self {
            Self::Built => "it is built".to_owned(),
            Self::State(sub_conn, state) => format!("{} is {state}", book.name_of(sub_conn)),
            Self::Addresses(list, None) => format!("addresses {list:?}"),
            Self::Addresses(list, Some(json)) => format!("addresses {list:?}, config {json}"),
            Self::ResolverError(message) => format!("resolver error: {message}"),
            Self::Timer(id) => format!("timer {}", id.as_raw()),
            Self::Call(id, event) => format!("call {}: {event:?}", id.as_raw()),
            Self::ExitIdle => "exit idle".to_owned(),
            Self::Settle => "settle".to_owned(),
            Self::Close => "close".to_owned(),
        }
    }
}

// === impl Builder, Balancer ===

impl Builder for Strings {
    fn name(&self) -> &str {
        self.0.name
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        let puppet = self.0.clone();
        let mut instances = lock(&puppet.instances);
        let instance = Arc::new(Instance {
            name: format!("{}#{}", puppet.name, instances.len() + 1),
            cc,
            book: puppet.book.clone(),
            told: Mutex::default(),
        });
        instances.push(instance.clone());
        drop(instances);
        puppet.tell(&instance, Told::Built);
        Box::new(Live { puppet, instance })
    }

    fn parse_config(&self, json: &str, _: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        if json.contains("invalid") {
            return Err(ConfigError::new("", json, "this config is not valid"));
        }
        Ok(LbConfig::new(json, json.to_owned()))
    }
}

impl Balancer for Live {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let told = Told::State(sub_conn.clone(), new.state);
        self.puppet.tell(&self.instance, told);
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let told = match &resolved {
            Ok(resolved) => {
                let addresses = resolved.endpoints.iter().flat_map(|e| e.addresses());
                let addresses = addresses.map(|address| address.addr().to_owned());
                let config = resolved.config.as_ref().map(|c| c.json().to_owned());
                Told::Addresses(addresses.collect(), config)
            }
            Err(error) => Told::ResolverError(error.message().to_owned()),
        };
        self.puppet.tell(&self.instance, told);
        match resolved {
            Ok(resolved) if resolved.endpoints.is_empty() => Err(Rejected::new("zero addresses")),
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.puppet.tell(&self.instance, Told::Close);
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.puppet.tell(&self.instance, Told::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.puppet.tell(&self.instance, Told::Call(id, event));
    }

    fn exit_idle(&mut self) {
        self.puppet.tell(&self.instance, Told::ExitIdle);
    }

    fn settle(&mut self) {
        self.puppet.tell(&self.instance, Told::Settle);
    }
}

// === impl Picker ===

impl Picker for Scripted {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.book.asked(&self.name);
        self.book.enter(&self.name, None);
        if let Some(look) = &self.look {
            self.book.line(format!("    meanwhile {}", look()));
        }
        let picked = match &self.answer {
            Answer::Queue => return Err(PickError::NoSubConnAvailable),
            Answer::Fail(why) => return Err(PickError::transient_failure(*why)),
            Answer::Failed(why) => return Err(PickError::failed(*why)),
            Answer::Drop(code, why) => return Err(PickError::drop(Status::new(*code, *why))),
            Answer::Pick(sub_conn) => sub_conn,
            Answer::InTurn(list) => list
                .get(turn)
                .or(list.last())
                .ok_or(PickError::NoSubConnAvailable)?,
        };
        let observer = Observer(self.name.clone(), self.book.clone());
        Ok(Pick::new(picked).on_done(Arc::new(observer), 0))
    }
}

impl OnDone for Observer {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        let Self(picker, book) = self;
        let ended = Ended {
            error: info.err().map(|status| status.code()),
            sent: info.bytes_sent(),
        };
        book.enter(picker, Some(ended));
    }
}
