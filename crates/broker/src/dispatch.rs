//! From a guarded frame to an encoded response.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::context::RequestContext;

/// Why a request could not be answered in the protocol; the connection is closed and the reason logged once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// The key is not in the table of served APIs.
    #[error("api key {key} is not served")]
    NotServed {
        /// The API key as sent.
        key: i16,
    },
    /// The body does not decode although the guard let it pass (bad UTF-8, unknown enum value).
    #[error("request body does not decode: {0}")]
    Decode(String),
    /// The response does not encode: a defect of a handler.
    #[error("response does not encode: {0}")]
    Encode(String),
}

/// An encoded response body as the pieces to be written one after the other (no response header).
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The pieces; record data of a Fetch stays in its own pieces and is never copied together.
    pub(crate) pieces: Vec<Bytes>,
}

/// Decodes a guarded body in the request's version.
pub(crate) fn decode<Q: Decodable>(
    mut body: Bytes,
    request: &RequestContext,
) -> Result<Q, DispatchError> {
    Q::decode(&mut body, request.api_version)
        .map_err(|error| DispatchError::Decode(error.to_string()))
}

/// Encodes a response body in one piece, in the request's version.
pub(crate) fn encode<A: Encodable>(
    response: &A,
    request: &RequestContext,
) -> Result<Response, DispatchError> {
    let mut buffer = BytesMut::with_capacity(256);
    response
        .encode(&mut buffer, request.api_version)
        .map_err(|error| DispatchError::Encode(error.to_string()))?;
    Ok(Response {
        pieces: vec![buffer.freeze()],
    })
}
