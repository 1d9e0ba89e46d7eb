//! DescribeTopicPartitions (key 75, KIP-966): topics page by page. Empty topic list = all topics, in name order.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};

use super::{NO_LEADER, TOPIC_OPERATIONS, node};
use crate::context::{HandlerContext, RequestContext};
use crate::topics::Topic;

/// Kafka's `max.request.partition.size.limit`.
const MAX_PARTITIONS_PER_PAGE: i32 = 2_000;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let limit = request
        .response_partition_limit
        .clamp(1, MAX_PARTITIONS_PER_PAGE) as usize;
    let mut names: Vec<TopicName> = if request.topics.is_empty() {
        let all = context.topics.list();
        all.iter().map(|topic| topic.name.clone()).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    names.sort();
    names.dedup();
    let start = request
        .cursor
        .map(|cursor| (cursor.topic_name, cursor.partition_index.max(0) as usize));
    let mut room = limit;
    let mut topics = Vec::new();
    let mut next = None;
    for name in names {
        let first = match &start {
            Some((topic, _)) if name < *topic => continue,
            Some((topic, partition)) if name == *topic => *partition,
            _ => 0,
        };
        if room == 0 {
            next = Some(
                Cursor::default()
                    .with_topic_name(name)
                    .with_partition_index(0),
            );
            break;
        }
        let Some(topic) = context.topics.get(&name) else {
            topics.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_name(Some(name))
                    .with_error_code(ResponseError::UnknownTopicOrPartition.code()),
            );
            continue;
        };
        let end = topic.partitions.len().min(first.saturating_add(room));
        room -= end.saturating_sub(first);
        topics.push(page(context, &topic, first, end));
        if end < topic.partitions.len() {
            next = Some(
                Cursor::default()
                    .with_topic_name(name)
                    .with_partition_index(i32::try_from(end).unwrap_or(i32::MAX)),
            );
            break;
        }
    }
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

fn page(
    context: &HandlerContext,
    topic: &Arc<Topic>,
    first: usize,
    end: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let node = node(context);
    let partitions = (first..end)
        .map(|index| {
            let partition = DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()));
            match topic.partitions[index].online() {
                Ok((log, _)) => partition
                    .with_leader_id(node)
                    .with_leader_epoch(log.epoch()),
                Err(_) => partition
                    .with_error_code(ResponseError::LeaderNotAvailable.code())
                    .with_leader_id(NO_LEADER)
                    .with_offline_replicas(vec![node]),
            }
        })
        .collect();
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic.name.clone()))
        .with_topic_id(topic.id)
        .with_partitions(partitions)
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}
