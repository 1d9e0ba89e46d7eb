//! Encrypts what an import writes, as the channel itself will do it: what was encrypted on the disk stays so.
//!
//! The import is a plain blocking program and the data keys are async, so there is a small runtime here, which does
//! nothing but wait for the log.

use bytes::Bytes;
use flafka_log_store::{Log, StreamId};
use tokio::runtime::{Builder, Runtime};

use super::encryption::{DataKeys, KeySource, MasterKeys, seal};
use super::import_error::ImportError;

/// Bytes sealed under one data key.
const ROLL_BYTES: u64 = 256 << 20;

pub(super) struct Sealer {
    runtime: Runtime,
    keys: DataKeys,
}

impl Sealer {
    /// Opens the data keys of the target and makes a new one under the active key.
    pub(super) fn open(
        log: &Log,
        stream: StreamId,
        source: KeySource,
    ) -> Result<Sealer, ImportError> {
        let masters = MasterKeys::open(source).map_err(ImportError::keys)?;
        let bounds = log.bounds(stream)?;
        let low = log.unacked(stream)?.low;
        let waiting = (low.max(bounds.log_start).0, bounds.high_watermark.0);
        let runtime = Builder::new_current_thread()
            .build()
            .map_err(ImportError::Runtime)?;
        let opening = DataKeys::open(log, stream, Some(masters), waiting, ROLL_BYTES);
        let keys = runtime.block_on(opening).map_err(ImportError::keys)?;
        Ok(Sealer { runtime, keys })
    }

    /// Seals the batches of one commit group.
    pub(super) fn seal(&self, log: &Log, batches: Vec<Bytes>) -> Result<Vec<Bytes>, ImportError> {
        let sealing = async {
            match self.keys.sealing(log).await? {
                Some(key) => seal(key, batches).await,
                None => Ok(batches),
            }
        };
        self.runtime.block_on(sealing).map_err(ImportError::keys)
    }
}
