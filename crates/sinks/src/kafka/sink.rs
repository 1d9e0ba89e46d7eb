//! The kafka sink itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flafka_avro_wire::flume_event;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::event::EventRef;
use flafka_flow::registry::{BuildContext, BuildError, SinkFactory, TypeNames};
use flafka_flow::sink::{Sink, SinkError, Status};
use flafka_kafka_client::{
    BatchProducer, Header, OutRecord, OwnedHeaders, PartitionCounts, Role, client_config,
    idempotence_fits,
};
use tracing::warn;

use super::KafkaSinkConfig;
use crate::escape::Renderer;

/// How long a stop waits for records under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// The same for a client that gave up: nothing is under way any more.
const BROKEN_DEADLINE: Duration = Duration::from_millis(100);

/// Makes kafka sinks.
pub struct KafkaSinkFactory;

impl SinkFactory for KafkaSinkFactory {
    type Config = KafkaSinkConfig;
    const NAMES: TypeNames = TypeNames {
        alias: None,
        also: &["kafka"],
        classes: &["org.apache.flume.sink.kafka.KafkaSink"],
    };

    fn build(
        config: KafkaSinkConfig,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
    ) -> Result<Box<dyn Sink>, BuildError> {
        let acks = config
            .required_acks
            .map_or("all".to_owned(), |acks| acks.to_string());
        let user_acks = config
            .producer
            .get("acks")
            .map_or(acks.clone(), str::to_owned);
        let idempotent = idempotence_fits(&user_acks, &config.producer.0);
        let defaults = [
            ("acks", acks.as_str()),
            (
                "enable.idempotence",
                if idempotent { "true" } else { "false" },
            ),
            ("linger.ms", "0"),
            ("client.id", context.name()),
        ];
        let client = client_config(
            Role::Producer,
            &config.bootstrap_servers,
            &config.producer.0,
            &defaults,
            &[],
        )
        .map_err(|refused| context.error(refused.join("; "), None))?;
        Ok(Box::new(KafkaSink {
            counters: context.counters(ComponentKind::Sink, sets::KAFKA_SINK, true),
            renderer: Renderer::new(Arc::clone(&context.clock)),
            context: context.clone(),
            partition_counts: PartitionCounts::new(&config.producer.0),
            config,
            channel,
            client,
            producer: None,
            buffer: Vec::new(),
        }))
    }

    fn batch_size(config: &KafkaSinkConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// Sends batches of events to Kafka.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    channel: Arc<dyn Channel>,
    counters: Arc<Counters>,
    renderer: Renderer,
    context: BuildContext,
    client: rdkafka::ClientConfig,
    producer: Option<BatchProducer>,
    partition_counts: PartitionCounts,
    buffer: Vec<u8>,
}

#[async_trait]
impl Sink for KafkaSink {
    async fn start(&mut self) -> Result<(), SinkError> {
        self.producer = Some(self.connect()?);
        self.counters.started(self.context.clock.as_ref());
        Ok(())
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        let limit = TakeLimit::events(self.config.batch_size.0);
        let lease = self.channel.take(limit).await?;
        let count = lease.batch().len();
        if count == 0 {
            self.counters.add(Metric::BatchEmptyCount, 1);
            return Ok(Status::Backoff);
        }
        if count < self.config.batch_size.0 {
            self.counters.add(Metric::BatchUnderflowCount, 1);
        }
        self.counters
            .add(Metric::EventDrainAttemptCount, count as u64);
        let started = Instant::now();
        let sent = self.send(lease.batch()).await;
        self.counters.add(
            Metric::KafkaEventSendTimer,
            started.elapsed().as_millis() as u64,
        );
        if let Err(error) = sent {
            lease.rollback();
            self.counters.add(Metric::RollbackCount, 1);
            if self.producer.as_ref().is_some_and(BatchProducer::is_broken)
                && let Some(broken) = self.producer.take()
            {
                broken.close(BROKEN_DEADLINE).await;
            }
            return Err(error);
        }
        lease.commit().await?;
        self.counters
            .add(Metric::EventDrainSuccessCount, count as u64);
        Ok(Status::Ready)
    }

    async fn stop(&mut self) -> Result<(), SinkError> {
        if let Some(producer) = self.producer.take() {
            producer.close(CLOSE_DEADLINE).await;
        }
        self.counters.stopped(self.context.clock.as_ref());
        Ok(())
    }
}

impl KafkaSink {
    fn connect(&self) -> Result<BatchProducer, SinkError> {
        BatchProducer::new(&self.client)
            .map_err(|error| SinkError::fatal("start", self.context.component.clone(), error))
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // A client that refused everything was dropped: this is the next one.
        if self.producer.is_none() {
            self.producer = Some(self.connect()?);
        }
        let Some(producer) = &self.producer else {
            return Err(SinkError::retriable(
                "send to",
                "Kafka",
                "the sink is not started",
            ));
        };
        // Topics that differ by event are rendered first: records borrow them.
        let topics: Vec<Option<String>> =
            batch.iter().map(|event| self.own_topic(&event)).collect();
        let constant = self.config.topic.source();
        let topic_of = |index: usize| topics[index].as_deref().unwrap_or(constant);
        if self.config.partition_header.is_some() || self.config.default_partition.is_some() {
            let mut wanted = HashMap::new();
            for (index, event) in batch.iter().enumerate() {
                let highest = wanted.entry(topic_of(index)).or_insert(0);
                *highest = self.named_partition(&event).max(*highest);
            }
            self.partition_counts.learn(producer, &wanted).await;
        }
        let values = self
            .config
            .flume_event_format
            .then(|| encode(batch, &mut self.buffer));
        let buffer = &self.buffer;
        let record = |(index, event): (usize, EventRef<'_>)| {
            let topic = topic_of(index);
            (
                topic,
                self.partition(topic, &event),
                self.timestamp(&event),
                self.record_headers(&event),
            )
        };
        let parts: Vec<_> = batch.iter().enumerate().map(record).collect();
        let records = parts.into_iter().enumerate().map(
            |(index, (topic, partition, timestamp_ms, headers))| {
                let event = batch.get(index);
                OutRecord {
                    topic,
                    partition,
                    key: event.headers.get("key").map(str::as_bytes),
                    value: values
                        .as_ref()
                        .map_or(event.body, |ranges| &buffer[ranges[index].clone()]),
                    timestamp_ms,
                    headers,
                }
            },
        );
        let sent = producer.send_all(records).await;
        sent.map_err(|error| {
            if let Some(topic) = error.unknown_partition() {
                self.partition_counts.doubt(topic);
            }
            SinkError::Failed {
                action: "send a batch for",
                object: self.context.component.clone(),
                retriable: error.is_retriable(),
                source: Box::new(error),
            }
        })
    }

    /// The event's topic when it is not the constant one.
    fn own_topic(&self, event: &EventRef<'_>) -> Option<String> {
        if !self.config.allow_topic_override {
            return None;
        }
        if let Some(topic) = event.headers.get(&self.config.topic_header) {
            return Some(topic.to_owned());
        }
        let template = &self.config.topic;
        (!template.is_constant()).then(|| self.renderer.render(template, event.headers))
    }

    /// The partition that an event names, or the default one; 0 where there is none.
    fn named_partition(&self, event: &EventRef<'_>) -> i32 {
        let header = self.config.partition_header.as_deref();
        let text = header.and_then(|header| event.headers.get(header));
        let named = text.and_then(|text| text.trim().parse().ok());
        named.or(self.default_partition()).unwrap_or(0)
    }

    fn default_partition(&self) -> Option<i32> {
        let partition = self.config.default_partition?;
        i32::try_from(partition).ok()
    }

    fn partition(&self, topic: &str, event: &EventRef<'_>) -> Option<i32> {
        let default = self.default_partition();
        let Some(header) = self.config.partition_header.as_deref() else {
            return default;
        };
        let Some(text) = event.headers.get(header) else {
            return default;
        };
        let known = self.partition_counts.get(topic).unwrap_or(i32::MAX);
        match text.trim().parse::<i32>() {
            Ok(partition) if (0..known).contains(&partition) => Some(partition),
            _ => {
                warn!(
                    header,
                    value = text,
                    topic,
                    "partition header names no partition; the key decides"
                );
                None
            }
        }
    }

    fn timestamp(&self, event: &EventRef<'_>) -> Option<i64> {
        let text = event
            .headers
            .get(self.config.timestamp_header.as_deref()?)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            warn!(
                value = text,
                "timestamp header is no number; the time of sending is used"
            );
        }
        parsed
    }

    fn record_headers(&self, event: &EventRef<'_>) -> Option<OwnedHeaders> {
        let mapped = &self.config.headers.0;
        let mut headers: Option<OwnedHeaders> = None;
        for (event_header, record_header) in mapped {
            if let Some(value) = event.headers.get(event_header) {
                let so_far = headers.take().unwrap_or_default();
                let header = Header {
                    key: record_header,
                    value: Some(value),
                };
                headers = Some(so_far.insert(header));
            }
        }
        headers
    }
}

/// Writes each event as an `AvroFlumeEvent` (reference 4.1.5) into `buffer`; returns where.
fn encode(batch: &Batch, buffer: &mut Vec<u8>) -> Vec<std::ops::Range<usize>> {
    buffer.clear();
    batch
        .iter()
        .map(|event| {
            let start = buffer.len();
            flume_event::encode(event.headers.iter(), event.body, buffer);
            start..buffer.len()
        })
        .collect()
}
