//! OffsetCommit (key 8). What cannot be kept is refused by partition; the rest is one commit of the log.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{GroupError, OffsetCommit, code_of, detach};
use crate::topics::Topic;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let who = OffsetCommit {
        group_id: detach(&request.group_id.0),
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
    };
    let mut offsets = Vec::new();
    let mut checks = Vec::new();
    for topic in &request.topics {
        let found = context.topics.get(&topic.name.0);
        for partition in &topic.partitions {
            let outcome = check(context, found.as_deref(), partition);
            if outcome.is_ok() {
                let kept = context.groups.stamp(
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.committed_metadata.as_ref(),
                );
                offsets.push((topic.name.0.clone(), partition.partition_index, kept));
            }
            checks.push(outcome);
        }
    }
    let committed = context.groups.commit_offsets(&who, offsets).await;
    let mut outcomes = checks
        .into_iter()
        .map(|check| code_of(&check.and(committed)));
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .zip(outcomes.by_ref())
            .map(|(partition, code)| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetCommitResponse::default().with_topics(topics)
}

fn check(
    context: &HandlerContext,
    topic: Option<&Topic>,
    partition: &OffsetCommitRequestPartition,
) -> Result<(), GroupError> {
    if topic
        .and_then(|topic| topic.partition(partition.partition_index))
        .is_none()
    {
        return Err(GroupError::UnknownTopicOrPartition);
    }
    context
        .groups
        .check_metadata(partition.committed_metadata.as_ref())
}
