//! Changes of the set of streams: create, update, delete. Many that wait together are one journal group with one sync.
//!
//! Order: a new stream's directory is durable before the frame that names it; a deleted stream's files go after its
//! frame is durable; a stream that becomes `fsync` is synced first, because from then on its frames promise all before.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use crate::codec::Writer;
use crate::engine::{Engine, LOG_DIR, commit_fault, open_for_sync};
use crate::error::{CommitError, IoFault};
use crate::jobs::{Job, sync_all};
use crate::journal::frame::{FrameKind, encode_settings};
use crate::journal::writer::Group;
use crate::op::StreamId;
use crate::queue::{Control, tell};
use crate::settings::{MAX_STREAM_NAME_BYTES, StreamSettings};
use crate::stream::{self, StreamState, StreamView};
use crate::writer::StreamWriter;

impl Engine {
    /// Creates, updates and deletes streams, all in one group.
    pub(crate) fn control(&mut self, controls: Vec<Control>) {
        if let Some(fault) = &self.failure {
            for control in controls {
                control.fail(CommitError::Poisoned(fault.clone()));
            }
            return;
        }
        let mut rest = controls.into_iter();
        // A group must fit into a journal file; the rest waits for the next one.
        loop {
            let mut batch = ControlBatch::default();
            let largest = self.journal.largest_group() / 4;
            for control in rest.by_ref() {
                self.plan_control(control, &mut batch);
                if batch.group.bytes() > largest {
                    break;
                }
            }
            if batch.planned.is_empty() {
                return;
            }
            self.run_controls(batch);
        }
    }

    fn plan_control(&mut self, control: Control, batch: &mut ControlBatch) {
        match control {
            Control::Create {
                name,
                settings,
                reply,
            } => match self.judge_create(&name, &settings, batch) {
                Err(error) => {
                    tell(reply, Err(error));
                }
                Ok(Some(id)) => {
                    tell(reply, Ok(id));
                }
                Ok(None) => {
                    let id = StreamId(self.next_stream_id);
                    self.next_stream_id += 1;
                    let mut out = Writer::default();
                    out.bytes(name.as_bytes());
                    encode_settings(&settings, &mut out);
                    let kind = FrameKind::CreateStream;
                    batch.group.push(kind, false, id.0, &out.into_vec(), []);
                    batch.created.insert(name.clone(), (id, settings.clone()));
                    batch
                        .planned
                        .push(Planned::Create(id, name, settings, reply));
                }
            },
            Control::Update {
                id,
                settings,
                reply,
            } => {
                let known = self.streams.contains_key(&id);
                match check_settings(&settings) {
                    _ if !known => tell(reply, Err(CommitError::UnknownStream(id))),
                    Err(error) => tell(reply, Err(error)),
                    Ok(()) => {
                        let mut out = Writer::default();
                        encode_settings(&settings, &mut out);
                        let kind = FrameKind::UpdateStream;
                        batch.group.push(kind, false, id.0, &out.into_vec(), []);
                        batch.planned.push(Planned::Update(id, settings, reply));
                    }
                }
            }
            Control::Delete { id, reply } => {
                if !self.streams.contains_key(&id) || batch.deleted.contains(&id) {
                    tell(reply, Err(CommitError::UnknownStream(id)));
                    return;
                }
                let kind = FrameKind::DeleteStream;
                batch.group.push(kind, false, id.0, &[], []);
                batch.deleted.push(id);
                batch.planned.push(Planned::Delete(id, reply));
            }
        }
    }

    /// The stream if it is there already, `None` if it has to be made.
    fn judge_create(
        &self,
        name: &str,
        settings: &StreamSettings,
        batch: &ControlBatch,
    ) -> Result<Option<StreamId>, CommitError> {
        let bad_name = name.is_empty()
            || name.len() > MAX_STREAM_NAME_BYTES
            || name.contains(char::is_control);
        if bad_name {
            return Err(CommitError::BadStreamName {
                name: name.chars().take(100).collect(),
                allowed: MAX_STREAM_NAME_BYTES,
            });
        }
        check_settings(settings)?;
        let exists = |id, same: bool| {
            if same {
                Ok(Some(id))
            } else {
                Err(CommitError::StreamExists(id))
            }
        };
        if let Some((id, planned)) = batch.created.get(name) {
            return exists(*id, planned == settings);
        }
        let id = {
            let registry = &self.shared.registry;
            let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.by_name.get(name).copied()
        };
        match id.filter(|id| !batch.deleted.contains(id)) {
            None => Ok(None),
            Some(id) => {
                let same = self
                    .streams
                    .get(&id)
                    .is_some_and(|writer| writer.settings == *settings);
                exists(id, same)
            }
        }
    }

    fn run_controls(&mut self, batch: ControlBatch) {
        let ControlBatch { group, planned, .. } = batch;
        match self.commit_controls(&group, &planned) {
            Ok(()) => {
                self.changed = true;
                for control in planned {
                    self.apply_control(control);
                }
            }
            Err(error) => {
                for control in planned {
                    control.fail(error.clone());
                }
            }
        }
    }

    fn commit_controls(
        &mut self,
        group: &Group<'_>,
        planned: &[Planned],
    ) -> Result<(), CommitError> {
        let log_dir = self.options.dir.join(LOG_DIR);
        let mut made = false;
        for control in planned {
            match control {
                Planned::Create(id, name, ..) => {
                    let dir = log_dir.join(stream::dir_name(*id, name));
                    self.fs
                        .create_dir_all(&dir)
                        .map_err(IoFault::of("create stream directory", &dir))
                        .map_err(commit_fault)?;
                    made = true;
                }
                Planned::Update(id, settings, _) => self.harden(*id, settings)?,
                Planned::Delete(..) => {}
            }
        }
        if made {
            self.fs
                .sync_dir(&log_dir)
                .map_err(IoFault::of("sync directory", &log_dir))
                .map_err(commit_fault)?;
        }
        let written = self.journal.write(group).and_then(|()| self.journal.sync());
        written.map_err(|error| self.journal_fault(error))
    }

    /// From now on appends of this stream promise that all before them is durable: make that true.
    fn harden(&mut self, id: StreamId, settings: &StreamSettings) -> Result<(), CommitError> {
        let Some(writer) = self.streams.get(&id) else {
            return Ok(());
        };
        if !writer.is_weak() || !settings.durability.is_fsync() {
            return Ok(());
        }
        let files = open_for_sync(&*self.fs, &writer.unsynced).map_err(CommitError::Io)?;
        match sync_all(&files) {
            Ok(()) => Ok(()),
            Err(failed) => self.mend(&failed.fault, failed.segments, false),
        }
    }

    fn apply_control(&mut self, control: Planned) {
        let now = self.clock.monotonic();
        match control {
            Planned::Create(id, name, settings, reply) => {
                let dir = self
                    .options
                    .dir
                    .join(LOG_DIR)
                    .join(stream::dir_name(id, &name));
                let view = StreamView::new(settings.clone());
                let state = Arc::new(StreamState::new(id, name.clone(), dir, view));
                self.streams
                    .insert(id, StreamWriter::empty(Arc::clone(&state), settings, now));
                self.register(|registry| {
                    registry.by_id.insert(id, state);
                    registry.by_name.insert(name, id);
                });
                tell(reply, Ok(id));
            }
            Planned::Update(id, settings, reply) => {
                if let Some(writer) = self.streams.get_mut(&id) {
                    writer.settings = settings.clone();
                    writer.state.view_mut().settings = settings;
                }
                tell(reply, Ok(()));
            }
            Planned::Delete(id, reply) => {
                if let Some(writer) = self.streams.remove(&id) {
                    let state = writer.state;
                    state.view_mut().deleted = true;
                    self.register(|registry| {
                        registry.by_id.remove(&id);
                        registry.by_name.remove(&state.name);
                    });
                    self.unlinks.retain(|unlink| unlink.dir != state.dir);
                    self.jobs.push(Job::RemoveDir(state.dir.clone()));
                }
                tell(reply, Ok(()));
            }
        }
    }

    fn register(&self, change: impl FnOnce(&mut crate::log::Registry)) {
        let registry = &self.shared.registry;
        change(&mut registry.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn check_settings(settings: &StreamSettings) -> Result<(), CommitError> {
    let bad = |setting, found: u32, allowed| {
        Err(CommitError::BadSetting {
            setting,
            found: u64::from(found),
            allowed,
        })
    };
    if !(1024..=i32::MAX as u32).contains(&settings.segment_bytes) {
        return bad("segment_bytes", settings.segment_bytes, "1 KiB to 2^31-1");
    }
    if !(61..=i32::MAX as u32).contains(&settings.max_batch_bytes) {
        return bad("max_batch_bytes", settings.max_batch_bytes, "61 to 2^31-1");
    }
    Ok(())
}

#[derive(Default)]
struct ControlBatch {
    group: Group<'static>,
    planned: Vec<Planned>,
    created: HashMap<String, (StreamId, StreamSettings)>,
    deleted: Vec<StreamId>,
}

enum Planned {
    Create(
        StreamId,
        String,
        StreamSettings,
        oneshot::Sender<Result<StreamId, CommitError>>,
    ),
    Update(
        StreamId,
        StreamSettings,
        oneshot::Sender<Result<(), CommitError>>,
    ),
    Delete(StreamId, oneshot::Sender<Result<(), CommitError>>),
}

impl Planned {
    fn fail(self, error: CommitError) {
        match self {
            Planned::Create(.., reply) => tell(reply, Err(error)),
            Planned::Update(.., reply) | Planned::Delete(_, reply) => {
                tell(reply, Err(error));
            }
        }
    }
}

impl Control {
    fn fail(self, error: CommitError) {
        match self {
            Control::Create { reply, .. } => tell(reply, Err(error)),
            Control::Update { reply, .. } | Control::Delete { reply, .. } => {
                tell(reply, Err(error));
            }
        }
    }
}
