//! DeleteTopics (key 20), by name or (version 6) by topic id.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::message;
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let version = request_context.api_version;
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut responses = Vec::new();
    for wanted in request.topics.into_iter().chain(by_name) {
        responses.push(one(context, version, wanted).await);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn one(
    context: &HandlerContext,
    version: i16,
    wanted: DeleteTopicState,
) -> DeletableTopicResult {
    let mut result = DeletableTopicResult::default().with_name(wanted.name.clone());
    if version >= 6 {
        result = result.with_topic_id(wanted.topic_id);
    }
    if !context.config.delete_topics {
        return result.with_error_code(ResponseError::TopicDeletionDisabled.code());
    }
    let name = match wanted.name {
        Some(name) => name.to_string(),
        None => match context.topics.get_by_id(wanted.topic_id) {
            Some(topic) => {
                result = result.with_name(Some(topic.name.clone()));
                topic.name.to_string()
            }
            None => return result.with_error_code(ResponseError::UnknownTopicId.code()),
        },
    };
    let offsets = context.groups.forget_topic(&name);
    match context.topics.delete(&name, offsets).await {
        Ok(topic) if version >= 6 => result.with_topic_id(topic.id),
        Ok(_) => result,
        Err(error) => {
            let result = result.with_error_code(error.kafka_code().code());
            if version >= 5 {
                result.with_error_message(message(&error))
            } else {
                result
            }
        }
    }
}
