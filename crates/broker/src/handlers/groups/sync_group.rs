//! SyncGroup (key 14). Waits until the leader has sent the assignments or the client is gone.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{GroupError, SyncRequest, detach};

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let assignments = request.assignments.iter().map(|one| {
        (
            detach(&one.member_id),
            Bytes::copy_from_slice(&one.assignment),
        )
    });
    let sync = SyncRequest {
        member_id: detach(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(detach),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(detach),
        protocol: request.protocol_name.as_ref().map(detach),
        assignments: assignments.collect(),
    };
    let answer = tokio::select! {
        answer = context.groups.sync(&request.group_id.0, sync) => answer,
        () = request_context.disconnected.cancelled() => Err(GroupError::GroupDead),
    };
    match answer {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(synced.protocol_type))
            .with_protocol_name(Some(synced.protocol))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}
