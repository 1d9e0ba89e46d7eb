//! The `failover` processor: the most preferred sink that works.
//!
//! As Flume: a sink that failed is left out for `min(maxpenalty, 2^failures seconds)`, then tried
//! before the active one; when it delivers, it is among the live ones again and the most
//! preferred of them is active. A sink that is tried again and finds its channel empty stays
//! where it is. Other than Flume: the penalty does not overflow, a failed sink is tried at most
//! once a call, and sinks of equal priority are all used, the earlier one first.

use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::channel::error_chain;
use flafka_flow::registry::{BuildContext, SinkProcessorFactory, TypeNames};
use flafka_flow::settings::{
    BadValue, Field, Millis, Prefixed, Problem, Reader, Report, Section, Setting, Severity, nearest,
};
use flafka_flow::sink::{SinkError, Status};
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::member::{Member, none_worked, start_all};

/// What a failure costs, before it is doubled for each failure.
const PENALTY: Duration = Duration::from_secs(1);
/// Doublings after which every useful `maxpenalty` is reached.
const MOST_DOUBLINGS: u32 = 30;
/// A longer penalty means for ever; clocks cannot be added up without end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

flafka_flow::settings! {
    /// Lets the sink with the highest priority work, and the next one while it fails.
    pub struct FailoverProcessorConfig {
        /// `priority.<sink>`: a whole number, larger = preferred. A sink without one gets -1,
        /// the next such sink -2, and so on, in the order of the group.
        "priority.*" => priorities: Prefixed,
        /// Milliseconds that a failed sink is left out at most. It is left out for 2 s after the
        /// first failure, and twice as long after each further one.
        "maxpenalty" => max_penalty: LenientMillis = LenientMillis(Duration::from_secs(30)),
    }
}

/// Milliseconds for which the default is taken, with a warning, when the value is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LenientMillis(pub Duration);

impl Setting for LenientMillis {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Millis::parse(text).map(|millis| Self(millis.0))
    }

    fn kind() -> String {
        Millis::kind()
    }

    fn show(&self) -> Option<String> {
        Millis(self.0).show()
    }

    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        let written = reader.entry(field).map(|entry| entry.value.trim());
        match written.map(Self::parse) {
            Some(Ok(value)) => Some(value),
            Some(Err(bad)) => {
                let message = format!("{}; the default is used, as in Flume", bad.message);
                reader.warning(field.key, message);
                default
            }
            None => default,
        }
    }
}

/// Makes failover processors.
pub struct FailoverProcessorFactory;

impl SinkProcessorFactory for FailoverProcessorFactory {
    type Config = FailoverProcessorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("failover"),
        also: &[],
        classes: &["org.apache.flume.sink.FailoverSinkProcessor"],
    };

    fn check(
        config: &FailoverProcessorConfig,
        sinks: &[String],
        section: &Section,
        report: &mut Report,
    ) {
        for (name, value) in &config.priorities.0 {
            let key = format!("priority.{name}");
            let entry = section.entries.get(&key);
            let at = entry.and_then(|entry| entry.value_span.or(entry.key_span));
            let path = format!("{}.{key}", section.path);
            if !sinks.contains(name) {
                let message = format!("the group has no sink `{name}`");
                let mut problem = Problem::new(Severity::Error, path, message)
                    .at(at)
                    .ignorable();
                problem.help = nearest(name, sinks.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?"));
                report.push(problem.allowed(format!("sinks of the group: {}", sinks.join(", "))));
            } else if priority_of(value).is_none() {
                let message = "not a whole number; the sink comes after all that have one";
                report.push(
                    Problem::new(Severity::Warning, path, message)
                        .at(at)
                        .value(value),
                );
            }
        }
        let priorities = priorities(config, sinks);
        for (index, priority) in priorities.iter().enumerate() {
            if let Some(earlier) = priorities[..index]
                .iter()
                .position(|other| other == priority)
            {
                let message = format!(
                    "the same priority {priority} as {}, which is tried before (Flume leaves the later one out)",
                    sinks[earlier]
                );
                let key = format!("{}.priority.{}", section.path, sinks[index]);
                report.push(Problem::new(Severity::Warning, key, message).at(section.span));
            }
        }
    }

    fn build(
        config: FailoverProcessorConfig,
        sinks: Vec<NamedSink>,
        _context: &BuildContext,
    ) -> Box<dyn SinkProcessor> {
        let names: Vec<_> = sinks.iter().map(|named| named.name.clone()).collect();
        let priorities = priorities(&config, &names);
        let mut ranked: Vec<_> = priorities.into_iter().zip(sinks).collect();
        ranked.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let members: Vec<_> = ranked
            .into_iter()
            .map(|(_, named)| Member::new(named))
            .collect();
        Box::new(FailoverProcessor {
            states: vec![State::Live; members.len()],
            members,
            max_penalty: config.max_penalty.0.min(LONGEST),
        })
    }
}

fn priority_of(text: &str) -> Option<i32> {
    i32::parse(text.trim()).ok()
}

/// The priority of each sink.
fn priorities(config: &FailoverProcessorConfig, sinks: &[String]) -> Vec<i32> {
    let mut unnamed = 0;
    let mut priority = |name: &String| {
        let written = config.priorities.get(name).and_then(priority_of);
        written.unwrap_or_else(|| {
            unnamed -= 1;
            unnamed
        })
    };
    sinks.iter().map(&mut priority).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Failed { failures: u32, due: Instant },
}

struct FailoverProcessor {
    /// The most preferred first.
    members: Vec<Member>,
    states: Vec<State>,
    max_penalty: Duration,
}

#[async_trait]
impl SinkProcessor for FailoverProcessor {
    async fn start(&mut self) -> Result<(), SinkError> {
        let mut failed = start_all(&mut self.members).await;
        self.states.fill(State::Live);
        for (index, _) in &failed {
            self.fail(*index);
        }
        if failed.len() < self.members.len() {
            return Ok(());
        }
        let last = failed.pop().map(|(_, error)| error);
        Err(none_worked(&self.members, last))
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        let mut last = None;
        for index in self.due(Instant::now()) {
            match self.members[index].process().await {
                Ok(status) => {
                    if status == Status::Ready {
                        self.states[index] = State::Live;
                        debug!(sink = self.members[index].name(), "the sink works again");
                    }
                    return Ok(status);
                }
                Err(error) => {
                    self.fail(index);
                    last = Some(error);
                }
            }
        }
        for index in 0..self.members.len() {
            if self.states[index] != State::Live {
                continue;
            }
            match self.members[index].process().await {
                Ok(status) => return Ok(status),
                Err(error) => {
                    let text = error_chain(&error);
                    let sink = self.members[index].name();
                    warn!(
                        sink,
                        error = text,
                        "the sink failed; the next one of the group takes over"
                    );
                    self.fail(index);
                    last = Some(error);
                }
            }
        }
        Err(none_worked(&self.members, last))
    }

    async fn stop(&mut self) {
        for member in &mut self.members {
            member.stop().await;
        }
    }
}

impl FailoverProcessor {
    /// The failed sinks whose time has come, the one that waits longest first.
    fn due(&self, now: Instant) -> Vec<usize> {
        let mut waiting: Vec<_> = self
            .states
            .iter()
            .enumerate()
            .filter_map(|(index, state)| match state {
                State::Failed { due, .. } if *due < now => Some((*due, index)),
                _ => None,
            })
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, index)| index).collect()
    }

    fn fail(&mut self, index: usize) {
        let failures = match self.states[index] {
            State::Live => 1,
            State::Failed { failures, .. } => failures.saturating_add(1),
        };
        let penalty = PENALTY * (1 << failures.min(MOST_DOUBLINGS));
        self.states[index] = State::Failed {
            failures,
            due: Instant::now() + penalty.min(self.max_penalty),
        };
    }
}
