//! Where committed offsets live: the log's journaled tables, behind a trait so that tests can let them fail.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use flafka_log_store::{CommitError, Log, Op, Table};

/// The future of [`OffsetTable::commit`].
pub type CommitFuture<'a> = Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send + 'a>>;

/// Tables of the log as the group coordinator uses them. Reads are in memory and cheap.
pub trait OffsetTable: Send + Sync {
    /// Makes all changes durable in one step, or none.
    fn commit(&self, changes: Vec<Op>) -> CommitFuture<'_>;
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes>;
    /// All keys that begin with `prefix`, in order, with their values.
    fn scan(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)>;
}

impl OffsetTable for Log {
    fn commit(&self, changes: Vec<Op>) -> CommitFuture<'_> {
        Box::pin(async move { Log::commit(self, changes).await.map(drop) })
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        Log::get(self, table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.scan_prefix(table, prefix)
    }
}
