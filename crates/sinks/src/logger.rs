//! The logger sink: each event as one line of the log, in Flume's form.
//!
//! `Event: { headers:{k=v} body: 68 65 6C 6C 6F                                  hello }`, at level
//! info under the target `flafka::sink::logger`. The body is a dump of sixteen bytes a row, each
//! row but the first beginning with its position; Flume shows one row because its `maxBytesToLog`
//! never arrives there, ours works.

use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use flafka_flow::EventRef;
use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SinkFactory, TypeNames};
use flafka_flow::settings::ByteSize;
use flafka_flow::sink::{Sink, SinkError, Status};
use tracing::{Level, enabled, info};

use crate::serializers::write_java_map;

/// Where the lines go: the target to filter by.
pub const TARGET: &str = "flafka::sink::logger";
/// Bytes of one row of the dump.
const ROW_BYTES: usize = 16;
/// Events in one transaction. Flume takes one by one; nobody can see the difference.
const BATCH_EVENTS: usize = 100;

flafka_flow::settings! {
    /// Writes each event to the log, at level info: for trying things out.
    pub struct LoggerSinkConfig {
        /// Bytes of the body shown at most.
        "maxBytesToLog" => max_bytes: ByteSize = ByteSize(16),
    }
}

/// Makes logger sinks.
pub struct LoggerSinkFactory;

impl SinkFactory for LoggerSinkFactory {
    type Config = LoggerSinkConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("logger"),
        also: &[],
        classes: &["org.apache.flume.sink.LoggerSink"],
    };

    fn build(
        config: LoggerSinkConfig,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
    ) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new(LoggerSink {
            max_bytes: usize::try_from(config.max_bytes.0).unwrap_or(usize::MAX),
            channel,
            counters: context.counters(ComponentKind::Sink, sets::SINK, false),
            clock: Arc::clone(&context.clock),
        }))
    }
}

struct LoggerSink {
    max_bytes: usize,
    channel: Arc<dyn Channel>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Sink for LoggerSink {
    async fn start(&mut self) -> Result<(), SinkError> {
        self.counters.started(self.clock.as_ref());
        Ok(())
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        let taken = self.channel.take(TakeLimit::events(BATCH_EVENTS)).await;
        let lease = taken.inspect_err(|_| self.counters.add(Metric::ChannelReadFail, 1))?;
        if lease.is_empty() {
            self.counters.add(Metric::BatchEmptyCount, 1);
            return Ok(Status::Backoff);
        }
        let events = lease.batch().len() as u64;
        self.counters.add(Metric::EventDrainAttemptCount, events);
        if enabled!(target: TARGET, Level::INFO) {
            for event in lease.batch().iter() {
                info!(target: TARGET, "Event: {}", dump_event(event, self.max_bytes));
            }
        }
        lease.commit().await?;
        self.counters.add(Metric::EventDrainSuccessCount, events);
        Ok(Status::Ready)
    }

    async fn stop(&mut self) -> Result<(), SinkError> {
        self.counters.stopped(self.clock.as_ref());
        Ok(())
    }
}

/// The event as Flume prints it, with at most `max_bytes` of the body.
pub fn dump_event(event: EventRef<'_>, max_bytes: usize) -> String {
    let shown = &event.body[..event.body.len().min(max_bytes)];
    let mut line = String::with_capacity(64 + shown.len() * 4 + event.headers.encoded().len());
    line.push_str("{ headers:");
    write_java_map(event.headers, &mut line);
    line.push_str(" body:");
    for (index, row) in shown.chunks(ROW_BYTES).enumerate() {
        if index > 0 {
            let position = index * ROW_BYTES;
            write!(line, "\n{position:08X}").expect("writing to a string cannot fail");
        }
        push_row(row, &mut line);
    }
    line.push_str(" }");
    line
}

fn push_row(row: &[u8], line: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    line.push(' ');
    for byte in row {
        line.push(DIGITS[usize::from(byte >> 4)].into());
        line.push(DIGITS[usize::from(byte & 15)].into());
        line.push(' ');
    }
    for _ in row.len()..ROW_BYTES {
        line.push_str("   ");
    }
    for byte in row {
        let printable = (0x20..0x7f).contains(byte);
        line.push(if printable { char::from(*byte) } else { '.' });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use flafka_flow::conformance::doubles::{TestChannel, build_context};
    use flafka_flow::conformance::sink::{Target, suite};
    use flafka_flow::{Event, Headers};

    use super::*;

    fn dump(headers: &[(&str, &str)], body: &[u8], max_bytes: usize) -> String {
        let headers: Headers = headers.iter().copied().collect();
        let event = EventRef {
            headers: &headers,
            body,
        };
        dump_event(event, max_bytes)
    }

    #[test]
    fn lines_are_those_of_flume() {
        assert_eq!(
            dump(&[("k", "v"), ("k2", "v2")], b"hello", 16),
            "{ headers:{k2=v2, k=v} body: 68 65 6C 6C 6F                                  hello }"
        );
        assert_eq!(
            dump(&[], b"a longer body than is shown", 16),
            "{ headers:{} body: 61 20 6C 6F 6E 67 65 72 20 62 6F 64 79 20 74 68 a longer body th }"
        );
        assert_eq!(dump(&[], b"", 16), "{ headers:{} body: }");
        assert_eq!(dump(&[], b"x", 0), "{ headers:{} body: }");
        let all: Vec<u8> = vec![0x1f, 0x20, 0x7e, 0x7f, 0xff];
        assert!(
            dump(&[], &all, 16)
                .ends_with("1F 20 7E 7F FF                                  . ~.. }")
        );
    }

    #[test]
    fn more_bytes_make_more_rows() {
        assert_eq!(
            dump(&[], b"0123456789abcdefgh", 100),
            "{ headers:{} body: 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 0123456789abcdef\n\
             00000010 67 68                                           gh }"
        );
    }

    struct Nowhere;

    impl Target for Nowhere {
        fn refuse(&mut self, _refuse: bool) -> bool {
            false
        }

        fn bodies(&mut self) -> Option<Vec<Vec<u8>>> {
            None
        }
    }

    fn sink(channel: Arc<dyn Channel>) -> Box<dyn Sink> {
        let config = LoggerSinkConfig {
            max_bytes: ByteSize(16),
        };
        LoggerSinkFactory::build(config, channel, &build_context("k1")).expect("builds")
    }

    #[tokio::test]
    async fn conforms() {
        suite(async |channel| (sink(channel), Nowhere)).await;
    }

    /// Collects the messages under the logger's target.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl tracing::field::Visit for Lines {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().expect("no panic").push(format!("{value:?}"));
            }
        }
    }

    impl tracing::Subscriber for Lines {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target() == TARGET && *metadata.level() == Level::INFO
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[tokio::test]
    async fn one_info_line_for_each_event() {
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(lines.clone());
        let channel = TestChannel::new();
        channel.fill(["one", "two"].map(Event::new));
        let mut sink = sink(channel.clone());
        assert_eq!(sink.process().await.expect("works"), Status::Ready);
        let seen = lines.0.lock().expect("no panic").clone();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(
            seen[0].starts_with("Event: { headers:{} body: 6F 6E 65 "),
            "{seen:?}"
        );
        assert_eq!(channel.committed().len(), 2);
    }
}
