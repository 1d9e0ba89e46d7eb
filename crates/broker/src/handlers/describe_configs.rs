//! DescribeConfigs (key 32): the whole set of a topic or the broker, with sources and synonyms.
//!
//! Clients read the set, change one entry and write it back, so nothing may be missing (trap T11).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::config::SETTINGS;
use crate::context::{HandlerContext, RequestContext};
use crate::topics::Overrides;
use crate::topics::config::TOPIC_SETTINGS;

/// Resource types of the protocol.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// Config sources of the protocol.
const TOPIC_CONFIG: i8 = 1;
const STATIC_BROKER_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

/// One config with where its value comes from.
pub(super) struct Entry {
    pub(super) name: StrBytes,
    pub(super) value: Option<StrBytes>,
    pub(super) source: i8,
    read_only: bool,
    value_type: i8,
    doc: &'static str,
    synonyms: Vec<(StrBytes, Option<StrBytes>, i8)>,
}

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let version = request_context.api_version;
    let results = request
        .resources
        .into_iter()
        .map(|resource| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match entries(context, &resource) {
                Ok(entries) => {
                    let wanted = |entry: &Entry| match &resource.configuration_keys {
                        Some(keys) if !keys.is_empty() => keys.contains(&entry.name),
                        _ => true,
                    };
                    let configs = entries
                        .into_iter()
                        .filter(wanted)
                        .map(|entry| {
                            shown(
                                entry,
                                version,
                                request.include_synonyms,
                                request.include_documentation,
                            )
                        })
                        .collect();
                    result.with_configs(configs)
                }
                Err((code, reason)) => result
                    .with_error_code(code.code())
                    .with_error_message(Some(text(reason))),
            }
        })
        .collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn entries(
    context: &HandlerContext,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, (ResponseError, String)> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => match context.topics.get(name) {
            Some(topic) => Ok(topic_entries(context, &topic.overrides)),
            None => Err((
                ResponseError::UnknownTopicOrPartition,
                format!("topic {name} does not exist"),
            )),
        },
        BROKER => {
            // The empty name asks for the cluster-wide dynamic configs, of which there are none.
            if name.is_empty() {
                return Ok(Vec::new());
            }
            check_node(context, name).map(|()| broker_entries(context))
        }
        BROKER_LOGGER => check_node(context, name).map(|()| Vec::new()),
        other => Err((
            ResponseError::InvalidRequest,
            format!("resource type {other} has no configs here"),
        )),
    }
}

fn check_node(context: &HandlerContext, name: &str) -> Result<(), (ResponseError, String)> {
    if name.parse() == Ok(context.config.node_id) {
        Ok(())
    } else {
        Err((
            ResponseError::InvalidRequest,
            format!(
                "expected node id {}, but received {name}",
                context.config.node_id
            ),
        ))
    }
}

/// All configs of a topic with the given overrides.
pub(super) fn topic_entries(context: &HandlerContext, overrides: &Overrides) -> Vec<Entry> {
    TOPIC_SETTINGS
        .iter()
        .map(|setting| {
            let name = StrBytes::from_static_str(setting.key);
            let default = text(setting.default_text(&context.config));
            let explicit = setting
                .broker_key
                .filter(|key| context.config.explicit.contains_key(key));
            let default_source = match explicit {
                Some(_) => STATIC_BROKER_CONFIG,
                None => DEFAULT_CONFIG,
            };
            let own = overrides.get(setting.key).map(|value| text(value.as_str()));
            let mut synonyms = Vec::new();
            if let Some(value) = &own {
                synonyms.push((name.clone(), Some(value.clone()), TOPIC_CONFIG));
            }
            if let Some(key) = setting.broker_key {
                let key = StrBytes::from_static_str(key);
                synonyms.push((key, Some(default.clone()), default_source));
            }
            Entry {
                name,
                source: if own.is_some() {
                    TOPIC_CONFIG
                } else {
                    default_source
                },
                value: Some(own.unwrap_or(default)),
                read_only: false,
                value_type: setting.value_type as i8,
                doc: setting.doc,
                synonyms,
            }
        })
        .collect()
}

fn broker_entries(context: &HandlerContext) -> Vec<Entry> {
    SETTINGS
        .iter()
        .map(|setting| {
            let value = context.config.text_of(setting);
            let value = (!value.is_empty()).then(|| text(value));
            let name = StrBytes::from_static_str(setting.key);
            let source = if context.config.explicit.contains_key(setting.key) {
                STATIC_BROKER_CONFIG
            } else {
                DEFAULT_CONFIG
            };
            Entry {
                synonyms: vec![(name.clone(), value.clone(), source)],
                name,
                value,
                source,
                read_only: true,
                value_type: setting.value_type as i8,
                doc: setting.doc,
            }
        })
        .collect()
}

fn shown(
    entry: Entry,
    version: i16,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(entry.name)
        .with_value(entry.value)
        .with_read_only(entry.read_only)
        .with_config_source(entry.source);
    if synonyms {
        result = result.with_synonyms(
            entry
                .synonyms
                .into_iter()
                .map(|(name, value, source)| {
                    DescribeConfigsSynonym::default()
                        .with_name(name)
                        .with_value(value)
                        .with_source(source)
                })
                .collect(),
        );
    }
    if version >= 3 {
        result = result.with_config_type(entry.value_type);
        if documentation {
            result = result.with_documentation(Some(StrBytes::from_static_str(entry.doc)));
        }
    }
    result
}
