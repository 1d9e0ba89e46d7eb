//! The kafka source itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use flafka_avro_wire::flume_event;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::source::{BuiltSource, PollableSource, SourceContext, SourceError, Status};
use flafka_flow::{Batch, BatchBuilder, HeadersBuilder};
use flafka_kafka_client::{BatchConsumer, PartitionSpan, Role, Subscription, client_config};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};
use tracing::warn;
use uuid::Uuid;

use super::KafkaSourceConfig;

/// Makes kafka sources.
pub struct KafkaSourceFactory;

impl SourceFactory for KafkaSourceFactory {
    type Config = KafkaSourceConfig;
    const NAMES: TypeNames = TypeNames {
        alias: None,
        also: &["kafka"],
        classes: &["org.apache.flume.source.kafka.KafkaSource"],
    };

    fn build(config: KafkaSourceConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let bootstrap = config.bootstrap_servers.clone().unwrap_or_default();
        let defaults = [
            ("auto.offset.reset", "latest"),
            ("client.id", context.name()),
        ];
        let forced = [
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
        ];
        let client = client_config(
            Role::Consumer,
            &bootstrap,
            &config.consumer.0,
            &defaults,
            &forced,
        )
        .map_err(|refused| context.error(refused.join("; "), None))?;
        Ok(BuiltSource::Polled(Box::new(KafkaSource {
            counters: context.counters(ComponentKind::Source, sets::KAFKA_SOURCE, true),
            component: context.component.clone(),
            marking: Arc::new(Marking::of(&config)),
            config,
            client,
            consumer: None,
            pending: None,
        })))
    }

    fn batch_size(config: &KafkaSourceConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// Which headers an event gets from its record.
struct Marking {
    topic_header: Option<String>,
    copied: Vec<(String, String)>,
    flume_event_format: bool,
}

/// Events that were read and are not in the channels yet.
struct Pending {
    batch: Batch,
    spans: Vec<PartitionSpan>,
}

/// Reads batches of records from Kafka.
pub struct KafkaSource {
    config: KafkaSourceConfig,
    component: String,
    counters: Arc<Counters>,
    client: rdkafka::ClientConfig,
    marking: Arc<Marking>,
    consumer: Option<BatchConsumer>,
    pending: Option<Pending>,
}

#[async_trait]
impl PollableSource for KafkaSource {
    async fn start(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        self.consumer = Some(self.connect()?);
        self.counters.started(context.clock.as_ref());
        Ok(())
    }

    async fn process(&mut self, context: &SourceContext) -> Result<Status, SourceError> {
        // A client that gave up was closed: this is the next one.
        let consumer = match &self.consumer {
            Some(consumer) => consumer.clone(),
            None => self.consumer.insert(self.connect()?).clone(),
        };
        let outcome = self.one_batch(&consumer, context).await;
        if consumer.is_broken() {
            drop(consumer);
            self.disconnect().await;
        }
        outcome
    }

    async fn stop(&mut self) {
        self.disconnect().await;
    }
}

impl KafkaSource {
    fn connect(&self) -> Result<BatchConsumer, SourceError> {
        let subscription = match &self.config.topics_regex {
            Some(pattern) => Subscription::Pattern(pattern.clone()),
            None => Subscription::Topics(self.config.topics.0.clone()),
        };
        BatchConsumer::new(&self.client, &subscription)
            .map_err(|error| SourceError::fatal("start", self.component.clone(), error))
    }

    /// Closes the client; the next one reads again what was not committed.
    async fn disconnect(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.close().await;
        }
        self.pending = None;
    }

    /// Reads a batch, puts it, commits its offsets.
    async fn one_batch(
        &mut self,
        consumer: &BatchConsumer,
        context: &SourceContext,
    ) -> Result<Status, SourceError> {
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => match self.read(consumer, context).await? {
                Some(pending) => pending,
                None => return Ok(Status::Backoff),
            },
        };
        let count = pending.batch.len() as u64;
        if let Err(error) = context.channels.process(pending.batch.clone()).await {
            self.pending = Some(pending);
            return Err(error.into());
        }
        self.counters.add(Metric::EventAcceptedCount, count);
        self.counters.add(Metric::AppendBatchAcceptedCount, 1);
        let started = Instant::now();
        let committed = consumer
            .commit(&pending.spans, &Uuid::new_v4().to_string())
            .await;
        self.counters.add(
            Metric::KafkaCommitTimer,
            started.elapsed().as_millis() as u64,
        );
        match committed {
            Ok(()) => Ok(Status::Ready),
            Err(error) if consumer.is_broken() => {
                Err(SourceError::retriable("commit offsets to", "Kafka", error))
            }
            Err(error) => {
                let error = flafka_flow::channel::error_chain(&error);
                warn!(
                    source = self.component,
                    error, "offsets were not committed; these events may come again"
                );
                Ok(Status::Ready)
            }
        }
    }

    async fn read(
        &mut self,
        consumer: &BatchConsumer,
        context: &SourceContext,
    ) -> Result<Option<Pending>, SourceError> {
        let started = Instant::now();
        let marking = Arc::clone(&self.marking);
        let add = move |batch: &mut BatchBuilder, message: &BorrowedMessage<'_>| {
            marking.add(batch, message)
        };
        let (limit, duration) = (self.config.batch_size.0, self.config.batch_duration.0);
        let mut reading = pin!(consumer.fetch(limit, duration, BatchBuilder::new(), add));
        let fetched = tokio::select! {
            fetched = &mut reading => fetched,
            // batchDurationMillis may be long; a stop does not wait for it.
            () = context.lifecycle.stopping() => {
                consumer.end_reads();
                reading.await
            }
        };
        let fetched = fetched.map_err(|error| SourceError::retriable("read", "Kafka", error))?;
        self.counters.add(
            Metric::KafkaEventGetTimer,
            started.elapsed().as_millis() as u64,
        );
        if fetched.count == 0 {
            self.counters.add(Metric::KafkaEmptyCount, 1);
            return Ok(None);
        }
        self.counters
            .add(Metric::EventReceivedCount, fetched.count as u64);
        self.counters.add(Metric::AppendBatchReceivedCount, 1);
        let mut builder = fetched.records;
        Ok(Some(Pending {
            batch: builder.finish(),
            spans: fetched.spans,
        }))
    }
}

impl Marking {
    fn of(config: &KafkaSourceConfig) -> Self {
        let copied = config.headers.0.iter();
        Self {
            topic_header: config.set_topic_header.then(|| config.topic_header.clone()),
            copied: copied
                .map(|(event, record)| (event.clone(), record.clone()))
                .collect(),
            flume_event_format: config.flume_event_format,
        }
    }

    /// Adds a record as an event (reference 2.2: headers that the event already has win).
    fn add(&self, batch: &mut BatchBuilder, message: &BorrowedMessage<'_>) {
        let mut headers = HeadersBuilder::default();
        let value = message.payload().unwrap_or_default();
        let decoded = self.flume_event_format.then(|| flume_event::decode(value));
        let body = match &decoded {
            None => value,
            Some(Ok(event)) => {
                for (name, value) in event.headers() {
                    headers.set(name, value);
                }
                event.body()
            }
            Some(Err(error)) => {
                warn!(
                    topic = message.topic(), partition = message.partition(), offset = message.offset(), %error,
                    "record is no AvroFlumeEvent; its bytes become the body"
                );
                value
            }
        };
        let mut set = |name: &str, value: &str| {
            if !headers.contains(name) {
                headers.set(name, value);
            }
        };
        if let Some(millis) = message.timestamp().to_millis() {
            set("timestamp", &millis.to_string());
        }
        if let Some(name) = &self.topic_header {
            set(name, message.topic());
        }
        set("partition", &message.partition().to_string());
        set("offset", &message.offset().to_string());
        if let Some(key) = message.key() {
            headers.set("key", &String::from_utf8_lossy(key));
        }
        if let Some(record_headers) = message.headers().filter(|_| !self.copied.is_empty()) {
            for header in record_headers.iter() {
                for (event_header, _) in self
                    .copied
                    .iter()
                    .filter(|(_, record)| record == header.key)
                {
                    headers.set(
                        event_header,
                        &String::from_utf8_lossy(header.value.unwrap_or_default()),
                    );
                }
            }
        }
        let set = batch.headers(headers.finish());
        batch.push_copy(set, body);
    }
}
