//! InitProducerId (key 22) for idempotent producers. Transactional ids are refused: the transaction keys are not
//! advertised, so a client that asks anyway is told UNSUPPORTED_VERSION, which every client treats as final.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tracing::warn;

use crate::context::{HandlerContext, RequestContext};
use crate::errors::KafkaCode;

pub(crate) async fn handle(
    context: &HandlerContext,
    request_context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Some(id) = &request.transactional_id {
        if !id.is_empty() {
            warn!(transactional_id = %id.0, peer = %request_context.peer, "refuse a transactional producer: transactions are not served");
        }
        let code = if id.is_empty() {
            ResponseError::InvalidRequest
        } else {
            ResponseError::UnsupportedVersion
        };
        return refused(code);
    }
    // A producer that lost its sequence asks with its old id and epoch; a fresh id with epoch 0 is always right.
    match context.producer_ids.allocate().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => refused(error.kafka_code()),
    }
}

fn refused(code: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
