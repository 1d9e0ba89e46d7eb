//! The `seq` source: numbers from 0, for trying out channels and sinks (reference 2.2, seq).
//!
//! Invariant: the counter moves on only after its numbers have been put, so that a refused put
//! offers the same numbers again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BufMut;
use flafka_flow::channel::ChannelError;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::settings;
use flafka_flow::settings::Count;
use flafka_flow::source::{BuiltSource, PollableSource, SourceContext, SourceError, Status};
use flafka_flow::{Batch, BatchBuilder, Headers};

settings! {
    /// Generates events whose bodies are the decimal numbers 0, 1, 2, …, without headers.
    pub struct SeqSourceConfig {
        /// Events in one transaction.
        "batchSize" => batch_size: Count = Count(1),
        /// Events to generate before the source has nothing left to do.
        "totalEvents" => total_events: u64 = i64::MAX as u64,
    }
}

/// Most slots reserved ahead: a huge `batchSize` must not allocate before it is needed.
const RESERVE: u64 = 1 << 16;

/// Makes [`SeqSource`]s.
pub struct SeqSourceFactory;

impl SourceFactory for SeqSourceFactory {
    type Config = SeqSourceConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("seq"),
        also: &[],
        classes: &["org.apache.flume.source.SequenceGeneratorSource"],
    };

    fn build(config: SeqSourceConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let counters = context.counters(ComponentKind::Source, sets::SOURCE, true);
        Ok(BuiltSource::Polled(Box::new(SeqSource {
            config,
            counters,
            next: 0,
        })))
    }

    fn batch_size(config: &SeqSourceConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// The source.
pub struct SeqSource {
    config: SeqSourceConfig,
    counters: Arc<Counters>,
    next: u64,
}

impl SeqSource {
    fn numbers(&self, end: u64) -> Batch {
        let mut builder = BatchBuilder::with_capacity((end - self.next).min(RESERVE) as usize);
        let headers = builder.headers(Headers::new());
        for number in self.next..end {
            builder.push_with(headers, |body| put_decimal(body, number));
        }
        builder.finish()
    }
}

#[async_trait]
impl PollableSource for SeqSource {
    async fn start(&mut self, _context: &SourceContext) -> Result<(), SourceError> {
        Ok(())
    }

    /// Puts the next numbers. After a full channel it answers `Ready`, as Flume does: the put has
    /// waited for room already.
    async fn process(&mut self, context: &SourceContext) -> Result<Status, SourceError> {
        let wanted = self.next.saturating_add(self.config.batch_size.0 as u64);
        let end = wanted.min(self.config.total_events);
        if self.next >= end {
            return Ok(Status::Backoff);
        }
        let batch = self.numbers(end);
        match context.channels.process(batch).await {
            Ok(()) => {
                self.counters
                    .add(Metric::EventAcceptedCount, end - self.next);
                if self.config.batch_size.0 > 1 {
                    self.counters.add(Metric::AppendBatchAcceptedCount, 1);
                }
                self.next = end;
                Ok(if end < wanted {
                    Status::Backoff
                } else {
                    Status::Ready
                })
            }
            Err(error) => {
                self.counters.add(Metric::ChannelWriteFail, 1);
                match error {
                    ChannelError::Full { .. } | ChannelError::FullOfBytes { .. } => {
                        tracing::debug!(
                            error = error.chain(),
                            "numbers were not put; they are put again"
                        );
                        Ok(Status::Ready)
                    }
                    other => Err(SourceError::Channel(other)),
                }
            }
        }
    }

    async fn stop(&mut self) {}
}

fn put_decimal(body: &mut bytes::BytesMut, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    body.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
    use flafka_flow::conformance::source::suite;

    use super::*;

    fn source(batch_size: usize, total_events: u64) -> SeqSource {
        let config = SeqSourceConfig {
            batch_size: Count(batch_size),
            total_events,
        };
        let counters = build_context("r1").counters(ComponentKind::Source, sets::SOURCE, true);
        SeqSource {
            config,
            counters,
            next: 0,
        }
    }

    #[tokio::test]
    async fn keeps_the_source_rules() {
        let expected: Vec<String> = (0..107).map(|number| number.to_string()).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        for batch_size in [1, 10, 1000] {
            suite(&expected, || {
                BuiltSource::Polled(Box::new(source(batch_size, 107)))
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_short_last_batch_and_the_end_back_off() {
        let processor = RecordingProcessor::new();
        let context = processor.context();
        let mut source = source(4, 6);
        let mut polls = Vec::new();
        for _ in 0..3 {
            polls.push(source.process(&context).await.expect("no failure"));
        }
        assert_eq!(polls, [Status::Ready, Status::Backoff, Status::Backoff]);
        assert_eq!(
            processor
                .batches()
                .iter()
                .map(Batch::len)
                .collect::<Vec<_>>(),
            [4, 2]
        );
        assert_eq!(source.counters.get(Metric::EventAcceptedCount), 6);
        assert_eq!(source.counters.get(Metric::AppendBatchAcceptedCount), 2);
    }

    #[tokio::test]
    async fn a_full_channel_gets_the_same_numbers_again_at_once() {
        let processor = RecordingProcessor::new();
        processor.fail_next(2);
        let context = processor.context();
        let mut source = source(1, 10);
        for _ in 0..3 {
            assert_eq!(
                source.process(&context).await.expect("no failure"),
                Status::Ready
            );
        }
        assert_eq!(processor.bodies(), ["0"]);
        assert_eq!(source.counters.get(Metric::ChannelWriteFail), 2);
        assert_eq!(source.counters.get(Metric::AppendBatchAcceptedCount), 0);
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut body = bytes::BytesMut::new();
            put_decimal(&mut body, number);
            assert_eq!(body, number.to_string().as_bytes());
        }
    }
}
