//! DescribeGroups (key 15). An unknown group is "Dead" without an error before version 6, an error since (KIP-1043).

use std::collections::HashSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{HandlerContext, RequestContext};
use crate::groups::{GroupError, GroupState, GroupSummary};

/// READ, DELETE, DESCRIBE as bits: all that can be done to a group.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let version = request_context.api_version;
    // A group named again would only repeat what may be a large answer.
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for group_id in request.groups {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let mut group = match context.groups.describe(&group_id.0) {
            Ok(summary) => described(summary),
            Err(error) => unknown(error, version),
        };
        if request.include_authorized_operations {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(group.with_group_id(group_id));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn unknown(error: GroupError, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(GroupState::Dead.name()));
    match error {
        GroupError::GroupIdNotFound if version < 6 => group,
        GroupError::GroupIdNotFound => {
            let message = StrBytes::from_static_str("The group does not exist.");
            group
                .with_error_code(error.code())
                .with_error_message(Some(message))
        }
        other => group.with_error_code(other.code()),
    }
}

fn described(summary: GroupSummary) -> DescribedGroup {
    let members = summary.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.instance_id)
            .with_client_id(member.client_id)
            .with_client_host(member.client_host)
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(summary.state.name()))
        .with_protocol_type(summary.protocol_type)
        .with_protocol_data(summary.protocol)
        .with_members(members.collect())
}
