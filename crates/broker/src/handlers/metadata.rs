//! Metadata (key 3): the one node, the topics, and topic creation on first use.
//!
//! A missing topic is created if the request allows it (versions below 4 always do) and
//! `auto.create.topics.enable` is on; it is usable at once, so LEADER_NOT_AVAILABLE appears only for partitions whose data
//! directory is offline.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use super::{CLUSTER_OPERATIONS, NO_LEADER, NO_OPERATIONS, TOPIC_OPERATIONS, node};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;
use crate::topics::Topic;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = request_context.api_version;
    let flags = request_flags(&request, version);
    let mut topics = Vec::new();
    match request.topics {
        // Version 0 has no null: there an empty list means all.
        Some(wanted) if version > 0 || !wanted.is_empty() => {
            for topic in wanted {
                topics.push(one(context, version, &flags, topic).await);
            }
        }
        _ => {
            for topic in context.topics.list() {
                topics.push(describe(context, version, &flags, &topic));
            }
        }
    }
    let advertised = &request_context.advertised;
    let broker = MetadataResponseBroker::default()
        .with_node_id(node(context))
        .with_host(advertised.host.clone())
        .with_port(advertised.port);
    let mut response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_topics(topics);
    if version >= 1 {
        response = response.with_controller_id(node(context));
    }
    if version >= 2 {
        response = response.with_cluster_id(Some(context.cluster_id.clone()));
    }
    if (8..=10).contains(&version) {
        response = response.with_cluster_authorized_operations(
            if request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                NO_OPERATIONS
            },
        );
    }
    response
}

struct Flags {
    may_create: bool,
    operations: i32,
}

fn request_flags(request: &MetadataRequest, version: i16) -> Flags {
    Flags {
        may_create: version < 4 || request.allow_auto_topic_creation,
        operations: if request.include_topic_authorized_operations {
            TOPIC_OPERATIONS
        } else {
            NO_OPERATIONS
        },
    }
}

async fn one(
    context: &HandlerContext,
    version: i16,
    flags: &Flags,
    wanted: MetadataRequestTopic,
) -> MetadataResponseTopic {
    let Some(name) = wanted.name else {
        return match context.topics.get_by_id(wanted.topic_id) {
            Some(topic) => describe(context, version, flags, &topic),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(wanted.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    match context.topics.get_or_create(&name, flags.may_create).await {
        Ok(topic) => describe(context, version, flags, &topic),
        Err(error) => MetadataResponseTopic::default()
            .with_name(Some(TopicName(name.0)))
            .with_error_code(error.kafka_code().code()),
    }
}

/// A partition whose data directory is offline, as Kafka tells it.
fn without_leader(
    version: i16,
    node: BrokerId,
    partition: MetadataResponsePartition,
) -> MetadataResponsePartition {
    let partition = partition
        .with_error_code(ResponseError::LeaderNotAvailable.code())
        .with_leader_id(NO_LEADER);
    match version {
        5.. => partition.with_offline_replicas(vec![node]),
        _ => partition,
    }
}

fn describe(
    context: &HandlerContext,
    version: i16,
    flags: &Flags,
    topic: &Arc<Topic>,
) -> MetadataResponseTopic {
    let node = node(context);
    let partitions = (0i32..)
        .zip(&topic.partitions)
        .map(|(index, place)| {
            let partition = MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_replica_nodes(vec![node])
                .with_isr_nodes(vec![node]);
            match place.online() {
                Ok((log, _)) if version >= 7 => partition
                    .with_leader_id(node)
                    .with_leader_epoch(log.epoch()),
                Ok(_) => partition.with_leader_id(node),
                Err(_) => without_leader(version, node, partition),
            }
        })
        .collect();
    let mut described = MetadataResponseTopic::default()
        .with_name(Some(topic.name.clone()))
        .with_partitions(partitions);
    if version >= 8 {
        described = described.with_topic_authorized_operations(flags.operations);
    }
    if version >= 10 {
        described = described.with_topic_id(topic.id);
    }
    described
}
