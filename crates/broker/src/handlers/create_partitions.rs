//! CreatePartitions (key 37): more partitions for a topic, never fewer.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{message, node, text};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        results.push(one(context, request.validate_only, wanted).await);
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn one(
    context: &HandlerContext,
    validate_only: bool,
    wanted: CreatePartitionsTopic,
) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(wanted.name.clone());
    let elsewhere = wanted
        .assignments
        .iter()
        .flatten()
        .any(|assignment| assignment.broker_ids.as_slice() != [node(context)]);
    if elsewhere {
        return result
            .with_error_code(ResponseError::InvalidReplicaAssignment.code())
            .with_error_message(Some(text(format!(
                "New partitions can be assigned to node {} alone.",
                node(context).0
            ))));
    }
    let done = if validate_only {
        context.topics.check_partitions(&wanted.name, wanted.count)
    } else {
        context
            .topics
            .add_partitions(&wanted.name, wanted.count)
            .await
    };
    match done {
        Ok(_) => result,
        Err(error) => result
            .with_error_code(error.kafka_code().code())
            .with_error_message(message(&error)),
    }
}
