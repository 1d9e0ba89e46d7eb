//! DeleteGroups (key 42): groups without members, with their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::context::{HandlerContext, RequestContext};
use crate::groups::code_of;

pub(crate) async fn handle(
    context: &HandlerContext,
    _request_context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let outcome = context.groups.delete_group(&group_id.0).await;
        let result = DeletableGroupResult::default().with_group_id(group_id);
        results.push(result.with_error_code(code_of(&outcome)));
    }
    DeleteGroupsResponse::default().with_results(results)
}
