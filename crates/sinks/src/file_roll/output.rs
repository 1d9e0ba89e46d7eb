//! One output file: its serializer, and how much of it is committed.
//!
//! Serializing and writing run on blocking threads, one piece of work at a time; file and
//! serializer travel into the work and back. What failed, or whose caller went away before it
//! knew the outcome, is cut off again, so that what is rolled back into the channel does not stay
//! in the file.
//!
//! Invariant: up to `committed` the file holds whole events that left the channel. After a
//! failed sync the file is never used again: what the system says about it cannot be trusted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flafka_flow::Batch;
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::serializers::{EventSerializer, SerializeError, SerializerConfig};

/// A buffer that one huge batch has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 << 20;

/// What a file has to be able to do; tests bring one that fails.
pub(super) trait Medium: Write + Send {
    /// Forces all bytes to the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length`; the next write goes there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Creates a file that must not be there yet.
pub(super) type Open = Box<dyn Fn(&Path) -> io::Result<Box<dyn Medium>> + Send + Sync>;

/// Creates a new file. Its writes append, so they follow a cut.
pub(super) fn create_file(path: &Path) -> io::Result<Box<dyn Medium>> {
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)?;
    Ok(Box::new(file))
}

/// Forces the directory's entry of a new file to the disk.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Why nothing was appended.
#[derive(Debug, Error)]
pub(super) enum OutputError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Serialize(#[from] SerializeError),
}

/// How much of a group of batches went into the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Appended {
    /// Leading batches that are in the file as a whole.
    pub(super) batches: usize,
    /// When that is none: the leading events of the first batch that are in the file. The others
    /// need a new one.
    pub(super) events: usize,
}

/// File and serializer, owned by whoever works on them.
struct Body {
    medium: Box<dyn Medium>,
    config: SerializerConfig,
    serializer: Box<dyn EventSerializer>,
    buffer: Vec<u8>,
    length: u64,
    usable: bool,
}

type Done = (Body, Result<Appended, OutputError>);

/// An open file.
pub(super) struct Output {
    path: PathBuf,
    body: Option<Body>,
    running: Option<JoinHandle<Done>>,
    committed: u64,
}

impl Output {
    pub(super) fn new(path: PathBuf, medium: Box<dyn Medium>, config: &SerializerConfig) -> Self {
        Self {
            path,
            body: Some(Body {
                medium,
                config: config.clone(),
                serializer: config.build(),
                buffer: Vec::new(),
                length: 0,
                usable: true,
            }),
            running: None,
            committed: 0,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether more can be written.
    pub(super) fn is_usable(&self) -> bool {
        self.running.is_some() || self.body.as_ref().is_some_and(|body| body.usable)
    }

    /// Writes what stands at the beginning.
    pub(super) async fn begin(&mut self) -> Result<(), OutputError> {
        self.work(|body| {
            body.serializer.begin(&mut body.buffer)?;
            body.write_out(false)?;
            Ok(Appended::default())
        })
        .await?;
        self.commit();
        Ok(())
    }

    /// Writes a group of batches, as far as they fit into this file. Counts after
    /// [`Output::commit`].
    ///
    /// # Cancel safety
    /// After a dropped call, [`Output::recover`] takes the bytes out again.
    pub(super) async fn append(
        &mut self,
        batches: Vec<Batch>,
        sync: bool,
    ) -> Result<Appended, OutputError> {
        self.work(move |body| body.append(&batches, sync)).await
    }

    /// What was appended is now the file's for good.
    pub(super) fn commit(&mut self) {
        if let Some(body) = &self.body {
            self.committed = body.length;
        }
    }

    /// Cuts off what was appended and not committed.
    pub(super) async fn recover(&mut self) -> Result<(), OutputError> {
        if self.running.is_some()
            && let Err(error) = self.join().await
        {
            warn!(file = %self.path.display(), %error, "a write failed that nobody waited for");
        }
        let committed = self.committed;
        match &self.body {
            Some(body) if body.usable && body.length != committed => {}
            _ => return Ok(()),
        }
        self.work(move |body| {
            body.cut(committed)?;
            Ok(Appended::default())
        })
        .await?;
        Ok(())
    }

    /// Writes what stands at the end.
    pub(super) async fn end(&mut self, sync: bool) -> Result<(), OutputError> {
        self.work(move |body| {
            body.serializer.end(&mut body.buffer)?;
            body.write_out(sync)?;
            Ok(Appended::default())
        })
        .await?;
        Ok(())
    }

    /// Closes the file.
    pub(super) async fn close(mut self) {
        let body = self.body.take();
        let closed = tokio::task::spawn_blocking(move || drop(body));
        if closed.await.is_err() {
            warn!(file = %self.path.display(), "closing the file panicked");
        }
    }

    /// Runs `work` on a blocking thread.
    async fn work(
        &mut self,
        work: impl FnOnce(&mut Body) -> Result<Appended, OutputError> + Send + 'static,
    ) -> Result<Appended, OutputError> {
        let Some(mut body) = self.body.take().filter(|body| body.usable) else {
            return Err(io::Error::other("the file was given up").into());
        };
        self.running = Some(tokio::task::spawn_blocking(move || {
            body.buffer.clear();
            let outcome = work(&mut body);
            if body.buffer.capacity() > KEPT_BYTES {
                body.buffer = Vec::new();
            }
            (body, outcome)
        }));
        self.join().await
    }

    async fn join(&mut self) -> Result<Appended, OutputError> {
        let Some(running) = self.running.as_mut() else {
            return Ok(Appended::default());
        };
        let joined = running.await;
        self.running = None;
        let (body, outcome) = joined.map_err(io::Error::other)?;
        if !body.usable {
            warn!(file = %self.path.display(), "the file is given up; it may end in events that come again");
        }
        self.body = Some(body);
        outcome
    }
}

impl Body {
    fn append(&mut self, batches: &[Batch], sync: bool) -> Result<Appended, OutputError> {
        let mut appended = Appended::default();
        for batch in batches {
            let before = self.buffer.len();
            let fitting = self.serializer.fitting(batch);
            let is_first = appended.batches == 0;
            if fitting < batch.len() && !is_first {
                break;
            }
            let part = batch.slice(0..fitting);
            match self.serializer.write(&part, &mut self.buffer) {
                Ok(()) => {}
                Err(error) if is_first => return Err(error.into()),
                Err(_) => {
                    // The batch comes again as the first of a group, and then its error counts.
                    self.buffer.truncate(before);
                    break;
                }
            }
            if fitting < batch.len() {
                appended.events = fitting;
                break;
            }
            appended.batches += 1;
        }
        self.write_out(sync)?;
        Ok(appended)
    }

    /// Writes the buffer; after a failure the file is as before, or not usable any more.
    fn write_out(&mut self, sync: bool) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.medium.write_all(&self.buffer) {
            if let Err(second) = self.cut(self.length) {
                warn!(error = %second, "cannot cut a file back after a failed write");
            }
            return Err(error);
        }
        if sync && let Err(error) = self.medium.sync() {
            if let Err(second) = self.cut(self.length) {
                warn!(error = %second, "cannot cut a file back after a failed sync");
            }
            self.usable = false;
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.medium
            .cut(length)
            .inspect_err(|_| self.usable = false)?;
        self.length = length;
        if length == 0 {
            // What the serializer believes to have begun is gone.
            self.serializer = self.config.build();
        }
        Ok(())
    }
}
