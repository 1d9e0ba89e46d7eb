//! OffsetFetch (key 9). An unknown group, topic or partition has offset -1 and no error (trap T10 of the reference).
//! Version 8 and later ask for several groups (KIP-709). `require_stable` (KIP-447) changes nothing as long as no
//! transaction can hold offsets back.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::context::{HandlerContext, RequestContext};
use crate::groups::CommittedOffset;

/// Partitions in one answer. A request can name the same groups again and again, each with all its offsets.
const MAX_PARTITIONS: usize = 1_000_000;

/// A topic and its partitions' offsets, before they take the form of a version.
type Fetched = (TopicName, Vec<(i32, Option<CommittedOffset>)>);

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    let mut room = MAX_PARTITIONS;
    if request_context.api_version >= 8 {
        let groups = request
            .groups
            .into_iter()
            .map(|group| fetch_group(context, group, &mut room));
        return response.with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let Some(fetched) = fetch(context, &request.group_id, topics, &mut room) else {
        return response.with_error_code(ResponseError::InvalidRequest.code());
    };
    let topics = fetched.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, committed)| {
            let (offset, leader_epoch, metadata) = parts(committed);
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(metadata))
        });
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

fn fetch_group(
    context: &HandlerContext,
    group: OffsetFetchRequestGroup,
    room: &mut usize,
) -> OffsetFetchResponseGroup {
    let topics = group.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let fetched = fetch(context, &group.group_id, topics, room);
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
    let Some(fetched) = fetched else {
        return response.with_error_code(ResponseError::InvalidRequest.code());
    };
    let topics = fetched.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, committed)| {
            let (offset, leader_epoch, metadata) = parts(committed);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(metadata))
        });
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

/// The offsets asked for, or all if `topics` is `None`. `None` when the answer would be too large.
fn fetch(
    context: &HandlerContext,
    group_id: &GroupId,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
    room: &mut usize,
) -> Option<Vec<Fetched>> {
    if *room == 0 {
        return None;
    }
    let groups = &context.groups;
    let fetched: Vec<Fetched> = match topics {
        Some(topics) => {
            let fetch = |(name, indexes): (TopicName, Vec<i32>)| {
                let offset = |index| (index, groups.fetch_offset(&group_id.0, &name.0, index));
                let partitions = indexes.into_iter().map(offset).collect();
                (name, partitions)
            };
            topics.into_iter().map(fetch).collect()
        }
        None => {
            let all = groups.fetch_all_offsets(&group_id.0).into_iter();
            let topic = all.map(|(name, partitions)| {
                let partitions = partitions
                    .into_iter()
                    .map(|(index, offset)| (index, Some(offset)));
                (TopicName(name), partitions.collect())
            });
            topic.collect()
        }
    };
    let partitions = fetched.iter().map(|(_, partitions)| partitions.len()).sum();
    *room = room.saturating_sub(partitions);
    Some(fetched)
}

/// Offset, leader epoch and metadata as the answer has them.
fn parts(committed: Option<CommittedOffset>) -> (i64, i32, StrBytes) {
    match committed {
        Some(committed) => (committed.offset, committed.leader_epoch, committed.metadata),
        None => (-1, -1, StrBytes::default()),
    }
}
