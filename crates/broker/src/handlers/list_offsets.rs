//! ListOffsets (key 2): offsets by time and the two ends of a partition.
//!
//! Special timestamps: -1 latest (the high watermark, also for read_committed: without transactions the last stable
//! offset is the same), -2 earliest, -3 the record with the largest timestamp (version 7), -4 earliest local
//! (version 8), -5 latest tiered (version 9). There is no tiered storage, so -4 is -2 and -5 finds nothing.

use flafka_log_store::{Log, Offset, ReadError, StreamId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{check_leader_epoch, online};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let version = request_context.api_version;
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let topic = context.topics.get(&wanted.name);
        let mut partitions = Vec::with_capacity(wanted.partitions.len());
        for partition in wanted.partitions {
            let index = partition.partition_index;
            let online = online(topic.as_ref().and_then(|topic| topic.partition(index)));
            let checked = online.and_then(|(log, stream)| {
                check_leader_epoch(log, partition.current_leader_epoch).map(|()| (log, stream))
            });
            let found = match checked {
                Ok((log, stream)) => look_up(log, version, stream, partition.timestamp)
                    .await
                    .map(|found| (found, log.epoch())),
                Err(code) => Err(code),
            };
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            partitions.push(match found {
                Ok((found, epoch)) => {
                    let (offset, timestamp) = found.unwrap_or((Offset(-1), -1));
                    let response = response.with_offset(offset.0).with_timestamp(timestamp);
                    if version >= 4 && offset.0 >= 0 {
                        response.with_leader_epoch(epoch)
                    } else {
                        response
                    }
                }
                Err(code) => response
                    .with_error_code(code.code())
                    .with_offset(-1)
                    .with_timestamp(-1),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(wanted.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Offset and timestamp; the timestamp is -1 for the ends, as Kafka answers.
async fn look_up(
    log: &Log,
    version: i16,
    stream: StreamId,
    timestamp: i64,
) -> Result<Option<(Offset, i64)>, ResponseError> {
    let log = log.clone();
    let code = |error: ReadError| error.kafka_code();
    let result = match timestamp {
        LATEST => log
            .bounds(stream)
            .map(|bounds| Some((bounds.high_watermark, -1))),
        EARLIEST => log
            .bounds(stream)
            .map(|bounds| Some((bounds.log_start, -1))),
        EARLIEST_LOCAL if version >= 8 => log
            .bounds(stream)
            .map(|bounds| Some((bounds.log_start, -1))),
        LATEST_TIERED if version >= 9 => return Ok(None),
        MAX_TIMESTAMP if version >= 7 => {
            blocking(move || log.offset_of_max_timestamp(stream)).await?
        }
        0.. => blocking(move || log.offset_for_timestamp(stream, timestamp)).await?,
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    result.map_err(code)
}

/// Time lookup reads a segment: off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<Result<T, ReadError>, ResponseError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ResponseError::UnknownServerError)
}
