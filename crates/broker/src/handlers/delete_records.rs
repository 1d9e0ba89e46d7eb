//! DeleteRecords (key 21): moves a partition's log start offset up. Offset -1 means the high watermark; one below the
//! log start changes nothing. Topics that are only compacted refuse it, as in Kafka.

use flafka_log_store::{Log, Offset, Op, StreamId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::online;
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let topic = context.topics.get(&wanted.name);
        let mut partitions = Vec::with_capacity(wanted.partitions.len());
        for partition in wanted.partitions {
            let index = partition.partition_index;
            let found = online(topic.as_ref().and_then(|topic| topic.partition(index)));
            let compacted = topic
                .as_ref()
                .is_some_and(|topic| !topic.config.cleanup.delete);
            let trimmed = match found {
                Ok(_) if compacted => Err(ResponseError::PolicyViolation),
                Ok((log, stream)) => trim(log, stream, partition.offset).await,
                Err(code) => Err(code),
            };
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            partitions.push(match trimmed {
                Ok(low) => result.with_low_watermark(low),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(wanted.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn trim(log: &Log, stream: StreamId, offset: i64) -> Result<i64, ResponseError> {
    let bounds = log.bounds(stream).map_err(|error| error.kafka_code())?;
    let target = match offset {
        -1 => bounds.high_watermark,
        offset => Offset(offset),
    };
    if target.0 < 0 || target > bounds.high_watermark {
        return Err(ResponseError::OffsetOutOfRange);
    }
    if target <= bounds.log_start {
        return Ok(bounds.log_start.0);
    }
    let trim = Op::TrimTo {
        stream,
        log_start: target,
    };
    log.commit(vec![trim])
        .await
        .map_err(|error| error.kafka_code())?;
    Ok(target.0)
}
