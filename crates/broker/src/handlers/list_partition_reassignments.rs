//! ListPartitionReassignments (key 46): there is one node, so nothing ever moves. `kafka-topics --describe` asks.

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::context::{HandlerContext, RequestContext};

pub(crate) async fn handle(
    _context: &HandlerContext,
    _request_context: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_topics(Vec::new())
}
