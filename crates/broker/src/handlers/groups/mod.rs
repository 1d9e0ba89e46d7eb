//! Handlers of the consumer-group APIs: keys 8-16, 42 and 47.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::context::{HandlerContext, RequestContext};
use crate::dispatch::{DispatchError, Response};

/// Answers one group request; `body` is the guarded request body after the header.
///
/// Each arm is one line: `ApiKey::Heartbeat => encode(&heartbeat::handle(context, request, decode(body, request)?).await,
/// request)`, with [`crate::dispatch::decode`] and [`crate::dispatch::encode`].
pub(crate) async fn dispatch(
    _context: &HandlerContext,
    _request: &RequestContext,
    key: ApiKey,
    _body: Bytes,
) -> Result<Response, DispatchError> {
    Err(DispatchError::NotServed { key: key as i16 })
}
