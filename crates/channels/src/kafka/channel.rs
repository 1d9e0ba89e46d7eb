//! The kafka channel itself. Invariant: what belongs to a consumer that was closed never comes back into the channel.
//! The file is longer than 500 lines because putting, taking and settling share one lock and are read together.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flafka_avro_wire::flume_event;
use flafka_flow::channel::{
    Channel, ChannelError, Lease, OriginRun, Settle, TakeLimit, error_chain,
};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::event::EventRef;
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, TypeNames};
use flafka_flow::{Batch, Promise};
use flafka_kafka_client::{
    BatchConsumer, BatchProducer, ConsumerError, OutRecord, Role, Subscription, client_config,
    idempotence_fits,
};
use rdkafka::ClientConfig;
use rdkafka::message::BorrowedMessage;
use tokio::sync::Mutex as AsyncMutex;
use tracing::warn;

use super::KafkaChannelConfig;
use super::progress::Progress;
use super::reading::Reading;
use super::waiting::{Waiting, events_in};

/// How long a stop waits for records under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// The same for a client that gave up: nothing is under way any more.
const BROKEN_DEADLINE: Duration = Duration::from_millis(100);

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
            committing: AsyncMutex::default(),
            shared: Mutex::default(),
            this: this.clone(),
        }))
    }

    fn promise(config: &KafkaChannelConfig, _home: &Path) -> Promise {
        config.promise()
    }
}

#[derive(Default)]
struct Shared {
    waiting: VecDeque<Waiting>,
    progress: Progress,
    generation: u64,
    open: bool,
    /// How often the channel was closed. Leases and reads from before belong to another consumer, which may have been
    /// anywhere: their events come again, so nothing of them may come back here.
    closed: u64,
    /// Why the consumer is of no use any more.
    fault: Option<String>,
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
    /// Held by the one commit that is under way.
    committing: AsyncMutex<()>,
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
            self.replace(producer).await;
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
        let (reader, closed) = self.consumer().await?;
        self.note_rebalance(&reader);
        if let Some(waiting) = self.next_waiting(limit.events) {
            return Ok(self.lease(closed, waiting));
        }
        // The read goes on when this call is dropped: what it finds waits for the next take.
        let (this, events) = (self.this.upgrade(), limit.events);
        let Some(this) = this else {
            return Ok(Lease::empty());
        };
        let turn = Arc::clone(&self.reading).lock_owned().await;
        if let Some(waiting) = self.next_waiting(limit.events) {
            return Ok(self.lease(closed, waiting));
        }
        let reading = tokio::spawn(async move {
            let read = this.read(&reader, closed, events).await;
            drop((reader, turn));
            read
        });
        match reading.await {
            Ok(read) => read?,
            Err(error) if error.is_panic() => {
                let error = ConsumerError::of_join(error);
                self.note_fault(closed, error.to_string());
                return Err(self.failed("read from Kafka", true, error));
            }
            Err(_stopping) => return Ok(Lease::empty()),
        }
        match self.next_waiting(limit.events) {
            Some(waiting) => Ok(self.lease(closed, waiting)),
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
        let mut shared = self.lock();
        *shared = Shared {
            closed: shared.closed + 1,
            ..Shared::default()
        };
        drop(shared);
        self.counters.stopped(self.context.clock.as_ref());
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
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
    async fn replace(&self, broken: Arc<BatchProducer>) {
        let mut slot = self.producer.lock().await;
        if slot.as_ref().is_some_and(|own| Arc::ptr_eq(own, &broken)) {
            *slot = None;
        }
        drop(slot);
        if let Some(last) = Arc::into_inner(broken) {
            last.close(BROKEN_DEADLINE).await;
        }
    }

    /// The consumer, with how often the channel was closed before it.
    async fn consumer(&self) -> Result<(BatchConsumer, u64), ChannelError> {
        let mut slot = self.consumer.lock().await;
        let closed = {
            let shared = self.lock();
            if let Some(fault) = &shared.fault {
                return Err(self.failed("read from Kafka", true, fault.clone()));
            }
            if !shared.open {
                return Err(ChannelError::Closed {
                    channel: Arc::clone(&self.name),
                });
            }
            shared.closed
        };
        if let Some(consumer) = slot.as_ref() {
            return Ok((consumer.clone(), closed));
        }
        let subscription = Subscription::Topics(vec![self.config.topic.clone()]);
        let made = BatchConsumer::new(&self.consumer_config, &subscription)
            .map_err(|error| self.failed("subscribe", true, error))?;
        Ok((slot.insert(made).clone(), closed))
    }

    /// The consumer has given up: until the channel is opened again, with another one, takes fail.
    fn note_fault(&self, closed: u64, fault: String) {
        let mut shared = self.lock();
        if shared.closed == closed {
            shared.waiting.clear();
            shared.fault.get_or_insert(fault);
        }
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
    async fn read(
        &self,
        consumer: &BatchConsumer,
        closed: u64,
        limit: usize,
    ) -> Result<(), ChannelError> {
        let started = Instant::now();
        let parse = self.config.flume_event_format;
        let add =
            move |reading: &mut Reading, message: &BorrowedMessage<'_>| reading.add(parse, message);
        let fetched = consumer
            .fetch(limit, self.config.poll_timeout.0, Reading::default(), add)
            .await
            .map_err(|error| {
                if consumer.is_broken() {
                    self.note_fault(closed, error_chain(&error));
                }
                self.failed("read from Kafka", true, error)
            })?;
        self.counters.add(
            Metric::KafkaEventGetTimer,
            started.elapsed().as_millis() as u64,
        );
        let mut reading = fetched.records;
        if fetched.count > 0 {
            let mut shared = self.lock();
            if shared.closed != closed {
                return Ok(());
            }
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

    fn lease(&self, closed: u64, waiting: Waiting) -> Lease {
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
            closed,
            waiting,
        };
        Lease::new(batch, origin, Box::new(settle))
    }
}

struct KafkaSettle {
    channel: Weak<KafkaChannel>,
    /// How often the channel had been closed when the events were taken.
    closed: u64,
    waiting: Waiting,
}

#[async_trait]
impl Settle for KafkaSettle {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        let Some(channel) = self.channel.upgrade() else {
            return Ok(());
        };
        channel.counters.add(
            Metric::EventTakeSuccessCount,
            self.waiting.batch.len() as u64,
        );
        {
            let mut shared = channel.lock();
            if shared.closed == self.closed {
                shared.progress.delivered(&self.waiting.spans);
            }
        }
        // One commit at a time: one that overtakes another would be taken back by it.
        let _turn = channel.committing.lock().await;
        let committable = {
            let mut shared = channel.lock();
            match shared.closed == self.closed {
                true => shared.progress.committable(),
                false => Vec::new(),
            }
        };
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
            let error = error_chain(&error);
            if consumer.is_broken() {
                channel.note_fault(self.closed, error.clone());
            }
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
        if shared.closed != self.closed || shared.fault.is_some() {
            return;
        }
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
