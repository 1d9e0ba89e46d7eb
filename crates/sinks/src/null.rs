//! The null sink: takes events and forgets them.

use std::sync::Arc;

use async_trait::async_trait;
use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SinkFactory, TypeNames};
use flafka_flow::settings::Count;
use flafka_flow::sink::{Sink, SinkError, Status};
use tracing::info;

flafka_flow::settings! {
    /// Takes events from its channel and forgets them.
    pub struct NullSinkConfig {
        /// Events in one transaction at most.
        "batchSize" => batch_size: Count = Count(100),
        /// After how many events the log says how many there were so far.
        "logEveryNEvents" => log_every: Count = Count(10_000),
    }
}

/// Makes null sinks.
pub struct NullSinkFactory;

impl SinkFactory for NullSinkFactory {
    type Config = NullSinkConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("null"),
        also: &[],
        classes: &["org.apache.flume.sink.NullSink"],
    };

    fn build(
        config: NullSinkConfig,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
    ) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(NullSink {
            config,
            channel,
            name: context.name().to_owned(),
            forgotten: 0,
            counters: context.counters(ComponentKind::Sink, sets::SINK, false),
            clock: Arc::clone(&context.clock),
        }))
    }

    fn batch_size(config: &NullSinkConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

struct NullSink {
    config: NullSinkConfig,
    channel: Arc<dyn Channel>,
    name: String,
    forgotten: u64,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Sink for NullSink {
    async fn start(&mut self) -> Result<(), SinkError> {
        self.counters.started(self.clock.as_ref());
        Ok(())
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        let limit = TakeLimit::events(self.config.batch_size.0);
        let taken = self.channel.take(limit).await;
        let lease = taken.inspect_err(|_| self.counters.add(Metric::ChannelReadFail, 1))?;
        if lease.is_empty() {
            self.counters.add(Metric::BatchEmptyCount, 1);
            return Ok(Status::Backoff);
        }
        let events = lease.batch().len() as u64;
        self.counters.add(Metric::EventDrainAttemptCount, events);
        lease.commit().await?;
        self.counters.add(Metric::EventDrainSuccessCount, events);
        let every = self.config.log_every.0 as u64;
        let before = self.forgotten / every;
        self.forgotten += events;
        if self.forgotten / every > before {
            info!(
                sink = self.name,
                events = self.forgotten,
                "null sink has forgotten events"
            );
        }
        Ok(Status::Ready)
    }

    async fn stop(&mut self) -> Result<(), SinkError> {
        self.counters.stopped(self.clock.as_ref());
        info!(
            sink = self.name,
            events = self.forgotten,
            "null sink stopped"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::doubles::{TestChannel, build_context};
    use flafka_flow::conformance::sink::{Target, suite};
    use flafka_flow::settings::{Report, Section, Settings};

    use super::*;

    struct Nowhere;

    impl Target for Nowhere {
        fn refuse(&mut self, _refuse: bool) -> bool {
            false
        }

        fn bodies(&mut self) -> Option<Vec<Vec<u8>>> {
            None
        }
    }

    fn sink(channel: Arc<dyn Channel>, pairs: &[(&str, &str)]) -> Box<dyn Sink> {
        let section = Section::of("a1.sinks.k1", pairs.iter().copied());
        let config = NullSinkConfig::from_section(&section, &mut Report::new()).expect("valid");
        NullSinkFactory::build(config, channel, &build_context("k1")).expect("builds")
    }

    #[tokio::test]
    async fn conforms() {
        suite(async |channel| (sink(channel, &[("batchSize", "7")]), Nowhere)).await;
    }

    #[tokio::test]
    async fn a_batch_is_one_transaction() {
        let channel = TestChannel::new();
        channel.fill((0..250).map(|_| flafka_flow::Event::new("x")));
        let mut sink = sink(channel.clone(), &[]);
        assert_eq!(sink.process().await.expect("works"), Status::Ready);
        assert_eq!(channel.remaining(), 150);
    }
}
