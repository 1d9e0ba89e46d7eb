//! JoinGroup (key 11). Waits until the rebalance completes or the client is gone.

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{GroupError, JoinFailure, JoinRequest, Joined, Protocol, detach};

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let version = request_context.api_version;
    let join = translate(request_context, &request);
    let answer = tokio::select! {
        answer = context.groups.join(&request.group_id.0, join) => answer,
        () = request_context.disconnected.cancelled() => {
            Err(JoinFailure { error: GroupError::GroupDead, member_id: request.member_id })
        }
    };
    match answer {
        Ok(joined) => accepted(joined, version),
        Err(JoinFailure { error, member_id }) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_member_id(member_id)
            // Null is allowed from version 7.
            .with_protocol_name((version < 7).then(StrBytes::default)),
    }
}

fn translate(request_context: &RequestContext, request: &JoinGroupRequest) -> JoinRequest {
    let version = request_context.api_version;
    let client_id = request_context
        .client_id
        .as_ref()
        .map(detach)
        .unwrap_or_default();
    let instance_id = request.group_instance_id.as_ref().map(detach);
    let prefix = instance_id.as_ref().unwrap_or(&client_id);
    let session_timeout = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    JoinRequest {
        member_id: detach(&request.member_id),
        new_member_id: StrBytes::from_string(format!("{}-{}", prefix.as_str(), Uuid::new_v4())),
        client_host: StrBytes::from_string(format!("/{}", request_context.peer.ip())),
        session_timeout,
        // Version 0 has none: the session timeout counts for both.
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).unwrap_or(session_timeout),
        protocol_type: detach(&request.protocol_type),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| Protocol {
                name: detach(&protocol.name),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        requires_member_id: version >= 4,
        can_skip_assignment: version >= 9,
        client_id,
        instance_id,
    }
}

fn accepted(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.instance_id)
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type((version >= 7).then_some(joined.protocol_type))
        .with_protocol_name(Some(joined.protocol))
        .with_leader(joined.leader)
        .with_member_id(joined.member_id)
        .with_skip_assignment(joined.skip_assignment)
        .with_members(members.collect())
}
