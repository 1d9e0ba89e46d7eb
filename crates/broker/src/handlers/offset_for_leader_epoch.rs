//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that a consumer notices records that a crash took
//! (KIP-101, KIP-320). An epoch here is one start of the log.

use flafka_log_store::{Log, ReadError, StreamId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{check_leader_epoch, online};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|wanted| {
            let topic = context.topics.get(&wanted.topic);
            let partitions = wanted
                .partitions
                .into_iter()
                .map(|partition| {
                    let found = topic
                        .as_ref()
                        .and_then(|topic| topic.partition(partition.partition));
                    let end = online(found).and_then(|(log, stream)| {
                        check_leader_epoch(log, partition.current_leader_epoch)?;
                        end_of(log, stream, partition.leader_epoch)
                    });
                    let response = EpochEndOffset::default().with_partition(partition.partition);
                    match end {
                        Ok((epoch, offset)) => {
                            response.with_leader_epoch(epoch).with_end_offset(offset)
                        }
                        Err(code) => response
                            .with_error_code(code.code())
                            .with_leader_epoch(-1)
                            .with_end_offset(-1),
                    }
                })
                .collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(wanted.topic)
                .with_partitions(partitions)
        })
        .collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

/// The largest epoch not above the one asked for, and the offset where it ended; (-1, -1) if there is none. The epoch
/// that runs now ends at the high watermark.
fn end_of(log: &Log, stream: StreamId, asked: i32) -> Result<(i32, i64), ResponseError> {
    let code = |error: ReadError| error.kafka_code();
    let epochs = log.epochs(stream).map_err(code)?;
    let end = log.bounds(stream).map_err(code)?.high_watermark;
    if asked > log.epoch() {
        return Ok((-1, -1));
    }
    let later = epochs.partition_point(|(epoch, _)| *epoch <= asked);
    let Some((epoch, _)) = later.checked_sub(1).and_then(|last| epochs.get(last)) else {
        return Ok((-1, -1));
    };
    let ends_at = epochs.get(later).map_or(end, |(_, start)| *start);
    Ok((*epoch, ends_at.0))
}
