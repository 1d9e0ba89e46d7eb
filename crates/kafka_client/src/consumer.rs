//! A consumer that hands out batches of records and commits what was delivered.
//!
//! librdkafka fetches ahead on its own threads; one call here drains what is there, up to a
//! size or a time, on a blocking thread. Offsets are committed by the caller's word only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use thiserror::Error;

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
    /// The blocking thread is gone: the process is stopping.
    #[error("the runtime is stopping")]
    Stopping,
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
}

impl ClientContext for Assignments {}

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
        fetched.await.map_err(|_| ConsumerError::Stopping)?
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
        match committed.await.map_err(|_| ConsumerError::Stopping)? {
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
            Some(Err(error)) => return Err(ConsumerError::Poll(error)),
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
