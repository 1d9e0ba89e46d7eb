//! What is checked of a commit before it is queued, on the caller's thread, so that the commit thread need not.

use flafka_kafka_wire::records::{self, BatchHeader};

use crate::error::CommitError;
use crate::op::Op;
use crate::queue::Prepared;
use crate::settings::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Checks batches and sizes. Returns the ops and their bytes.
pub(crate) fn prepare(ops: Vec<Op>, each: bool) -> Result<(Vec<Prepared>, u64), CommitError> {
    let mut bytes = 0;
    let mut prepared = Vec::with_capacity(ops.len());
    for op in ops {
        match prepare_one(op, &mut bytes) {
            Ok(op) => prepared.push(op),
            Err(error) if each => prepared.push(Prepared::Refused(error)),
            Err(error) => return Err(error),
        }
    }
    Ok((prepared, bytes))
}

fn prepare_one(op: Op, bytes: &mut u64) -> Result<Prepared, CommitError> {
    let too_large = |what, found: usize, allowed: usize| {
        Err(CommitError::TooLarge {
            what,
            found: found as u64,
            allowed: allowed as u64,
        })
    };
    match &op {
        Op::Put { key, value, .. } => {
            if key.len() > MAX_KEY_BYTES {
                return too_large("key", key.len(), MAX_KEY_BYTES);
            }
            if value.len() > MAX_VALUE_BYTES {
                return too_large("value", value.len(), MAX_VALUE_BYTES);
            }
            *bytes += (key.len() + value.len()) as u64;
        }
        Op::Delete { key, .. } => {
            if key.len() > MAX_KEY_BYTES {
                return too_large("key", key.len(), MAX_KEY_BYTES);
            }
            *bytes += key.len() as u64;
        }
        Op::Ack { .. } | Op::TrimTo { .. } => {}
        Op::Append { .. } => {}
    }
    let Op::Append {
        stream,
        batches,
        stamp,
    } = op
    else {
        return Ok(Prepared::Plain(op));
    };
    let headers = check_batches(&batches)?;
    *bytes += batches.len() as u64;
    Ok(Prepared::Append {
        stream,
        batches,
        headers,
        stamp,
    })
}

fn check_batches(batches: &[u8]) -> Result<Vec<BatchHeader>, CommitError> {
    let mut headers = Vec::with_capacity(1);
    for batch in records::batches(batches) {
        let (_, batch) = batch.map_err(CommitError::InvalidBatch)?;
        // Whether it may hold fewer records than offsets is up to the stream; the plan looks.
        headers.push(records::verify(batch).map_err(CommitError::InvalidBatch)?);
    }
    if headers.is_empty() {
        return Err(CommitError::EmptyAppend);
    }
    Ok(headers)
}
