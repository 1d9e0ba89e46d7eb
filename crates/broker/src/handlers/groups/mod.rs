//! Handlers of the consumer-group APIs: keys 8 to 16, 42 and 47, one file each.
//!
//! They translate between the protocol's structs and the group coordinator and hold no rules of their own.

mod delete_groups;
mod describe_groups;
mod find_coordinator;
mod heartbeat;
mod join_group;
mod leave_group;
mod list_groups;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod sync_group;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::context::{HandlerContext, RequestContext};
use crate::dispatch::{DispatchError, Response, decode, encode};

/// Answers one group request; `body` is the guarded request body after the header.
///
/// # Errors
/// The body does not decode, the response does not encode, or the key is none of this module's.
pub(crate) async fn dispatch(
    context: &HandlerContext,
    request: &RequestContext,
    key: ApiKey,
    body: Bytes,
) -> Result<Response, DispatchError> {
    macro_rules! answer {
        ($handler:ident) => {{
            let decoded = decode(body, request)?;
            encode(&$handler::handle(context, request, decoded).await, request)
        }};
    }
    match key {
        ApiKey::OffsetCommit => answer!(offset_commit),
        ApiKey::OffsetFetch => answer!(offset_fetch),
        ApiKey::FindCoordinator => answer!(find_coordinator),
        ApiKey::JoinGroup => answer!(join_group),
        ApiKey::Heartbeat => answer!(heartbeat),
        ApiKey::LeaveGroup => answer!(leave_group),
        ApiKey::SyncGroup => answer!(sync_group),
        ApiKey::DescribeGroups => answer!(describe_groups),
        ApiKey::ListGroups => answer!(list_groups),
        ApiKey::DeleteGroups => answer!(delete_groups),
        ApiKey::OffsetDelete => answer!(offset_delete),
        _ => Err(DispatchError::NotServed { key: key as i16 }),
    }
}
