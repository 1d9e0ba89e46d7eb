//! One file per API key: `pub(crate) async fn handle(&HandlerContext, &RequestContext, Request) -> Response`.
//!
//! A handler owns the decoded request, never fails (errors are codes inside the response) and sets only fields that
//! the request's version knows, because the encoder refuses others.

pub(crate) mod alter_configs;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_topic_partitions;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;

use flafka_log_store::{Log, StreamId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;

use crate::context::HandlerContext;
use crate::errors::KafkaCode;
use crate::log_dirs::Partition;

/// What a client without restrictions may do with a topic, as bits of Kafka's `AclOperation`: read, write, create,
/// delete, alter, describe, describe configs, alter configs.
const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same for the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent
/// write.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The leader of a partition whose data directory is offline.
const NO_LEADER: BrokerId = BrokerId(-1);
/// "Not asked for."
const NO_OPERATIONS: i32 = i32::MIN;

fn text(message: impl Into<String>) -> StrBytes {
    StrBytes::from_string(message.into())
}

/// Longest error text sent to a client; it may quote what the client sent.
const MAX_MESSAGE: usize = 1_000;

fn message(error: &impl ToString) -> Option<StrBytes> {
    let mut message = error.to_string();
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
    }
    Some(StrBytes::from_string(message))
}

fn node(context: &HandlerContext) -> BrokerId {
    BrokerId(context.config.node_id)
}

/// The log and the stream of a partition that was looked up; the code if there is none, or its directory is offline.
fn online(partition: Option<&Partition>) -> Result<(&Log, StreamId), ResponseError> {
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.online().map_err(|offline| offline.kafka_code())
}

/// Checks the leader epoch that a consumer believes in (KIP-320); -1 is "do not check".
fn check_leader_epoch(log: &Log, current: i32) -> Result<(), ResponseError> {
    let epoch = log.epoch();
    match current {
        -1 => Ok(()),
        known if known < epoch => Err(ResponseError::FencedLeaderEpoch),
        known if known > epoch => Err(ResponseError::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
