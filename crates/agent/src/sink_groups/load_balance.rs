//! The `load_balance` processor: the sinks take turns.
//!
//! As Flume: `round_robin` begins one sink further at each call, among the sinks that may be used
//! now; `random` tries them in a new random order each time. With `backoff`, a sink that failed
//! is left out until `min(maxTimeOut, 2^n seconds)` have passed, where n grows to 16 while
//! failures follow each other within an hour of the end of the last delay; success does not
//! reset it. Other than Flume: `random` with all sinks left out is the same error as with
//! `round_robin`, and sinks take turns in the order of the group.

use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::channel::error_chain;
use flafka_flow::registry::{BuildContext, SinkProcessorFactory, TypeNames};
use flafka_flow::settings::{Millis, Problem, Report, Section, Severity};
use flafka_flow::sink::{SinkError, Status};
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::time::Instant;
use tracing::warn;

use super::member::{Member, none_worked, start_all};

const DEFAULT_MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// A longer delay means for ever; clocks cannot be added up without end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// What a failure costs, before it is doubled for each failure in a row.
const DELAY: Duration = Duration::from_secs(1);
/// Failures in a row that are counted at most.
const MOST_FAILURES: u32 = 16;
/// How long after the end of a delay a failure still counts as in a row.
const IN_A_ROW: Duration = Duration::from_secs(3600);

flafka_flow::choice! {
    /// In which order sinks are tried.
    pub enum Order {
        /// One after the other.
        RoundRobin = "round_robin",
        /// A new random order for each call.
        Random = "random",
    }
}

flafka_flow::settings! {
    /// Spreads the work over the sinks of the group. When one fails, the others are tried.
    pub struct LoadBalanceProcessorConfig {
        /// Order in which the sinks are tried: `round_robin` begins one sink further each time,
        /// `random` makes a new order each time.
        "selector" => order: Order = Order::RoundRobin,
        /// Whether a sink that failed is left out for a while: 2 s, and twice as long after each
        /// further failure.
        "backoff" => backoff: bool = false,
        /// Milliseconds that a failed sink is left out at most. 0 = the default.
        "selector.maxTimeOut" => max_timeout: Millis = Millis(DEFAULT_MAX_TIMEOUT),
    }
}

/// Makes load-balancing processors.
pub struct LoadBalanceProcessorFactory;

impl SinkProcessorFactory for LoadBalanceProcessorFactory {
    type Config = LoadBalanceProcessorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("load_balance"),
        also: &[],
        classes: &["org.apache.flume.sink.LoadBalancingSinkProcessor"],
    };

    fn check(
        _config: &LoadBalanceProcessorConfig,
        sinks: &[String],
        section: &Section,
        report: &mut Report,
    ) {
        if sinks.len() < 2 {
            let message = format!(
                "load balancing needs at least two sinks; the group has {}",
                sinks.len()
            );
            report.push(
                Problem::new(Severity::Error, section.path.clone(), message)
                    .at(section.span)
                    .help("name more sinks, or set `processor.type` to `default`"),
            );
        }
    }

    fn build(
        config: LoadBalanceProcessorConfig,
        sinks: Vec<NamedSink>,
        _context: &BuildContext,
    ) -> Box<dyn SinkProcessor> {
        Box::new(LoadBalanceProcessor::new(
            &config,
            sinks,
            SmallRng::from_rng(&mut rand::rng()),
        ))
    }
}

/// How often a sink failed in a row, and until when it is left out.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    in_a_row: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

pub(super) struct LoadBalanceProcessor {
    members: Vec<Member>,
    failures: Vec<Failures>,
    order: Order,
    backoff: bool,
    max_timeout: Duration,
    next: usize,
    random: SmallRng,
}

impl LoadBalanceProcessor {
    pub(super) fn new(
        config: &LoadBalanceProcessorConfig,
        sinks: Vec<NamedSink>,
        random: SmallRng,
    ) -> Self {
        let max_timeout = match config.max_timeout.0 {
            Duration::ZERO => DEFAULT_MAX_TIMEOUT,
            longer => longer.min(LONGEST),
        };
        Self {
            failures: vec![Failures::default(); sinks.len()],
            members: sinks.into_iter().map(Member::new).collect(),
            order: config.order,
            backoff: config.backoff,
            max_timeout,
            next: 0,
            random,
        }
    }

    /// The sinks to try, in order.
    fn order(&mut self) -> Vec<usize> {
        let now = Instant::now();
        let usable =
            |failures: &Failures| !self.backoff || failures.until.is_none_or(|until| until < now);
        let mut order: Vec<usize> = (0..self.members.len())
            .filter(|index| usable(&self.failures[*index]))
            .collect();
        if order.is_empty() {
            return order;
        }
        match self.order {
            Order::Random => order.shuffle(&mut self.random),
            Order::RoundRobin => {
                let begin = if self.next < order.len() {
                    self.next
                } else {
                    0
                };
                self.next = (begin + 1) % order.len();
                order.rotate_left(begin);
            }
        }
        order
    }

    fn fail(&mut self, index: usize) {
        if !self.backoff {
            return;
        }
        let now = Instant::now();
        let max_timeout = self.max_timeout;
        let delay = |in_a_row: u32| (DELAY * (1 << in_a_row)).min(max_timeout);
        let failures = &mut self.failures[index];
        let follows = failures
            .last
            .is_some_and(|last| now - last < delay(failures.in_a_row) + IN_A_ROW);
        failures.in_a_row = match follows {
            true => (failures.in_a_row + 1).min(MOST_FAILURES),
            false => 1,
        };
        failures.last = Some(now);
        failures.until = Some(now + delay(failures.in_a_row));
    }
}

#[async_trait]
impl SinkProcessor for LoadBalanceProcessor {
    async fn start(&mut self) -> Result<(), SinkError> {
        let mut failed = start_all(&mut self.members).await;
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
        for index in self.order() {
            match self.members[index].process().await {
                Ok(status) => return Ok(status),
                Err(error) => {
                    let text = error_chain(&error);
                    let sink = self.members[index].name();
                    warn!(
                        sink,
                        error = text,
                        "the sink failed; trying the next one of the group"
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
