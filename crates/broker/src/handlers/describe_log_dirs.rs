//! DescribeLogDirs (key 35): the sizes of partitions in each data directory, and the room on its volume (version 4). A
//! directory that is offline answers KAFKA_STORAGE_ERROR without partitions, as Kafka's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::text;
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;
use crate::log_dirs::LogDir;
use crate::topics::Topic;

/// Topics and partitions that are asked for; `None` = all.
type Wanted = Option<BTreeMap<String, BTreeSet<i32>>>;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let wanted: Wanted = request.topics.map(|topics| {
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
    let topics = context.topics.list();
    let dirs = context.log_dirs.all().iter();
    let results = dirs.map(|dir| describe(request_context.api_version, dir, &topics, &wanted));
    DescribeLogDirsResponse::default().with_results(results.collect())
}

fn describe(
    version: i16,
    dir: &LogDir,
    topics: &[Arc<Topic>],
    wanted: &Wanted,
) -> DescribeLogDirsResult {
    let result = DescribeLogDirsResult::default().with_log_dir(text(dir.path().to_string_lossy()));
    if let Err(offline) = dir.log() {
        return result.with_error_code(offline.kafka_code().code());
    }
    let topics = topics.iter().filter_map(|topic| sizes(dir, topic, wanted));
    let result = result.with_topics(topics.collect());
    if version < 4 {
        return result;
    }
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match dir.volume() {
        Some(volume) => result
            .with_total_bytes(bytes(volume.total))
            .with_usable_bytes(bytes(volume.free)),
        // -1 = not known, the field's default.
        None => result,
    }
}

/// The partitions of a topic that are in the directory; `None` when there are none.
fn sizes(dir: &LogDir, topic: &Topic, wanted: &Wanted) -> Option<DescribeLogDirsTopic> {
    let chosen = match wanted {
        None => None,
        Some(wanted) => Some(wanted.get(topic.name.as_str())?),
    };
    let partitions: Vec<_> = (0i32..)
        .zip(&topic.partitions)
        .filter(|(index, _)| chosen.is_none_or(|chosen| chosen.contains(index)))
        .filter(|(_, place)| place.dir().index() == dir.index())
        .filter_map(|(index, place)| {
            let (log, stream) = place.online().ok()?;
            let bounds = log.bounds(stream).ok()?;
            Some(
                DescribeLogDirsPartition::default()
                    .with_partition_index(index)
                    .with_partition_size(i64::try_from(bounds.bytes).unwrap_or(i64::MAX)),
            )
        })
        .collect();
    (!partitions.is_empty()).then(|| {
        DescribeLogDirsTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    })
}
