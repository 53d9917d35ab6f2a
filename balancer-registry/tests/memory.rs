//! What was parsed lately is not parsed again, and what is remembered has bounds.

use std::sync::{Arc, Mutex};

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, ConfigError, LbConfig, ParseContext,
};
use balancer_registry::{Limits, Registry, ServiceConfig};

/// Writes down what it is given to parse.
#[derive(Default)]
struct Reader {
    parsed: Mutex<Vec<String>>,
}

impl Builder for Reader {
    fn name(&self) -> &str {
        "reader"
    }

    fn build(&self, _: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        unreachable!("these tests build no balancer")
    }

    fn parse_config(&self, json: &str, _: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        self.parsed.lock().unwrap().push(json.to_owned());
        Ok(LbConfig::new(json, ()))
    }
}

struct Memory {
    registry: Registry,
    reader: Arc<Reader>,
}

impl Memory {
    fn new() -> Self {
        let (registry, reader) = (Registry::new(), Arc::<Reader>::default());
        registry.register(reader.clone()).expect("a good name");
        Self { registry, reader }
    }

    fn ask(&self, json: &str) -> LbConfig {
        let mut limits = Limits::default();
        limits.max_bytes = 4 << 20;
        let config = format!(r#"{{"loadBalancingConfig":[{{"reader":{json}}}]}}"#);
        let config = ServiceConfig::parse_with(config, &self.registry, &limits);
        let config = config.expect("a good config");
        config.resolve().config().expect("it has one").clone()
    }

    /// How often `json` was parsed.
    fn parsed(&self, json: &str) -> usize {
        let parsed = self.reader.parsed.lock().unwrap();
        parsed.iter().filter(|text| *text == json).count()
    }
}

fn numbered(n: usize) -> String {
    format!(r#"{{"n":{n}}}"#)
}

/// A configuration of so many bytes.
fn of_length(length: usize) -> String {
    let frame = r#"{"x":""}"#.len();
    format!(r#"{{"x":"{}"}}"#, "y".repeat(length - frame))
}

#[test]
fn what_is_asked_for_now_and_then_is_parsed_once() {
    let memory = Memory::new();
    let first = memory.ask(&numbered(0));
    // 256 others push it into the older half, the next 256 would push it out.
    for round in 0..4 {
        for other in 0..300 {
            memory.ask(&numbered(1 + round * 300 + other));
        }
        let again = memory.ask(&numbered(0));
        assert!(again.is_same(&first), "round {round}");
    }
    assert_eq!(memory.parsed(&numbered(0)), 1);
}

#[test]
fn what_nobody_asked_for_is_forgotten_after_two_halves() {
    let memory = Memory::new();
    memory.ask(&numbered(0));
    // The young half holds 256, and so does the old one.
    for other in 1..512 {
        memory.ask(&numbered(other));
    }
    memory.ask(&numbered(1));
    assert_eq!(memory.parsed(&numbered(1)), 1, "still there");
    for other in 512..1_100 {
        memory.ask(&numbered(other));
    }
    memory.ask(&numbered(0));
    assert_eq!(memory.parsed(&numbered(0)), 2, "gone, and read anew");
}

#[test]
fn bytes_fill_a_half_as_well_as_entries() {
    const HALF: usize = 256 << 10;
    let memory = Memory::new();
    let (small, half) = (numbered(0), of_length(HALF / 2));
    memory.ask(&half);
    memory.ask(&of_length(HALF / 2 - 1));
    memory.ask(&small);
    // Together they are more than a half by now; one more of that size and the first is in neither.
    memory.ask(&of_length(HALF - 10));
    memory.ask(&of_length(HALF - 11));
    memory.ask(&half);
    assert_eq!(memory.parsed(&half), 2, "must count bytes");
    memory.ask(&of_length(HALF - 11));
    assert_eq!(memory.parsed(&of_length(HALF - 11)), 1);
}

#[test]
fn a_text_as_large_as_the_memory_is_remembered_and_a_larger_one_is_not() {
    let memory = Memory::new();
    for (length, times) in [(256 << 10, 1), ((256 << 10) + 1, 2)] {
        let json = of_length(length);
        memory.ask(&json);
        memory.ask(&json);
        assert_eq!(memory.parsed(&json), times, "{length} bytes");
    }
}

#[test]
fn a_half_takes_what_just_fits() {
    const HALF: usize = 256 << 10;
    let memory = Memory::new();
    let first = of_length(HALF / 2);
    let second = first.replace("\"x\"", "\"z\"");
    for json in [&first, &second, &of_length(HALF - 1), &first] {
        memory.ask(json);
    }
    assert_eq!(
        memory.parsed(&first),
        1,
        "the two filled one half, the third made it the older one"
    );
}
