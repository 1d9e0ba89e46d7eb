//! OffsetDelete (key 47): offsets of topics that no member of the group reads (KIP-496).

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{GroupError, code_of};

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut known = Vec::new();
    let mut exists = Vec::new();
    for topic in &request.topics {
        let found = context.topics.get(&topic.name.0);
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let here = found
                .as_ref()
                .is_some_and(|found| found.partition(index).is_some());
            if here {
                known.push((topic.name.0.clone(), index));
            }
            exists.push(here);
        }
    }
    let outcomes = match context
        .groups
        .delete_offsets(&request.group_id.0, &known)
        .await
    {
        Ok(outcomes) => outcomes,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut outcomes = outcomes.into_iter();
    let mut codes = exists.into_iter().map(|here| {
        let outcome = if here { outcomes.next() } else { None };
        code_of(&outcome.unwrap_or(Err(GroupError::UnknownTopicOrPartition)))
    });
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .zip(codes.by_ref())
            .map(|(partition, code)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}
