//! FindCoordinator (key 10): this node, for groups and transactional ids alike. Version 4 and later ask for several
//! keys at once (KIP-699).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{HandlerContext, RequestContext};
use crate::handlers::node;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// What a node id says when there is no coordinator.
const NO_NODE: i32 = -1;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let known = matches!(request.key_type, GROUP | TRANSACTION);
    let (advertised, response) = (
        &request_context.advertised,
        FindCoordinatorResponse::default(),
    );
    let refusal = StrBytes::from_static_str("This kind of coordinator is not served here.");
    if request_context.api_version >= 4 {
        let coordinator = |key: StrBytes| {
            let found = Coordinator::default().with_key(key);
            if !known {
                return found
                    .with_node_id(NO_NODE.into())
                    .with_port(NO_NODE)
                    .with_error_code(ResponseError::InvalidRequest.code())
                    .with_error_message(Some(refusal.clone()));
            }
            found
                .with_node_id(node(context))
                .with_host(advertised.host.clone())
                .with_port(advertised.port)
        };
        return response.with_coordinators(
            request
                .coordinator_keys
                .into_iter()
                .map(coordinator)
                .collect(),
        );
    }
    if !known {
        let response = response
            .with_node_id(NO_NODE.into())
            .with_port(NO_NODE)
            .with_error_code(ResponseError::InvalidRequest.code());
        return response.with_error_message(Some(refusal));
    }
    response
        .with_node_id(node(context))
        .with_host(advertised.host.clone())
        .with_port(advertised.port)
}
