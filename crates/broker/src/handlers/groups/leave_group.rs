//! LeaveGroup (key 13). Version 3 and later name several members, each with its own answer (KIP-345).

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{Leaving, code_of};

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let several = request_context.api_version >= 3;
    let leaving: Vec<Leaving> = if several {
        let members = request.members.into_iter();
        let leaving = members.map(|member| Leaving {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
        });
        leaving.collect()
    } else {
        vec![Leaving {
            member_id: request.member_id,
            instance_id: None,
        }]
    };
    let response = LeaveGroupResponse::default();
    let outcomes = match context.groups.leave(&request.group_id.0, &leaving) {
        Ok(outcomes) => outcomes,
        Err(error) => return response.with_error_code(error.code()),
    };
    if !several {
        return response.with_error_code(outcomes.first().map_or(0, code_of));
    }
    let members = leaving.into_iter().zip(outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.instance_id)
            .with_error_code(code_of(&outcome))
    });
    response.with_members(members.collect())
}
