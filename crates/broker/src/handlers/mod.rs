//! One file per API key: `pub(crate) async fn handle(&HandlerContext, &RequestContext, Request) -> Response`.
//!
//! A handler owns the decoded request, never fails (errors are codes inside the response) and sets only fields that
//! the request's version knows, because the encoder refuses others.

pub(crate) mod groups;
