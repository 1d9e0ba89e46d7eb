//! DescribeCluster (key 60): the one node. A request for controllers (endpoint type 2) is refused as a Kafka broker
//! refuses it.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::{CLUSTER_OPERATIONS, NO_OPERATIONS, node, text};
use crate::context::{HandlerContext, RequestContext};

const BROKERS: i8 = 1;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let version = request_context.api_version;
    if version >= 1 && request.endpoint_type != BROKERS {
        return DescribeClusterResponse::default()
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(text("The request was sent to a broker endpoint.")));
    }
    let advertised = &request_context.advertised;
    let broker = DescribeClusterBroker::default()
        .with_broker_id(node(context))
        .with_host(advertised.host.clone())
        .with_port(advertised.port);
    let operations = if request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        NO_OPERATIONS
    };
    DescribeClusterResponse::default()
        .with_cluster_id(context.cluster_id.clone())
        .with_controller_id(node(context))
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(operations)
}
