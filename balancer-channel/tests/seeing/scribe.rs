//! A subscriber that writes down what our crates tell, in the spans in which they tell it.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

/// Everything that is told on this thread while it lives.
pub(crate) struct Log {
    written: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

struct Scribe {
    level: Level,
    written: Arc<Mutex<Vec<String>>>,
    next: AtomicU64,
    /// Every span, and those that this thread is in.
    spans: Mutex<(HashMap<u64, String>, Vec<u64>)>,
}

struct Pen<'a>(&'a mut String);

// === impl Log ===

impl Log {
    /// What is told at `level` or above.
    pub(crate) fn of(level: Level) -> Self {
        let written: Arc<Mutex<Vec<String>>> = Arc::default();
        let scribe = Scribe {
            level,
            written: written.clone(),
            next: AtomicU64::new(1),
            spans: Mutex::default(),
        };
        Self {
            written,
            _guard: tracing::subscriber::set_default(scribe),
        }
    }

    /// The lines so far; they are forgotten.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.written))
    }

    /// The first of the lines so far that has all of `words`.
    #[track_caller]
    pub(crate) fn line(&self, words: &[&str]) -> String {
        let written = lock(&self.written);
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        let found = written.iter().find(has_all);
        found.cloned().unwrap_or_else(|| {
            let all = written.join("\n");
            panic!("no line has {words:?}:\n{all}")
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("never poisoned")
}

// === impl Scribe ===

impl Subscriber for Scribe {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("balancer_ch") && *metadata.level() <= self.level
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut line = span.metadata().name().to_owned();
        span.record(&mut Pen(&mut line));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.spans).0.insert(id, line);
        span::Id::from_u64(id)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        let spans = lock(&self.spans);
        for span in &spans.1 {
            let _ = write!(line, " [{}]", spans.0[span]);
        }
        drop(spans);
        event.record(&mut Pen(&mut line));
        lock(&self.written).push(line);
    }

    fn enter(&self, span: &span::Id) {
        lock(&self.spans).1.push(span.into_u64());
    }

    fn exit(&self, span: &span::Id) {
        let entered = &mut lock(&self.spans).1;
        let at = entered.iter().rposition(|it| *it == span.into_u64());
        entered.remove(at.expect("it was entered"));
    }
}

impl Visit for Pen<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
