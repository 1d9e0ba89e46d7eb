//! What the suites ask of a Kafka client, in the words of a test: topics, produce and wait, read a topic from its start.
//!
//! All through librdkafka. Invariant: every call has a deadline and returns what the server answered, record by record,
//! so that a case can compare offsets, timestamps and headers and not only counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The deadline of a single call.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A record to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Partition; the client's partitioner chooses when absent.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; now when absent.
    pub timestamp_ms: Option<i64>,
}

impl NewRecord {
    /// A record with a value alone.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record for one partition.
    #[must_use]
    pub fn to_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same record with a timestamp.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The same record with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, create time or append time.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl ReadRecord {
    /// A copy of what the client lent.
    #[must_use]
    pub fn from_message(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// The value as text, invalid UTF-8 replaced; empty when there is none.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.as_deref().map_or_else(String::new, |value| {
            String::from_utf8_lossy(value).into_owned()
        })
    }
}

/// A topic or group name that nothing else uses.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    format!(
        "{prefix}-{}-{nanoseconds}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Settings that every client of the suites starts from.
#[must_use]
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4");
    config
}

/// Whether a server answers a metadata request with at least one broker.
///
/// # Errors
/// It does not answer within a second.
pub fn is_ready(bootstrap: &str) -> Result<bool> {
    let client: BaseConsumer = config(bootstrap).create().context("create a client")?;
    let metadata = client
        .fetch_metadata(None, Duration::from_secs(1))
        .context("fetch metadata")?;
    Ok(!metadata.brokers().is_empty())
}

/// Topics and their partition counts.
///
/// # Errors
/// No answer in time.
pub fn topics(bootstrap: &str) -> Result<BTreeMap<String, usize>> {
    let client: BaseConsumer = config(bootstrap).create().context("create a client")?;
    let metadata = client
        .fetch_metadata(None, CALL_LIMIT)
        .context("fetch metadata")?;
    Ok(metadata
        .topics()
        .iter()
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
        .collect())
}

/// An admin client.
///
/// # Errors
/// It cannot be made.
pub fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    config(bootstrap).create().context("create an admin client")
}

/// Drives one future of an admin client to its end.
///
/// # Errors
/// No answer within [`CALL_LIMIT`].
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("make a runtime")?;
    runtime
        .block_on(async { tokio::time::timeout(CALL_LIMIT, future).await })
        .context("an admin call has no answer")
}

/// Creates a topic and waits until it can be written.
///
/// # Errors
/// The server refuses, or does not answer in time.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32) -> Result<()> {
    create_topic_with(
        bootstrap,
        NewTopic::new(name, partitions, TopicReplication::Fixed(1)),
    )
}

/// Creates a topic with settings of its own and waits until it can be written.
///
/// # Errors
/// The server refuses, or does not answer in time.
pub fn create_topic_with(bootstrap: &str, topic: NewTopic<'_>) -> Result<()> {
    let admin = admin(bootstrap)?;
    let answers =
        block_on(admin.create_topics([&topic], &AdminOptions::new()))?.context("create a topic")?;
    for answer in answers {
        answer.map_err(|(name, code)| anyhow!("create topic {name}: {code}"))?;
    }
    crate::poll::until_true(
        &format!("topic {} has leaders", topic.name),
        CALL_LIMIT,
        || {
            let metadata = admin
                .inner()
                .fetch_metadata(Some(topic.name), Duration::from_secs(5))?;
            let found = metadata
                .topics()
                .iter()
                .find(|found| found.name() == topic.name);
            Ok(found.is_some_and(|found| {
                !found.partitions().is_empty()
                    && found
                        .partitions()
                        .iter()
                        .all(|partition| partition.leader() >= 0)
            }))
        },
    )
}

/// Deletes a topic.
///
/// # Errors
/// The server refuses, or does not answer in time.
pub fn delete_topic(bootstrap: &str, name: &str) -> Result<()> {
    let admin = admin(bootstrap)?;
    let answers =
        block_on(admin.delete_topics(&[name], &AdminOptions::new()))?.context("delete a topic")?;
    for answer in answers {
        answer.map_err(|(name, code)| anyhow!("delete topic {name}: {code}"))?;
    }
    Ok(())
}

/// Partition and offset of a delivered record, or why it was refused.
type Delivery = Result<(i32, i64), String>;

/// Collects the answer to every record, by the record's number.
#[derive(Default)]
struct Answers {
    delivered: Mutex<BTreeMap<usize, Delivery>>,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        self.delivered
            .lock()
            .expect("nothing panics with the answers locked")
            .insert(*number, answer);
    }
}

/// Writes `records` with `acks=all` and the idempotent producer; returns each one's partition and offset, in order.
///
/// # Errors
/// A record is refused, or not all are answered in time.
pub fn produce(bootstrap: &str, topic: &str, records: &[NewRecord]) -> Result<Vec<(i32, i64)>> {
    produce_with(&[("enable.idempotence", "true")], bootstrap, topic, records)
}

/// [`produce`] with producer settings.
///
/// # Errors
/// A record is refused, or not all are answered in time.
pub fn produce_with(
    settings: &[(&str, &str)],
    bootstrap: &str,
    topic: &str,
    records: &[NewRecord],
) -> Result<Vec<(i32, i64)>> {
    let mut config = config(bootstrap);
    config.set("acks", "all").set("linger.ms", "5");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: ThreadedProducer<Answers> = config
        .create_with_context(Answers::default())
        .context("create a producer")?;
    for (number, record) in records.iter().enumerate() {
        send(&producer, topic, number, record)?;
    }
    producer.flush(CALL_LIMIT).context("flush the producer")?;
    let answers = std::mem::take(
        &mut *producer
            .context()
            .delivered
            .lock()
            .expect("nothing panics with them locked"),
    );
    ensure!(
        answers.len() == records.len(),
        "{} of {} records were answered",
        answers.len(),
        records.len()
    );
    answers
        .into_iter()
        .map(|(number, answer)| {
            answer.map_err(|error| anyhow!("record {number} was refused: {error}"))
        })
        .collect()
}

fn send(
    producer: &ThreadedProducer<Answers>,
    topic: &str,
    number: usize,
    record: &NewRecord,
) -> Result<()> {
    let mut outgoing =
        BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(number));
    outgoing.partition = record.partition;
    outgoing.key = record.key.as_deref();
    outgoing.payload = record.value.as_deref();
    outgoing.timestamp = record.timestamp_ms;
    if !record.headers.is_empty() {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: value.as_deref(),
                })
            });
        outgoing.headers = Some(headers);
    }
    producer
        .send(outgoing)
        .map_err(|(error, _)| anyhow!(error).context(format!("queue record {number}")))
}

/// Reads a whole topic from its start until `expected` records have come and no more follow what was there.
///
/// # Errors
/// Fewer records come within `limit`.
pub fn read_topic(
    bootstrap: &str,
    topic: &str,
    expected: usize,
    limit: Duration,
) -> Result<Vec<ReadRecord>> {
    let mut config = config(bootstrap);
    config
        .set("group.id", unique_name("reader"))
        .set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().context("create a consumer")?;
    assign_all(&consumer, topic)?;
    let mut records =
        poll_records(&consumer, expected, limit).with_context(|| format!("read topic {topic}"))?;
    // Records beyond the expected ones would be a fault: take what the high watermarks say is there.
    let ends = ends(&consumer, topic)?;
    let there: i64 = ends.values().map(|(low, high)| high - low).sum();
    let there = usize::try_from(there).context("a negative number of records")?;
    if there > records.len() {
        records.extend(poll_records(&consumer, there - records.len(), limit)?);
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Offset, key and value of every record of partition 0, across the gaps that compaction leaves.
///
/// # Errors
/// The end is not reached within `limit`, or the consumer reports an error that is not a retry.
pub fn read_with_gaps(bootstrap: &str, topic: &str, limit: Duration) -> Result<Vec<ReadRecord>> {
    let mut config = config(bootstrap);
    config
        .set("group.id", unique_name("reader"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().context("create a consumer")?;
    assign_all(&consumer, topic)?;
    let deadline = Instant::now() + limit;
    let mut records = Vec::new();
    loop {
        ensure!(
            Instant::now() < deadline,
            "the end of {topic} is not reached, {} records came",
            records.len()
        );
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => records.push(ReadRecord::from_message(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) => return Err(error).context("read across gaps"),
        }
    }
}

/// Low and high watermark of every partition of a topic.
///
/// # Errors
/// No answer in time.
pub fn ends(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), CALL_LIMIT)
        .context("fetch metadata")?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    partitions
        .map(|partition| {
            let bounds = consumer
                .fetch_watermarks(topic, partition.id(), CALL_LIMIT)
                .context("fetch watermarks")?;
            Ok((partition.id(), bounds))
        })
        .collect()
}

/// Assigns every partition of `topic` from its start.
///
/// # Errors
/// The topic does not exist, or no answer comes in time.
pub fn assign_all(consumer: &BaseConsumer, topic: &str) -> Result<()> {
    let metadata = consumer
        .fetch_metadata(Some(topic), CALL_LIMIT)
        .context("fetch metadata")?;
    let mut list = TopicPartitionList::new();
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .context("add a partition")?;
    }
    ensure!(list.count() > 0, "topic {topic} has no partitions");
    consumer.assign(&list).context("assign the partitions")
}

/// Polls `consumer` until it has given `expected` records.
///
/// # Errors
/// They do not come within `limit`, or the consumer reports an error that is not a retry.
pub fn poll_records<C>(
    consumer: &BaseConsumer<C>,
    expected: usize,
    limit: Duration,
) -> Result<Vec<ReadRecord>>
where
    C: rdkafka::consumer::ConsumerContext,
{
    let started = Instant::now();
    let mut records = Vec::with_capacity(expected);
    while records.len() < expected {
        let Some(left) = limit.checked_sub(started.elapsed()) else {
            bail!(
                "{} of {expected} records came within {} s",
                records.len(),
                limit.as_secs()
            );
        };
        match consumer.poll(left.min(Duration::from_millis(200))) {
            Some(Ok(message)) => records.push(ReadRecord::from_message(&message)),
            Some(Err(error)) => {
                return Err(anyhow!(error).context(format!("after {} records", records.len())));
            }
            None => {}
        }
    }
    Ok(records)
}
