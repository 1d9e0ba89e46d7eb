//! A consumer that hands out batches of records and commits what was delivered.
//!
//! librdkafka fetches ahead on its own threads; one call here drains what is there, up to a
//! size or a time, on a blocking thread. Offsets are committed by the caller's word only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use thiserror::Error;
use tokio::task::JoinError;

use crate::client_log::ClientLog;
use crate::topic_pattern::{TopicPatternError, topic_pattern};

/// Why a consumer call failed.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// The client could not be made from its properties.
    #[error("make a Kafka consumer")]
    Create(#[source] KafkaError),
    /// The topics could not be subscribed to.
    #[error("subscribe to {topics}")]
    Subscribe {
        /// The topics or the pattern.
        topics: String,
        /// The cause.
        #[source]
        source: KafkaError,
    },
    /// The pattern of the topics is none.
    #[error("subscribe to a pattern of topics")]
    Pattern(#[from] TopicPatternError),
    /// Records could not be read.
    #[error("read records")]
    Poll(#[source] KafkaError),
    /// Offsets could not be committed.
    #[error("commit offsets")]
    Commit(#[source] KafkaError),
    /// The client has ended for good; another one has to be made.
    #[error("the Kafka client gave up ({code:?}): {reason}; another one is made")]
    Fatal {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// What led to it.
        reason: String,
    },
    /// A defect in what was done on the blocking thread. What it had read is lost to this client, so another one has to
    /// be made, which reads it again.
    #[error("panicked (a defect, please report it): {0}")]
    Panicked(String),
    /// The blocking thread is gone: the process is stopping.
    #[error("the runtime is stopping")]
    Stopping,
}

impl ConsumerError {
    /// What a task that did the consumer's work ended with.
    pub fn of_join(error: JoinError) -> Self {
        if !error.is_panic() {
            return ConsumerError::Stopping;
        }
        let panic = error.into_panic();
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        ConsumerError::Panicked(text.unwrap_or_default().to_owned())
    }
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// These topics.
    Topics(Vec<String>),
    /// Every topic whose whole name matches.
    Pattern(String),
}

/// The records of one partition in a batch: offsets first to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpan {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Offset of the first record.
    pub first: i64,
    /// Offset of the last record.
    pub last: i64,
}

/// What one call found.
#[derive(Debug)]
pub struct Fetched<T> {
    /// What the caller's function made of the records.
    pub records: T,
    /// How many records there were.
    pub count: usize,
    /// Which they were, a span for each partition.
    pub spans: Vec<PartitionSpan>,
    /// The assignment's generation in which they were read; see [`BatchConsumer::generation`].
    pub generation: u64,
}

/// Bytes of keys and values after which a call takes no more records, so that large records times a large batch size
/// stay bounded.
const BYTES_AT_ONCE: usize = 32 << 20;

/// The longest wait inside librdkafka, so that a close ends a read that waits for records.
const POLL_SLICE: Duration = Duration::from_millis(50);
/// How long a close waits for calls that are under way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Counts assignments, so that a batch is not mixed over a rebalance.
#[derive(Default)]
struct Assignments {
    generation: AtomicU64,
    /// Set once: reads end early from then on.
    closing: AtomicBool,
    /// Set once: a read has panicked, and the client's position is beyond what was handed out.
    panicked: AtomicBool,
    log: ClientLog,
}

impl ClientContext for Assignments {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.log.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
    }
}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        tracing::debug!(?rebalance, "partitions are assigned anew");
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// A member of a consumer group.
#[derive(Clone)]
pub struct BatchConsumer {
    client: Arc<BaseConsumer<Assignments>>,
}

impl BatchConsumer {
    /// Makes the client and subscribes; the group is joined by the first polls.
    ///
    /// # Errors
    /// When librdkafka does not accept the properties or the subscription.
    pub fn new(config: &ClientConfig, subscription: &Subscription) -> Result<Self, ConsumerError> {
        let client: BaseConsumer<Assignments> = config
            .create_with_context(Assignments::default())
            .map_err(ConsumerError::Create)?;
        let topics: Vec<String> = match subscription {
            Subscription::Topics(topics) => topics.clone(),
            Subscription::Pattern(pattern) => vec![topic_pattern(pattern)?],
        };
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        client
            .subscribe(&names)
            .map_err(|source| ConsumerError::Subscribe {
                topics: topics.join(","),
                source,
            })?;
        Ok(Self {
            client: Arc::new(client),
        })
    }

    /// How often partitions were assigned or revoked so far.
    pub fn generation(&self) -> u64 {
        self.client.context().generation.load(Ordering::Acquire)
    }

    /// Whether the client is of no use any more: it has met an error that librdkafka calls fatal (such as another member
    /// with the same `group.instance.id`), or a read has panicked. Another client has to be made; it reads again what was
    /// not committed.
    pub fn is_broken(&self) -> bool {
        let panicked = &self.client.context().panicked;
        panicked.load(Ordering::Acquire) || fatal(&self.client).is_some()
    }

    /// The topic partitions that this member reads now.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        let Ok(list) = self.client.assignment() else {
            return Vec::new();
        };
        let elements = list.elements();
        elements
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect()
    }

    /// Reads up to `limit` records within `duration`, feeding each to `add`. Ends early when a
    /// poll finds nothing after some records were read, after 32 MiB, at a rebalance, and after
    /// [`BatchConsumer::end_reads`].
    ///
    /// # Errors
    /// When the client reports an error that does not mend itself.
    ///
    /// # Cancel safety
    /// Not cancel-safe: records read by a dropped call come again only after a restart.
    pub async fn fetch<T, F>(
        &self,
        limit: usize,
        duration: Duration,
        records: T,
        add: F,
    ) -> Result<Fetched<T>, ConsumerError>
    where
        T: Send + 'static,
        F: FnMut(&mut T, &BorrowedMessage<'_>) + Send + 'static,
    {
        let client = Arc::clone(&self.client);
        let fetched =
            tokio::task::spawn_blocking(move || drain(&client, limit, duration, records, add));
        let fetched = fetched.await;
        let context = self.client.context();
        context.log.show_due();
        fetched.map_err(|error| {
            context.panicked.store(error.is_panic(), Ordering::Release);
            ConsumerError::of_join(error)
        })?
    }

    /// Commits that everything up to and including the last record of each span is delivered;
    /// returns when the coordinator has answered.
    ///
    /// # Errors
    /// When the coordinator refused, such as after a rebalance; the records then come again.
    pub async fn commit(
        &self,
        spans: &[PartitionSpan],
        metadata: &str,
    ) -> Result<(), ConsumerError> {
        let mut list = TopicPartitionList::new();
        for span in spans {
            list.add_partition_offset(&span.topic, span.partition, Offset::Offset(span.last + 1))
                .map_err(ConsumerError::Commit)?;
            if let Some(mut element) = list.find_partition(&span.topic, span.partition) {
                element.set_metadata(metadata);
            }
        }
        let client = Arc::clone(&self.client);
        let committed = tokio::task::spawn_blocking(move || client.commit(&list, CommitMode::Sync));
        match committed.await.map_err(ConsumerError::of_join)? {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
            Err(source) => Err(ConsumerError::Commit(source)),
        }
    }

    /// Ends the read that is under way, and every later one, at once; for good, before a close.
    pub fn end_reads(&self) {
        self.client.context().closing.store(true, Ordering::Release);
    }

    /// Leaves the group: ends the reads that are under way, and returns when the coordinator knows.
    pub async fn close(self) {
        self.end_reads();
        let client = self.client;
        let left = tokio::task::spawn_blocking(move || leave(client)).await;
        if !matches!(left, Ok(true)) {
            tracing::warn!(
                "consumer was not closed in order; its group notices after session.timeout.ms"
            );
        }
    }
}

/// Waits until no call uses the client any more, then drops it, which leaves the group.
fn leave(mut client: Arc<BaseConsumer<Assignments>>) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let started = Instant::now();
    loop {
        match Arc::try_unwrap(client) {
            Ok(last) => {
                drop(last);
                return true;
            }
            Err(_) if started.elapsed() >= CLOSE_DEADLINE => return false,
            Err(shared) => client = shared,
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn drain<T, F>(
    client: &BaseConsumer<Assignments>,
    limit: usize,
    duration: Duration,
    mut records: T,
    mut add: F,
) -> Result<Fetched<T>, ConsumerError>
where
    F: FnMut(&mut T, &BorrowedMessage<'_>),
{
    if let Some(error) = fatal(client) {
        return Err(error);
    }
    let started = Instant::now();
    let generation = || client.context().generation.load(Ordering::Acquire);
    let at_start = generation();
    let (mut count, mut bytes, mut spans) = (0, 0, Vec::new());
    while count < limit
        && bytes < BYTES_AT_ONCE
        && !client.context().closing.load(Ordering::Acquire)
    {
        let left = duration.saturating_sub(started.elapsed());
        // With records in hand a short wait decides whether more are coming.
        let wait = if count == 0 {
            left.min(POLL_SLICE)
        } else {
            left.min(Duration::from_millis(5))
        };
        match client.poll(wait) {
            None if count == 0 && started.elapsed() < duration => continue,
            None => break,
            Some(Ok(message)) => {
                add(&mut records, &message);
                extend(&mut spans, &message);
                count += 1;
                bytes += message.payload_len() + message.key_len();
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::debug!(%error, "consumer goes on");
            }
            Some(Err(error)) if count > 0 => {
                tracing::warn!(%error, "reading stopped; what was read goes on");
                break;
            }
            Some(Err(error)) => return Err(fatal(client).unwrap_or(ConsumerError::Poll(error))),
        }
        if count > 0 && generation() != at_start {
            break;
        }
    }
    Ok(Fetched {
        records,
        count,
        spans,
        generation: generation(),
    })
}

/// Why the client has ended, if it has.
fn fatal(client: &BaseConsumer<Assignments>) -> Option<ConsumerError> {
    let (code, reason) = client.client().fatal_error()?;
    Some(ConsumerError::Fatal { code, reason })
}

/// Whether librdkafka goes on by itself after this error.
pub fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, NotCoordinator, OperationTimedOut, PartitionEOF,
        Resolve,
    };
    match error {
        KafkaError::PartitionEOF(_) => true,
        other => matches!(
            other.rdkafka_error_code(),
            Some(
                PartitionEOF
                    | AllBrokersDown
                    | BrokerTransportFailure
                    | NotCoordinator
                    | OperationTimedOut
                    | Resolve
            )
        ),
    }
}

fn extend(spans: &mut Vec<PartitionSpan>, message: &BorrowedMessage<'_>) {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let same = |span: &&mut PartitionSpan| span.partition == partition && *span.topic == *topic;
    if let Some(span) = spans.iter_mut().rev().find(same) {
        span.last = offset;
        return;
    }
    spans.push(PartitionSpan {
        topic: topic.into(),
        partition,
        first: offset,
        last: offset,
    });
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn consumer(cluster: &MockCluster<'_, impl ClientContext>, instance: &str) -> BatchConsumer {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "g")
            .set("group.instance.id", instance)
            .set("auto.offset.reset", "earliest")
            // The mock cluster lets a member that joins after another has left wait nearly as long.
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "false");
        BatchConsumer::new(&config, &Subscription::Topics(vec!["t".to_owned()])).expect("consumer")
    }

    fn filled() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
        let cluster = MockCluster::new(1).expect("mock");
        cluster.create_topic("t", 1, 1).expect("topic");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer: BaseProducer = config.create().expect("producer");
        for value in ["a", "b", "c"] {
            let record = BaseRecord::<(), str>::to("t").payload(value);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("sent");
        }
        producer.flush(PATIENCE).expect("acknowledged");
        cluster
    }

    fn add(values: &mut Vec<String>, message: &BorrowedMessage<'_>) {
        let value = message.payload().unwrap_or_default();
        values.push(String::from_utf8_lossy(value).into_owned());
    }

    /// Reads until three records came.
    async fn read_all(consumer: &BatchConsumer) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while all.len() < 3 {
            assert!(Instant::now() < deadline, "{all:?}");
            let fetched = consumer.fetch(3, Duration::from_millis(100), Vec::new(), add);
            all.extend(fetched.await.expect("read").records);
        }
        all
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_is_called_a_panic_and_what_it_had_read_comes_again() {
        let cluster = filled();
        let first = consumer(&cluster, "one");
        let deadline = Instant::now() + PATIENCE;
        let panicked = loop {
            assert!(Instant::now() < deadline);
            let fetched = first.fetch(3, PATIENCE / 60, (), |(), _| panic!("planned panic"));
            if let Err(error) = fetched.await {
                break error;
            }
        };
        assert!(
            matches!(&panicked, ConsumerError::Panicked(text) if text == "planned panic"),
            "{panicked:?}"
        );
        assert!(first.is_broken());
        first.close().await;
        let second = consumer(&cluster, "one");
        assert_eq!(read_all(&second).await, ["a", "b", "c"]);
        assert!(!second.is_broken());
        second.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_member_that_was_replaced_says_that_it_is_broken() {
        let cluster = filled();
        let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
        cluster.request_errors(RDKafkaApiKey::JoinGroup, &[fenced]);
        let first = consumer(&cluster, "one");
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            assert!(Instant::now() < deadline);
            let fetched = first.fetch(3, PATIENCE / 60, Vec::new(), add);
            if let Err(error) = fetched.await {
                break error;
            }
        };
        let fatal = |error: &ConsumerError| {
            matches!(
                error,
                ConsumerError::Fatal {
                    code: RDKafkaErrorCode::FencedInstanceId,
                    ..
                }
            )
        };
        assert!(fatal(&ended), "{ended:?}");
        assert!(first.is_broken());
        let again = first.fetch(3, PATIENCE, Vec::new(), add).await;
        assert!(again.is_err_and(|error| fatal(&error)), "it says so again");
        first.close().await;
        let second = consumer(&cluster, "one");
        assert_eq!(read_all(&second).await, ["a", "b", "c"]);
        second.close().await;
    }

    #[test]
    fn repeated_lines_of_the_client_are_counted() {
        let context = Assignments::default();
        for _ in 0..5 {
            context.log(RDKafkaLogLevel::Error, "FAIL", "b:1: refused (after 1ms)");
            context.error(KafkaError::Canceled, "all brokers are down");
        }
        assert_eq!(
            context.log.waiting(),
            8,
            "two kinds, the first of each is shown"
        );
    }
}
