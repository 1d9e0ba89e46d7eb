//! Produce (key 0): record batches into the log.
//!
//! Work is per batch, never per record (but for compacted topics): header, CRC and count are checked (the last two by the log as it takes the
//! batch), then the batch goes to the log as the slice of the request frame it is. All partitions of a request that lie
//! in one data directory are one durable group with a result each; directories do not wait for each other's disks, but the
//! answer waits for all.
//!
//! Two steps, so that a connection's requests overlap while they wait for the disk: [`submit`] hands the batches to the
//! log in the order of the calls, [`Produced::answer`] waits and builds the response.
//!
//! Kafka's rules kept here: exactly one batch per partition, magic 2, `lastOffsetDelta + 1 == count` (T9), size by
//! `max.message.bytes`, a key in every record of a compacted topic, timestamps within bounds, `min.insync.replicas` for `acks=all`. Sequence rules are the log's.
//! `acks=1` also waits for durability: one sync serves everyone who waits, and an acknowledgement keeps one meaning.

use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchError, BatchHeader, Compression};
use flafka_log_store::{
    AppendStamp, CommitError, Log, MAX_UNPACKED_BYTES, Op, OpOutcome, Submitted,
};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use super::{message, text};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;
use crate::log_dirs::{LogDir, Offline};
use crate::topics::config::TimestampType;
use crate::topics::{Topic, TopicConfig};

/// Why one partition's batch is refused before it reaches the log.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("This server does not host this topic-partition.")]
    UnknownPartition,
    #[error(transparent)]
    Offline(#[from] Offline),
    #[error("acks must be -1, 0 or 1, not {0}")]
    Acks(i16),
    #[error("{0} in-sync replicas are asked for; one node has one")]
    InSync(i32),
    #[error("a produce request must hold one record batch per partition")]
    NoBatch,
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the record batch has {found} bytes, max.message.bytes is {allowed}")]
    TooLarge { found: usize, allowed: usize },
    #[error("zstd needs produce version 7 or above")]
    Zstd,
    #[error("clients may not write control batches")]
    Control,
    #[error("transactions are not served by this broker")]
    Transactional,
    #[error(
        "Compacted topic cannot accept message without key in topic partition {topic}-{partition}."
    )]
    Keyless {
        topic: String,
        partition: i32,
        records: Vec<i32>,
    },
    #[error("the broker stops; the batch was not looked at")]
    Unchecked,
    #[error("the newest timestamp {found} is more than the allowed {allowed} ms away from now")]
    Timestamp { found: i64, allowed: i64 },
}

impl KafkaCode for Refusal {
    fn kafka_code(&self) -> ResponseError {
        match self {
            Refusal::UnknownPartition => ResponseError::UnknownTopicOrPartition,
            Refusal::Offline(offline) => offline.kafka_code(),
            Refusal::Acks(_) => ResponseError::InvalidRequiredAcks,
            Refusal::InSync(_) => ResponseError::NotEnoughReplicas,
            Refusal::NoBatch | Refusal::Control | Refusal::Keyless { .. } => {
                ResponseError::InvalidRecord
            }
            Refusal::Unchecked => ResponseError::NotLeaderOrFollower,
            Refusal::Batch(error) => error.kafka_code(),
            Refusal::TooLarge { .. } => ResponseError::MessageTooLarge,
            Refusal::Zstd => ResponseError::UnsupportedCompressionType,
            Refusal::Transactional => ResponseError::InvalidTxnState,
            Refusal::Timestamp { .. } => ResponseError::InvalidTimestamp,
        }
    }
}

/// A partition of the answer: still to be filled from the log's outcome, or refused.
enum Slot {
    Appending {
        index: i32,
        /// Which group of the request its batch is in.
        group: usize,
    },
    Refused(PartitionProduceResponse),
}

/// The batches of a request for one data directory.
struct Group {
    dir: Arc<LogDir>,
    log: Log,
    appends: Vec<Op>,
}

/// A Produce request whose batches the log has queued.
pub(crate) struct Produced {
    version: i16,
    acks: i16,
    topics: Vec<(TopicName, Vec<Slot>)>,
    /// By group.
    submitted: Vec<(Arc<LogDir>, Submitted)>,
}

/// Checks every batch and queues the good ones in the log.
pub(crate) async fn submit(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: ProduceRequest,
) -> Produced {
    let version = request_context.api_version;
    let acks = request.acks;
    let mut groups = Vec::new();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic_data in request.topic_data {
        let topic = context.topics.get(&topic_data.name);
        let mut slots = Vec::with_capacity(topic_data.partition_data.len());
        for data in topic_data.partition_data {
            let append = accept(
                context,
                version,
                acks,
                topic.as_deref(),
                data.index,
                data.records,
            );
            let append = match (append, &topic) {
                (Ok(append), Some(topic)) if topic.config.cleanup.compact => {
                    keyed(append, &topic.name, data.index).await
                }
                (append, _) => append,
            };
            slots.push(match append {
                Ok(append) => {
                    count_produced(context, &append.op);
                    Slot::Appending {
                        index: data.index,
                        group: add_to_group(&mut groups, append),
                    }
                }
                Err(refusal) => Slot::Refused(refused(version, data.index, &refusal)),
            });
        }
        topics.push((topic_data.name, slots));
    }
    let mut submitted = Vec::with_capacity(groups.len());
    for group in groups {
        submitted.push((group.dir, group.log.submit_each(group.appends).await));
    }
    Produced {
        version,
        acks,
        topics,
        submitted,
    }
}

impl Produced {
    /// Waits until the batches are durable. `None` = no answer is sent (`acks=0`).
    pub(crate) async fn answer(self, context: &HandlerContext) -> Option<ProduceResponse> {
        let Produced {
            version,
            acks,
            topics,
            submitted,
        } = self;
        let mut outcomes = Vec::with_capacity(submitted.len());
        for (dir, group) in submitted {
            let group = group.outcomes().await;
            group.iter().for_each(|outcome| dir.note(outcome));
            outcomes.push(group.into_iter());
        }
        if acks == 0 {
            return None;
        }
        let mut fill = |slot| match slot {
            Slot::Refused(response) => {
                context.metrics.produce_errors.add(1);
                response
            }
            Slot::Appending { index, group } => {
                let next = outcomes.get_mut(group).and_then(Iterator::next);
                let outcome = next.unwrap_or(Err(CommitError::Closed));
                appended(context, version, index, outcome)
            }
        };
        let responses = topics
            .into_iter()
            .map(|(name, slots)| {
                TopicProduceResponse::default()
                    .with_name(name)
                    .with_partition_responses(slots.into_iter().map(&mut fill).collect())
            })
            .collect();
        Some(ProduceResponse::default().with_responses(responses))
    }
}

fn accept(
    context: &HandlerContext,
    version: i16,
    acks: i16,
    topic: Option<&Topic>,
    index: i32,
    records: Option<Bytes>,
) -> Result<Accepted, Refusal> {
    if !(-1..=1).contains(&acks) {
        return Err(Refusal::Acks(acks));
    }
    let topic = topic.ok_or(Refusal::UnknownPartition)?;
    let place = topic.partition(index).ok_or(Refusal::UnknownPartition)?;
    let (log, stream) = place.online()?;
    if acks == -1 && topic.config.min_insync_replicas > 1 {
        return Err(Refusal::InSync(topic.config.min_insync_replicas));
    }
    let batches = records
        .filter(|records| !records.is_empty())
        .ok_or(Refusal::NoBatch)?;
    if batches.len() > topic.config.max_message_bytes {
        return Err(Refusal::TooLarge {
            found: batches.len(),
            allowed: topic.config.max_message_bytes,
        });
    }
    let header = BatchHeader::parse(&batches)?;
    if header.total_len() < batches.len() {
        return Err(Refusal::Batch(BatchError::TrailingBytes {
            extra: batches.len() - header.total_len(),
        }));
    }
    check(version, &topic.config, &header, context.clock.now_ms())?;
    Ok(Accepted {
        dir: Arc::clone(place.dir()),
        log: log.clone(),
        op: Op::Append {
            stream,
            batches,
            stamp: AppendStamp::AsStream,
        },
    })
}

/// An append for the log of one data directory.
struct Accepted {
    dir: Arc<LogDir>,
    log: Log,
    op: Op,
}

/// Puts an append to those of its directory; which group that is.
fn add_to_group(groups: &mut Vec<Group>, append: Accepted) -> usize {
    let Accepted { dir, log, op } = append;
    match groups
        .iter()
        .position(|group| group.dir.index() == dir.index())
    {
        Some(known) => {
            groups[known].appends.push(op);
            known
        }
        None => {
            let appends = vec![op];
            groups.push(Group { dir, log, appends });
            groups.len() - 1
        }
    }
}

fn count_produced(context: &HandlerContext, append: &Op) {
    if let Op::Append { batches, .. } = append
        && let Ok(header) = BatchHeader::parse(batches)
    {
        let metrics = &context.metrics;
        metrics.produced_bytes.add(batches.len() as u64);
        let records = u64::try_from(header.record_count).unwrap_or(0);
        metrics.produced_records.add(records);
    }
}

/// Lets an append to a compacted topic pass only if every record has a key: without one it would be compacted away.
/// Unpacking takes its time, so it happens off the async threads, unless the batch is small.
async fn keyed(append: Accepted, topic: &TopicName, partition: i32) -> Result<Accepted, Refusal> {
    const SMALL_BYTES: usize = 16 * 1024;
    let Op::Append { batches, .. } = &append.op else {
        return Ok(append);
    };
    let header = BatchHeader::parse(batches)?;
    let packed = header.attributes.compression()? != Compression::None;
    let keyless = if packed || batches.len() > SMALL_BYTES {
        let batches = batches.clone();
        tokio::task::spawn_blocking(move || keyless(&header, &batches))
            .await
            .map_err(|_| Refusal::Unchecked)??
    } else {
        keyless(&header, batches)?
    };
    if keyless.is_empty() {
        return Ok(append);
    }
    Err(Refusal::Keyless {
        topic: topic.to_string(),
        partition,
        records: keyless,
    })
}

/// The places of records without a key, so many at most as an answer names.
fn keyless(header: &BatchHeader, batch: &[u8]) -> Result<Vec<i32>, BatchError> {
    const MOST_NAMED: usize = 100;
    let mut scratch = Vec::new();
    let mut places = Vec::new();
    let all = records::records(header, batch, &mut scratch, MAX_UNPACKED_BYTES)?;
    for (place, record) in (0..).zip(all) {
        if record?.key.is_none() && places.len() < MOST_NAMED {
            places.push(place);
        }
    }
    Ok(places)
}

fn check(
    version: i16,
    config: &TopicConfig,
    header: &BatchHeader,
    now_ms: i64,
) -> Result<(), Refusal> {
    if header.attributes.is_control() {
        return Err(Refusal::Control);
    }
    if header.attributes.is_transactional() {
        return Err(Refusal::Transactional);
    }
    if version < 7 && header.attributes.compression()? == Compression::Zstd {
        return Err(Refusal::Zstd);
    }
    if config.timestamp_type == TimestampType::LogAppendTime || header.max_timestamp < 0 {
        return Ok(());
    }
    let ahead = header.max_timestamp.saturating_sub(now_ms);
    let allowed = match ahead {
        0.. => config.timestamp_after_max_ms,
        _ => config.timestamp_before_max_ms,
    };
    if ahead.saturating_abs() > allowed {
        return Err(Refusal::Timestamp {
            found: header.max_timestamp,
            allowed,
        });
    }
    Ok(())
}

fn refused(version: i16, index: i32, refusal: &Refusal) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refusal.kafka_code().code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1);
    if version >= 5 {
        response = response.with_log_start_offset(-1);
    }
    if version >= 8 {
        response = response.with_error_message(message(refusal));
        // KIP-467: a refused batch names the record; without looking into records it is the first.
        let places: &[i32] = match refusal {
            Refusal::Timestamp { .. } => &[0],
            Refusal::Keyless { records, .. } => records,
            _ => &[],
        };
        let errors = places.iter().map(|place| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*place)
                .with_batch_index_error_message(Some(text(refusal.to_string())))
        });
        response = response.with_record_errors(errors.collect());
    }
    response
}

fn appended(
    context: &HandlerContext,
    version: i16,
    index: i32,
    outcome: Result<OpOutcome, CommitError>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    let (base_offset, append_time, log_start) = match outcome {
        Ok(OpOutcome::Appended {
            base_offset,
            log_append_time_ms,
            log_start,
            ..
        }) => (base_offset.0, log_append_time_ms.unwrap_or(-1), log_start.0),
        Ok(OpOutcome::Duplicate {
            base_offset,
            log_start,
            ..
        }) => (base_offset.0, -1, log_start.0),
        Ok(OpOutcome::Done) => (-1, -1, -1),
        Err(error) => {
            context.metrics.produce_errors.add(1);
            let mut failed = response
                .with_error_code(error.kafka_code().code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1);
            if version >= 5 {
                failed = failed.with_log_start_offset(-1);
            }
            if version >= 8 {
                failed = failed.with_error_message(message(&error));
            }
            return failed;
        }
    };
    let response = response
        .with_base_offset(base_offset)
        .with_log_append_time_ms(append_time);
    if version >= 5 {
        response.with_log_start_offset(log_start)
    } else {
        response
    }
}
