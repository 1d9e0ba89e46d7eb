//! ApiVersions (key 18): which APIs in which versions.
//!
//! Tagged fields that hold their default are left out (old librdkafka reads tags wrongly, trap T4), the software name
//! of version 3 must match Kafka's pattern (T5), and a request version that is not served is answered in version 0
//! with error 35 (KIP-511), see [`unsupported`].

use flafka_kafka_wire::api_versions::SERVED;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::context::{HandlerContext, RequestContext};

pub(crate) async fn handle(
    _context: &HandlerContext,
    request_context: &RequestContext,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = legal(&request.client_software_name) && legal(&request.client_software_version);
    if request_context.api_version >= 3 && !named {
        return ApiVersionsResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    all_keys()
}

/// The answer to a request version that is not served; encoded in version 0.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    all_keys().with_error_code(ResponseError::UnsupportedVersion.code())
}

fn all_keys() -> ApiVersionsResponse {
    let keys = SERVED
        .iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key as i16)
                .with_min_version(api.advertised_min)
                .with_max_version(api.max)
        })
        .collect();
    ApiVersionsResponse::default().with_api_keys(keys)
}

/// Kafka's pattern `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn legal(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["librdkafka", "2.0.2", "apache-kafka-java", "a"] {
            assert!(legal(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", "ä"] {
            assert!(!legal(bad), "{bad}");
        }
    }
}
