//! Producer ids for InitProducerId, taken from blocks that are journaled before the first id is handed out.
//!
//! ```text
//! table ProducerIds, key "next": next block start, i64 BE
//! ```
//!
//! Invariant: an id is never handed out twice, whatever crashes: a block's end is durable before its ids are used, and
//! a start begins at the journaled end, skipping what was left of the block before.

use bytes::Bytes;
use flafka_log_store::{CommitError, Log, Op, Table};
use tokio::sync::Mutex;

const KEY: &[u8] = b"next";
/// Ids per block: one journal entry serves so many producers.
const BLOCK: i64 = 1_000;

#[derive(Debug)]
struct Block {
    next: i64,
    end: i64,
}

/// Hands out producer ids.
pub(crate) struct ProducerIds {
    log: Log,
    block: Mutex<Block>,
}

impl ProducerIds {
    pub(crate) fn open(log: Log) -> ProducerIds {
        let start = log
            .get(Table::ProducerIds, KEY)
            .and_then(|value| value.as_ref().try_into().ok())
            .map_or(0, i64::from_be_bytes);
        ProducerIds {
            log,
            block: Mutex::new(Block {
                next: start,
                end: start,
            }),
        }
    }

    /// A producer id that nobody has had before.
    ///
    /// # Errors
    /// The log refused to journal a new block.
    pub(crate) async fn allocate(&self) -> Result<i64, CommitError> {
        let mut block = self.block.lock().await;
        if block.next == block.end {
            let end = block.end + BLOCK;
            self.log
                .commit(vec![Op::Put {
                    table: Table::ProducerIds,
                    key: Bytes::from_static(KEY),
                    value: Bytes::copy_from_slice(&end.to_be_bytes()),
                }])
                .await?;
            block.end = end;
        }
        let id = block.next;
        block.next += 1;
        Ok(id)
    }
}
