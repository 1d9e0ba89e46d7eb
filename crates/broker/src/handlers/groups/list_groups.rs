//! ListGroups (key 16), filtered by state (KIP-518) and by type (KIP-848); every group is of type "classic".

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{HandlerContext, RequestContext};

const CLASSIC: &str = "classic";

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|name| name.eq_ignore_ascii_case(value))
    };
    if !wanted(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let listed = context
        .groups
        .list()
        .into_iter()
        .filter(|group| wanted(&request.states_filter, group.state.name()))
        .map(|group| {
            ListedGroup::default()
                .with_group_id(GroupId(group.group_id))
                .with_protocol_type(group.protocol_type)
                .with_group_state(StrBytes::from_static_str(group.state.name()))
                .with_group_type(StrBytes::from_static_str(CLASSIC))
        });
    ListGroupsResponse::default().with_groups(listed.collect())
}
