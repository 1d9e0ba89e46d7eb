//! The kafka channel itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flafka_avro_wire::flume_event;
use flafka_flow::channel::{Channel, ChannelError, Lease, OriginRun, Settle, TakeLimit};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::event::EventRef;
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, TypeNames};
use flafka_flow::{Batch, BatchBuilder, Headers, HeadersBuilder};
use flafka_kafka_client::{
    BatchConsumer, BatchProducer, OutRecord, PartitionSpan, Role, Subscription, client_config,
    idempotence_fits,
};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message};
use tokio::sync::Mutex as AsyncMutex;
use tracing::warn;

use super::KafkaChannelConfig;
use super::progress::Progress;
use super::waiting::{Waiting, events_in};

/// How long a stop waits for records under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Makes kafka channels.
pub struct KafkaChannelFactory;

impl ChannelFactory for KafkaChannelFactory {
    type Config = KafkaChannelConfig;
    const NAMES: TypeNames = TypeNames {
        alias: None,
        also: &["kafka"],
        classes: &["org.apache.flume.channel.kafka.KafkaChannel"],
    };

    fn build(
        config: KafkaChannelConfig,
        context: &BuildContext,
    ) -> Result<Arc<dyn Channel>, BuildError> {
        let refused = |refused: Vec<String>| context.error(refused.join("; "), None);
        let id = ("client.id", context.name());
        let defaults = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "0"),
            id,
        ];
        let acks = config.producer.get("acks").unwrap_or("all");
        let forced: &[(&str, &str)] = match idempotence_fits(acks, &config.producer.0) {
            true => &[],
            false => &[("enable.idempotence", "false")],
        };
        let producer = client_config(
            Role::Producer,
            &config.bootstrap_servers,
            &config.producer.0,
            &defaults,
            forced,
        )
        .map_err(refused)?;
        let reset = if config.read_smallest == Some(false) {
            "latest"
        } else {
            "earliest"
        };
        let defaults = [("auto.offset.reset", reset), id];
        let forced = [
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
        ];
        let consumer = client_config(
            Role::Consumer,
            &config.bootstrap_servers,
            &config.consumer.0,
            &defaults,
            &forced,
        )
        .map_err(refused)?;
        let counters = context.counters(ComponentKind::Channel, sets::KAFKA_CHANNEL, true);
        Ok(Arc::new_cyclic(|this| KafkaChannel {
            name: context.name().into(),
            counters,
            context: context.clone(),
            config,
            producer_config: producer,
            consumer_config: consumer,
            producer: AsyncMutex::default(),
            consumer: AsyncMutex::default(),
            reading: Arc::default(),
            shared: Mutex::default(),
            this: this.clone(),
        }))
    }
}

#[derive(Default)]
struct Shared {
    waiting: VecDeque<Waiting>,
    progress: Progress,
    generation: u64,
    open: bool,
}

/// A channel whose events wait in a topic.
pub struct KafkaChannel {
    name: Arc<str>,
    config: KafkaChannelConfig,
    counters: Arc<Counters>,
    context: BuildContext,
    producer_config: ClientConfig,
    consumer_config: ClientConfig,
    producer: AsyncMutex<Option<Arc<BatchProducer>>>,
    consumer: AsyncMutex<Option<BatchConsumer>>,
    /// Held by the one read that is under way.
    reading: Arc<AsyncMutex<()>>,
    shared: Mutex<Shared>,
    this: Weak<KafkaChannel>,
}

#[async_trait]
impl Channel for KafkaChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        self.lock().open = true;
        self.counters.started(self.context.clock.as_ref());
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let count = batch.len() as u64;
        if count == 0 {
            return Ok(());
        }
        self.counters.add(Metric::EventPutAttemptCount, count);
        let partitions = self.partitions(&batch)?;
        let producer = self.producer().await?;
        let started = Instant::now();
        let mut encoded = Vec::new();
        let ends: Vec<usize> = batch
            .iter()
            .map(|event| self.encode(event, &mut encoded))
            .collect();
        let records = batch.iter().enumerate().map(|(index, event)| OutRecord {
            topic: &self.config.topic,
            partition: partitions[index],
            key: event.headers.get("key").map(str::as_bytes),
            value: match self.config.flume_event_format {
                true => &encoded[if index == 0 { 0 } else { ends[index - 1] }..ends[index]],
                false => event.body,
            },
            ..OutRecord::default()
        });
        let sent = producer.send_all(records).await;
        if producer.is_broken() {
            self.replace(&producer).await;
        }
        self.counters.add(
            Metric::KafkaEventSendTimer,
            started.elapsed().as_millis() as u64,
        );
        sent.map_err(|error| self.failed("send to Kafka", error.is_retriable(), error))?;
        self.counters.add(Metric::EventPutSuccessCount, count);
        Ok(())
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        self.counters.add(Metric::EventTakeAttemptCount, 1);
        let reader = self.consumer().await?;
        self.note_rebalance(&reader);
        if let Some(waiting) = self.next_waiting(limit.events) {
            return Ok(self.lease(waiting));
        }
        // The read goes on when this call is dropped: what it finds waits for the next take.
        let (this, events) = (self.this.upgrade(), limit.events);
        let Some(this) = this else {
            return Ok(Lease::empty());
        };
        let turn = Arc::clone(&self.reading).lock_owned().await;
        if let Some(waiting) = self.next_waiting(limit.events) {
            return Ok(self.lease(waiting));
        }
        let reading = tokio::spawn(async move {
            let read = this.read(&reader, events).await;
            drop((reader, turn));
            read
        });
        match reading.await {
            Ok(read) => read?,
            Err(_stopping) => return Ok(Lease::empty()),
        }
        match self.next_waiting(limit.events) {
            Some(waiting) => Ok(self.lease(waiting)),
            None => Ok(Lease::empty()),
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        self.lock().open = false;
        if let Some(producer) = self.producer.lock().await.take().and_then(Arc::into_inner) {
            producer.close(CLOSE_DEADLINE).await;
        }
        if let Some(consumer) = self.consumer.lock().await.take() {
            consumer.close().await;
        }
        *self.lock() = Shared::default();
        self.counters.stopped(self.context.clock.as_ref());
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl KafkaChannel {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(
        &self,
        action: &'static str,
        retriable: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ChannelError {
        ChannelError::Failed {
            channel: Arc::clone(&self.name),
            action,
            retriable,
            source: source.into(),
        }
    }

    async fn producer(&self) -> Result<Arc<BatchProducer>, ChannelError> {
        let mut slot = self.producer.lock().await;
        if let Some(producer) = slot.as_ref() {
            return Ok(Arc::clone(producer));
        }
        if !self.lock().open {
            return Err(ChannelError::Closed {
                channel: Arc::clone(&self.name),
            });
        }
        let made = BatchProducer::new(&self.producer_config)
            .map_err(|error| self.failed("make a producer", false, error))?;
        Ok(Arc::clone(slot.insert(Arc::new(made))))
    }

    /// Drops a producer that will never send again; the next put makes another.
    async fn replace(&self, broken: &Arc<BatchProducer>) {
        let mut slot = self.producer.lock().await;
        if slot.as_ref().is_some_and(|own| Arc::ptr_eq(own, broken)) {
            *slot = None;
        }
    }

    async fn consumer(&self) -> Result<BatchConsumer, ChannelError> {
        let mut slot = self.consumer.lock().await;
        if !self.lock().open {
            return Err(ChannelError::Closed {
                channel: Arc::clone(&self.name),
            });
        }
        if let Some(consumer) = slot.as_ref() {
            return Ok(consumer.clone());
        }
        let subscription = Subscription::Topics(vec![self.config.topic.clone()]);
        let made = BatchConsumer::new(&self.consumer_config, &subscription)
            .map_err(|error| self.failed("subscribe", true, error))?;
        Ok(slot.insert(made).clone())
    }

    /// Appends the event's encoding and returns where it ends.
    fn encode(&self, event: EventRef<'_>, buffer: &mut Vec<u8>) -> usize {
        if self.config.flume_event_format {
            flume_event::encode(event.headers.iter(), event.body, buffer);
        }
        buffer.len()
    }

    /// The partition of each event; a header that is no number fails the put, as in Flume.
    fn partitions(&self, batch: &Batch) -> Result<Vec<Option<i32>>, ChannelError> {
        let default = self
            .config
            .default_partition
            .and_then(|partition| i32::try_from(partition).ok());
        let header = self.config.partition_header.as_deref();
        let of = |event: EventRef<'_>| match header.and_then(|header| event.headers.get(header)) {
            None => Ok(default),
            Some(text) => text.trim().parse::<i32>().map(Some).map_err(|error| {
                let message = format!(
                    "header {} is not a partition: {text:?} ({error})",
                    header.unwrap_or_default()
                );
                self.failed("choose a partition", false, message)
            }),
        };
        batch.iter().map(of).collect()
    }

    /// After a rebalance, events of partitions that went to another member are forgotten here:
    /// they were not committed, so the other member reads them.
    fn note_rebalance(&self, consumer: &BatchConsumer) {
        let generation = consumer.generation();
        let mut shared = self.lock();
        if shared.generation == generation {
            return;
        }
        shared.generation = generation;
        let assigned = consumer.assignment();
        shared
            .waiting
            .retain_mut(|waiting| waiting.generation == generation || waiting.keep_only(&assigned));
        shared.progress.keep_only(&assigned);
    }

    /// Reads up to `limit` records; they wait for the next take.
    async fn read(&self, consumer: &BatchConsumer, limit: usize) -> Result<(), ChannelError> {
        let started = Instant::now();
        let parse = self.config.flume_event_format;
        let add =
            move |reading: &mut Reading, message: &BorrowedMessage<'_>| reading.add(parse, message);
        let fetched = consumer
            .fetch(limit, self.config.poll_timeout.0, Reading::default(), add)
            .await
            .map_err(|error| self.failed("read from Kafka", true, error))?;
        self.counters.add(
            Metric::KafkaEventGetTimer,
            started.elapsed().as_millis() as u64,
        );
        let mut reading = fetched.records;
        if fetched.count > 0 {
            let mut shared = self.lock();
            shared.progress.read(&reading.spans);
            shared.waiting.push_back(Waiting {
                batch: reading.builder.finish(),
                spans: reading.spans,
                generation: fetched.generation,
            });
        }
        Ok(())
    }

    /// The next events, at most `limit`; what is over the limit waits on.
    fn next_waiting(&self, limit: usize) -> Option<Waiting> {
        let mut shared = self.lock();
        let mut first = shared.waiting.pop_front()?;
        if let Some(rest) = first.split_off(limit) {
            shared.waiting.push_front(rest);
        }
        Some(first)
    }

    fn lease(&self, waiting: Waiting) -> Lease {
        let mut first_event = 0;
        let mut origin = Vec::with_capacity(waiting.spans.len());
        for span in &waiting.spans {
            origin.push(OriginRun {
                first_event,
                log: Arc::clone(&span.topic),
                partition: span.partition,
                first_offset: span.first,
                last_offset: span.last,
            });
            first_event += events_in(span);
        }
        let batch = waiting.batch.clone();
        let settle = KafkaSettle {
            channel: self.this.clone(),
            waiting,
        };
        Lease::new(batch, origin, Box::new(settle))
    }
}

/// Collects records as events; every run of consecutive offsets of a partition is a span.
#[derive(Default)]
struct Reading {
    builder: BatchBuilder,
    spans: Vec<PartitionSpan>,
}

impl Reading {
    fn add(&mut self, parse: bool, message: &BorrowedMessage<'_>) {
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

struct KafkaSettle {
    channel: Weak<KafkaChannel>,
    waiting: Waiting,
}

#[async_trait]
impl Settle for KafkaSettle {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        let Some(channel) = self.channel.upgrade() else {
            return Ok(());
        };
        let committable = channel.lock().progress.delivered(&self.waiting.spans);
        channel.counters.add(
            Metric::EventTakeSuccessCount,
            self.waiting.batch.len() as u64,
        );
        let consumer = channel.consumer.lock().await.clone();
        let Some(consumer) = consumer.filter(|_| !committable.is_empty()) else {
            return Ok(());
        };
        let started = Instant::now();
        let committed = consumer.commit(&committable, "").await;
        channel.counters.add(
            Metric::KafkaCommitTimer,
            started.elapsed().as_millis() as u64,
        );
        if let Err(error) = committed {
            let error = flafka_flow::channel::error_chain(&error);
            warn!(
                channel = &*channel.name,
                error, "offsets were not committed; these events may come again"
            );
        }
        Ok(())
    }

    fn rollback(self: Box<Self>) {
        let Some(channel) = self.channel.upgrade() else {
            return;
        };
        channel.counters.add(Metric::RollbackCount, 1);
        let mut shared = channel.lock();
        let place = shared
            .waiting
            .iter()
            .position(|other| self.waiting.starts_before(other))
            .unwrap_or(shared.waiting.len());
        shared.waiting.insert(place, self.waiting);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
