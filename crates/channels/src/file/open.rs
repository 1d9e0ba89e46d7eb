//! Opening the log of a file channel, with the keys of what is encrypted in it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flafka_flow::channel::ChannelError;
use flafka_log_store::{
    CommitError, Log, LogOptions, ReadError, StreamId, StreamSettings, SystemClock,
};
use tracing::{info, warn};

use super::channel::Shared;
use super::encryption::{DataKeys, MasterKeys};
use super::foreign::refuse_flume_files;

/// Name of the channel's stream in its log.
const STREAM: &str = "channel";
/// Size of the log's journal files.
const JOURNAL_FILE_BYTES: u64 = 32 << 20;

/// The open log.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) log: Log,
    pub(super) stream: StreamId,
    pub(super) keys: Arc<DataKeys>,
    /// How often the channel had been closed when it was opened.
    pub(super) closed: u64,
}

impl Shared {
    pub(super) async fn open_log(&self) -> Result<Open, ChannelError> {
        let data_dir = self.config.data_dir(&self.context.home);
        let options = LogOptions {
            journal_file_bytes: JOURNAL_FILE_BYTES,
            checkpoint_interval: self
                .config
                .checkpoint_interval
                .0
                .max(Duration::from_secs(1)),
            min_free_bytes: self.config.min_free_bytes(),
            ..LogOptions::new(self.config.log_dir(&self.context.home))
        };
        let fs = Arc::clone(&self.fs);
        let key_source = self.config.key_source(&self.context.home);
        let opening = tokio::task::spawn_blocking(
            move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                refuse_flume_files(&data_dir)?;
                let masters = key_source.map(MasterKeys::open).transpose()?;
                let (log, report) = Log::open(options, fs, Arc::new(SystemClock::new()))?;
                Ok((log, report, masters))
            },
        );
        let opened = opening
            .await
            .map_err(|error| self.failed("open the log", true, error))?;
        let (log, report, masters) =
            opened.map_err(|error| self.failed("open the log", true, error))?;
        info!(
            channel = &*self.name,
            ?report,
            "file channel opened its log"
        );
        let opened = self.open_stream(&log, masters).await;
        if opened.is_err()
            && let Err(error) = log.close().await
        {
            warn!(channel = &*self.name, %error, "the log did not close cleanly");
        }
        opened
    }

    async fn open_stream(
        &self,
        log: &Log,
        masters: Option<MasterKeys>,
    ) -> Result<Open, ChannelError> {
        let settings = StreamSettings {
            segment_bytes: self.config.segment_bytes(),
            durability: self.config.durability(),
            max_batch_bytes: i32::MAX as u32,
            acked: true,
            ..StreamSettings::default()
        };
        let failed = |error: CommitError| self.failed("create the stream", true, error);
        let stream = match log.stream(STREAM) {
            None => log.create_stream(STREAM, settings).await.map_err(failed)?,
            Some(stream) => {
                log.update_stream(stream, settings).await.map_err(failed)?;
                stream
            }
        };
        let keys = self.open_keys(log, stream, masters).await?;
        Ok(Open {
            log: log.clone(),
            stream,
            keys: Arc::new(keys),
            closed: self.closed.load(Ordering::SeqCst),
        })
    }

    async fn open_keys(
        &self,
        log: &Log,
        stream: StreamId,
        masters: Option<MasterKeys>,
    ) -> Result<DataKeys, ChannelError> {
        let failed = |error: ReadError| self.failed("read the log", true, error);
        let bounds = log.bounds(stream).map_err(failed)?;
        let low = log.unacked(stream).map_err(failed)?.low;
        let waiting = (low.max(bounds.log_start).0, bounds.high_watermark.0);
        let roll_bytes = u64::from(self.config.segment_bytes());
        DataKeys::open(log, stream, masters, waiting, roll_bytes)
            .await
            .map_err(|error| self.failed("open the encryption keys", error.is_retriable(), error))
    }
}
