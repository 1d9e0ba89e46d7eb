//! Heartbeat (key 12).

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::code_of;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let outcome = context.groups.heartbeat(
        &request.group_id.0,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id,
    );
    HeartbeatResponse::default().with_error_code(code_of(&outcome))
}
