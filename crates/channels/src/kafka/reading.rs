//! Records on their way to becoming events (Flume reference 2.3, `parseAsFlumeEvent`).
//!
//! Invariant: the spans name the events of the batch in their order, one offset an event.

use flafka_avro_wire::flume_event;
use flafka_flow::{BatchBuilder, Headers, HeadersBuilder};
use flafka_kafka_client::PartitionSpan;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use tracing::warn;

/// Collects records as events; every run of consecutive offsets of a partition is a span.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) builder: BatchBuilder,
    pub(super) spans: Vec<PartitionSpan>,
}

impl Reading {
    /// Adds a record; `parse` says that it is an `AvroFlumeEvent`.
    pub(super) fn add(&mut self, parse: bool, message: &BorrowedMessage<'_>) {
        let value = message.payload().unwrap_or_default();
        let decoded = if parse {
            Some(flume_event::decode(value))
        } else {
            None
        };
        let (mut headers, body) = match &decoded {
            Some(Ok(event)) => {
                let mut headers = HeadersBuilder::default();
                for (name, value) in event.headers() {
                    headers.set(name, value);
                }
                (headers, event.body())
            }
            Some(Err(error)) => {
                warn!(
                    topic = message.topic(), partition = message.partition(), offset = message.offset(), %error,
                    "record is no AvroFlumeEvent; its bytes become the body (parseAsFlumeEvent=false reads plain records)"
                );
                (HeadersBuilder::from(&Headers::new()), value)
            }
            None => (HeadersBuilder::default(), value),
        };
        if let Some(key) = message.key() {
            headers.set("key", &String::from_utf8_lossy(key));
        }
        let set = self.builder.headers(headers.finish());
        self.builder.push_copy(set, body);
        let (partition, offset) = (message.partition(), message.offset());
        match self.spans.last_mut() {
            Some(span) if span.partition == partition && span.last + 1 == offset => {
                span.last = offset
            }
            _ => self.spans.push(PartitionSpan {
                topic: message.topic().into(),
                partition,
                first: offset,
                last: offset,
            }),
        }
    }
}
