//! One output file, and how much of it is committed.
//!
//! Writes run on blocking threads, one at a time; the file travels into the write and back. A
//! write that failed, or whose caller went away before it knew the outcome, is cut off again, so
//! that what is rolled back into the channel does not stay in the file.
//!
//! Invariant: up to `committed` the file holds whole events that left the channel. After a
//! failed sync the file is never used again: what the system says about it cannot be trusted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;
use tracing::warn;

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

/// The file, owned by whoever works on it.
struct Body {
    medium: Box<dyn Medium>,
    length: u64,
    usable: bool,
}

type Running = JoinHandle<(Body, Vec<u8>, io::Result<()>)>;

/// An open file.
pub(super) struct Output {
    path: PathBuf,
    body: Option<Body>,
    running: Option<Running>,
    committed: u64,
}

impl Output {
    pub(super) fn new(path: PathBuf, medium: Box<dyn Medium>) -> Self {
        Self {
            path,
            body: Some(Body {
                medium,
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

    /// Appends the bytes of `buffer`, which comes back empty. What is appended counts only after
    /// [`Output::commit`].
    ///
    /// # Cancel safety
    /// After a dropped call, [`Output::recover`] takes the bytes out again.
    pub(super) async fn append(&mut self, buffer: &mut Vec<u8>, sync: bool) -> io::Result<()> {
        let Some(mut body) = self.body.take() else {
            return Err(io::Error::other("the file was given up"));
        };
        let bytes = std::mem::take(buffer);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let outcome = body.append(&bytes, sync);
            (body, bytes, outcome)
        }));
        let (mut bytes, outcome) = self.join().await?;
        bytes.clear();
        *buffer = bytes;
        outcome
    }

    /// What was appended is now the file's for good.
    pub(super) fn commit(&mut self) {
        if let Some(body) = &self.body {
            self.committed = body.length;
        }
    }

    /// Cuts off what was appended and not committed.
    pub(super) async fn recover(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            let (_, outcome) = self.join().await?;
            if let Err(error) = outcome {
                warn!(file = %self.path.display(), %error, "a write failed that nobody waited for");
            }
        }
        let committed = self.committed;
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        if body.length == committed || !body.usable {
            self.body = Some(body);
            return Ok(());
        }
        self.running = Some(tokio::task::spawn_blocking(move || {
            let outcome = body.cut(committed);
            (body, Vec::new(), outcome)
        }));
        self.join().await?.1
    }

    /// Closes the file.
    pub(super) async fn close(mut self) {
        let body = self.body.take();
        if tokio::task::spawn_blocking(move || drop(body))
            .await
            .is_err()
        {
            warn!(file = %self.path.display(), "closing the file panicked");
        }
    }

    async fn join(&mut self) -> io::Result<(Vec<u8>, io::Result<()>)> {
        let running = self.running.as_mut().expect("callers have set it");
        let joined = running.await;
        self.running = None;
        let (body, bytes, outcome) = joined.map_err(io::Error::other)?;
        if !body.usable {
            warn!(file = %self.path.display(), "the file is given up; it may end in events that come again");
        }
        self.body = Some(body);
        Ok((bytes, outcome))
    }
}

impl Body {
    fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        if !self.usable {
            return Err(io::Error::other("the file was given up"));
        }
        if let Err(error) = self.medium.write_all(bytes) {
            self.usable = self.medium.cut(self.length).is_ok();
            return Err(error);
        }
        if sync && let Err(error) = self.medium.sync() {
            self.usable = false;
            if let Err(second) = self.medium.cut(self.length) {
                warn!(error = %second, "cannot cut a file back after a failed sync");
            }
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let outcome = self.medium.cut(length);
        match &outcome {
            Ok(()) => self.length = length,
            Err(_) => self.usable = false,
        }
        outcome
    }
}
