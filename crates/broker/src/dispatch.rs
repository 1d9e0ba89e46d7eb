//! From a guarded request body to an encoded response: one arm per API.

use bytes::{Bytes, BytesMut};
use flafka_log_store::FileRange;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::context::{HandlerContext, RequestContext};
use crate::handlers::produce::Produced;
use crate::handlers::{
    alter_configs, api_versions, create_partitions, create_topics, delete_records, delete_topics,
    describe_cluster, describe_configs, describe_log_dirs, describe_topic_partitions, fetch,
    groups, incremental_alter_configs, init_producer_id, list_offsets,
    list_partition_reassignments, metadata, offset_for_leader_epoch, produce,
};

/// Why a request could not be answered in the protocol; the connection is closed and the reason logged once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// The key is not in the table of served APIs.
    #[error("api key {key} is not served")]
    NotServed {
        /// The API key as sent.
        key: i16,
    },
    /// The body does not decode although the guard let it pass (bad UTF-8, null where none may be).
    #[error("request body does not decode: {0}")]
    Decode(String),
    /// The response does not encode: a defect of a handler.
    #[error("response does not encode: {0}")]
    Encode(String),
}

/// An encoded response body as the pieces to be written one after the other (no response header).
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The pieces in order.
    pub(crate) pieces: Vec<Piece>,
}

/// A part of a response body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Encoded fields.
    Bytes(Bytes),
    /// Record batches that still lie in a segment; read in small steps as the socket takes them.
    Records {
        /// Which bytes.
        range: FileRange,
        /// Written lately, so the page cache has them and a read does not block.
        is_recent: bool,
    },
}

impl Piece {
    /// Bytes on the wire.
    pub(crate) fn length(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Records { range, .. } => range.length,
        }
    }
}

/// One arm: decode, handle, encode.
macro_rules! answer {
    ($handler:ident, $context:expr, $request:expr, $body:expr) => {{
        let decoded = decode($body, $request)?;
        // Boxed, so that the rare requests do not widen the future of the frequent ones.
        let response = Box::pin($handler::handle($context, $request, decoded)).await;
        encode(&response, $request).map(Some)
    }};
}

/// Answers one request; `None` = the request wants no answer (Produce with `acks=0`).
pub(crate) async fn dispatch(
    context: HandlerContext,
    request_context: RequestContext,
    key: ApiKey,
    body: Bytes,
) -> Result<Option<Response>, DispatchError> {
    let (context, request) = (&context, &request_context);
    match key {
        ApiKey::Produce => {
            let produced = submit_produce(context, request, body).await?;
            finish_produce(context, request, produced).await
        }
        ApiKey::Fetch => {
            let decoded = decode(body, request)?;
            Ok(Some(
                Box::pin(fetch::respond(context, request, decoded)).await,
            ))
        }
        ApiKey::ListOffsets => answer!(list_offsets, context, request, body),
        ApiKey::Metadata => answer!(metadata, context, request, body),
        ApiKey::ApiVersions => answer!(api_versions, context, request, body),
        ApiKey::CreateTopics => answer!(create_topics, context, request, body),
        ApiKey::DeleteTopics => answer!(delete_topics, context, request, body),
        ApiKey::DeleteRecords => answer!(delete_records, context, request, body),
        ApiKey::InitProducerId => answer!(init_producer_id, context, request, body),
        ApiKey::OffsetForLeaderEpoch => answer!(offset_for_leader_epoch, context, request, body),
        ApiKey::DescribeConfigs => answer!(describe_configs, context, request, body),
        ApiKey::AlterConfigs => answer!(alter_configs, context, request, body),
        ApiKey::DescribeLogDirs => answer!(describe_log_dirs, context, request, body),
        ApiKey::CreatePartitions => answer!(create_partitions, context, request, body),
        ApiKey::IncrementalAlterConfigs => {
            answer!(incremental_alter_configs, context, request, body)
        }
        ApiKey::ListPartitionReassignments => {
            answer!(list_partition_reassignments, context, request, body)
        }
        ApiKey::DescribeCluster => answer!(describe_cluster, context, request, body),
        ApiKey::DescribeTopicPartitions => {
            answer!(describe_topic_partitions, context, request, body)
        }
        ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DeleteGroups
        | ApiKey::OffsetDelete => Box::pin(groups::dispatch(context, request, key, body))
            .await
            .map(Some),
        other => Err(DispatchError::NotServed { key: other as i16 }),
    }
}

/// First half of a Produce: its batches are queued in the log, in the order of these calls.
pub(crate) async fn submit_produce(
    context: &HandlerContext,
    request: &RequestContext,
    body: Bytes,
) -> Result<Produced, DispatchError> {
    let decoded = decode(body, request)?;
    Ok(produce::submit(context, request, decoded).await)
}

/// Second half of a Produce: waits for durability.
pub(crate) async fn finish_produce(
    context: &HandlerContext,
    request: &RequestContext,
    produced: Produced,
) -> Result<Option<Response>, DispatchError> {
    match produced.answer(context).await {
        Some(response) => encode(&response, request).map(Some),
        None => Ok(None),
    }
}

/// The answer to an ApiVersions request of an unknown version: always in version 0.
pub(crate) fn unsupported_api_versions() -> Result<Response, DispatchError> {
    encode_version(&api_versions::unsupported(), 0)
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
    encode_version(response, request.api_version)
}

fn encode_version<A: Encodable>(response: &A, version: i16) -> Result<Response, DispatchError> {
    let mut buffer = BytesMut::with_capacity(256);
    response
        .encode(&mut buffer, version)
        .map_err(|error| DispatchError::Encode(error.to_string()))?;
    Ok(Response {
        pieces: vec![Piece::Bytes(buffer.freeze())],
    })
}
