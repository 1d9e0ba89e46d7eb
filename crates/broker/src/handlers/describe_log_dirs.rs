//! DescribeLogDirs (key 35): sizes of partitions in the one log directory, and the room on its volume (version 4).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::text;
use crate::context::{HandlerContext, RequestContext};

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let wanted: Option<BTreeMap<String, BTreeSet<i32>>> = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| {
                (
                    topic.topic.to_string(),
                    topic.partitions.into_iter().collect(),
                )
            })
            .collect()
    });
    let mut topics = Vec::new();
    for topic in context.topics.list() {
        let chosen = match &wanted {
            None => None,
            Some(wanted) => match wanted.get(topic.name.as_str()) {
                Some(partitions) => Some(partitions),
                None => continue,
            },
        };
        let partitions = (0i32..)
            .zip(&topic.partitions)
            .filter(|(index, _)| chosen.is_none_or(|chosen| chosen.contains(index)))
            .filter_map(|(index, stream)| {
                let bounds = context.log.bounds(*stream).ok()?;
                Some(
                    DescribeLogDirsPartition::default()
                        .with_partition_index(index)
                        .with_partition_size(i64::try_from(bounds.bytes).unwrap_or(i64::MAX)),
                )
            })
            .collect();
        topics.push(
            DescribeLogDirsTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    let mut result = DescribeLogDirsResult::default()
        .with_log_dir(text(context.config.log_dir.to_string_lossy()))
        .with_topics(topics);
    if request_context.api_version >= 4 {
        let (total, usable) = volume(context);
        result = result.with_total_bytes(total).with_usable_bytes(usable);
    }
    DescribeLogDirsResponse::default().with_results(vec![result])
}

/// Bytes of the volume, and those still free; -1 = not known.
fn volume(context: &HandlerContext) -> (i64, i64) {
    match rustix::fs::statvfs(&context.config.log_dir) {
        Ok(volume) => {
            let bytes = |blocks: u64| {
                i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX)
            };
            (bytes(volume.f_blocks), bytes(volume.f_bavail))
        }
        Err(_) => (-1, -1),
    }
}
