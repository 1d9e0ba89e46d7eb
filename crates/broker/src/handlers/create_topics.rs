//! CreateTopics (key 19). A replication factor other than 1 cannot be kept and is refused as Kafka with one node does;
//! -1 stands for the broker's defaults (KIP-464). Replica assignments must name this node only.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::topic_entries;
use super::{message, node, text};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;
use crate::topics::{NewTopic, Overrides};

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let version = request_context.api_version;
    let mut seen = HashSet::new();
    let repeated: HashSet<_> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(topic.name.clone()))
        .map(|topic| topic.name.clone())
        .collect();
    let mut answered = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        if !answered.insert(wanted.name.clone()) {
            continue;
        }
        let result = CreatableTopicResult::default().with_name(wanted.name.clone());
        topics.push(if repeated.contains(&wanted.name) {
            failed(
                result,
                ResponseError::InvalidRequest,
                Some(text("Duplicate topic name.")),
            )
        } else {
            one(context, version, request.validate_only, wanted, result).await
        });
    }
    CreateTopicsResponse::default().with_topics(topics)
}

fn failed(
    result: CreatableTopicResult,
    code: ResponseError,
    message: Option<StrBytes>,
) -> CreatableTopicResult {
    // -1 and null: "not known", as the fields of a topic that was not created.
    result
        .with_error_code(code.code())
        .with_error_message(message)
}

async fn one(
    context: &HandlerContext,
    version: i16,
    validate_only: bool,
    wanted: CreatableTopic,
    result: CreatableTopicResult,
) -> CreatableTopicResult {
    let partitions = match partition_count(context, &wanted) {
        Ok(partitions) => partitions,
        Err((code, reason)) => return failed(result, code, Some(text(reason))),
    };
    let mut overrides = Overrides::new();
    for config in &wanted.configs {
        // A null value means the default.
        if let Some(value) = &config.value {
            overrides.insert(config.name.to_string(), value.to_string());
        }
    }
    let new = NewTopic {
        name: wanted.name.to_string(),
        partitions,
        overrides: overrides.clone(),
    };
    let done = if validate_only {
        context.topics.check_new(&new).map(|()| None)
    } else {
        context.topics.create(new).await.map(Some)
    };
    let created = match done {
        Ok(created) => created,
        Err(error) => return failed(result, error.kafka_code(), message(&error)),
    };
    let mut result = result;
    if version >= 5 {
        let configs = topic_entries(context, &overrides)
            .into_iter()
            .map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(entry.name)
                    .with_value(entry.value)
                    .with_config_source(entry.source)
            })
            .collect();
        result = result
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(Some(configs));
    }
    match created {
        Some(topic) if version >= 7 => result.with_topic_id(topic.id),
        _ => result,
    }
}

fn partition_count(
    context: &HandlerContext,
    wanted: &CreatableTopic,
) -> Result<i32, (ResponseError, String)> {
    if wanted.assignments.is_empty() {
        if !matches!(wanted.replication_factor, -1 | 1) {
            return Err((
                ResponseError::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {} time(s): this is one node; use replication factor 1 or -1.",
                    wanted.replication_factor
                ),
            ));
        }
        return Ok(match wanted.num_partitions {
            -1 => context.config.num_partitions,
            count => count,
        });
    }
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        return Err((
            ResponseError::InvalidRequest,
            "Both partitions or replication factor and assignments are set.".to_owned(),
        ));
    }
    let mut indexes: Vec<i32> = wanted
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let consecutive = indexes
        .iter()
        .zip(0i32..)
        .all(|(index, expected)| *index == expected);
    let here = |brokers: &Vec<BrokerId>| brokers.as_slice() == [node(context)];
    if !consecutive || !wanted.assignments.iter().all(|one| here(&one.broker_ids)) {
        return Err((
            ResponseError::InvalidReplicaAssignment,
            format!(
                "Every partition from 0 on must be assigned to node {} alone.",
                node(context).0
            ),
        ));
    }
    Ok(i32::try_from(wanted.assignments.len()).unwrap_or(i32::MAX))
}
