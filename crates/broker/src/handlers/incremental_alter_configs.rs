//! IncrementalAlterConfigs (key 44, KIP-339): SET, DELETE, APPEND and SUBTRACT single configs of a topic.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::alter_configs::{Refused, check_resource, store};
use super::text;
use crate::config::settings::ValueType;
use crate::context::{HandlerContext, RequestContext};
use crate::topics::{Overrides, config};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn one(
    context: &HandlerContext,
    validate_only: bool,
    resource: AlterConfigsResource,
) -> Result<(), Refused> {
    check_resource(resource.resource_type)?;
    let mut overrides = context
        .topics
        .get(&resource.resource_name)
        .map(|topic| topic.overrides.clone())
        .unwrap_or_default();
    let mut seen = HashSet::new();
    for change in resource.configs {
        if !seen.insert(change.name.clone()) {
            return Err((
                ResponseError::InvalidRequest,
                Some(text(format!("config {} stands twice", change.name))),
            ));
        }
        apply(context, &mut overrides, change)?;
    }
    store(context, validate_only, &resource.resource_name, overrides).await
}

fn apply(
    context: &HandlerContext,
    overrides: &mut Overrides,
    change: AlterableConfig,
) -> Result<(), Refused> {
    let key = change.name.to_string();
    let value = match (change.config_operation, change.value) {
        (DELETE, _) => {
            overrides.remove(&key);
            return Ok(());
        }
        (SET | APPEND | SUBTRACT, Some(value)) => value.to_string(),
        (SET | APPEND | SUBTRACT, None) => {
            return Err((
                ResponseError::InvalidRequest,
                Some(text(format!("config {key} needs a value"))),
            ));
        }
        (other, _) => {
            return Err((
                ResponseError::InvalidRequest,
                Some(text(format!("unknown config operation {other}"))),
            ));
        }
    };
    if change.config_operation == SET {
        overrides.insert(key, value);
        return Ok(());
    }
    let setting = config::find(&key).filter(|setting| setting.value_type == ValueType::List);
    let Some(setting) = setting else {
        return Err((
            ResponseError::InvalidConfig,
            Some(text(format!(
                "config {key} is not a list: nothing can be appended or subtracted"
            ))),
        ));
    };
    let present = overrides
        .get(&key)
        .cloned()
        .unwrap_or_else(|| setting.default_text(&context.config));
    let mut items: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
    for item in value.split(',') {
        items.retain(|other| *other != item);
        if change.config_operation == APPEND {
            items.push(item);
        }
    }
    overrides.insert(key, items.join(","));
    Ok(())
}
