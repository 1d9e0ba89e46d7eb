//! AlterConfigs (key 33): replaces all configs of a topic. Broker configs come from `server.properties` and change with
//! a restart.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, TOPIC};
use super::{message, text};
use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;
use crate::topics::{Overrides, config};

/// Error code and text of a refused change.
pub(super) type Refused = (ResponseError, Option<StrBytes>);

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match one(context, request.validate_only, resource).await {
            Ok(()) => response,
            Err((code, message)) => response
                .with_error_code(code.code())
                .with_error_message(message),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn one(
    context: &HandlerContext,
    validate_only: bool,
    resource: AlterConfigsResource,
) -> Result<(), Refused> {
    check_resource(resource.resource_type)?;
    let mut overrides = Overrides::new();
    for entry in resource.configs {
        if let Some(value) = entry.value {
            overrides.insert(entry.name.to_string(), value.to_string());
        }
    }
    store(context, validate_only, &resource.resource_name, overrides).await
}

/// Only topics can be changed while running.
pub(super) fn check_resource(resource_type: i8) -> Result<(), Refused> {
    match resource_type {
        TOPIC => Ok(()),
        BROKER => Err((
            ResponseError::InvalidConfig,
            Some(text(
                "broker configs come from server.properties: change the file and restart",
            )),
        )),
        other => Err((
            ResponseError::InvalidRequest,
            Some(text(format!("resource type {other} has no configs here"))),
        )),
    }
}

/// Checks and, unless only validating, stores a topic's overrides.
pub(super) async fn store(
    context: &HandlerContext,
    validate_only: bool,
    topic: &str,
    overrides: Overrides,
) -> Result<(), Refused> {
    if context.topics.get(topic).is_none() {
        return Err((
            ResponseError::UnknownTopicOrPartition,
            Some(text(format!("topic {topic} does not exist"))),
        ));
    }
    if validate_only {
        return config::validate(&overrides).map_err(|error| (error.kafka_code(), message(&error)));
    }
    context
        .topics
        .set_overrides(topic, overrides)
        .await
        .map(drop)
        .map_err(|error| (error.kafka_code(), message(&error)))
}
