//! The streams of the partitions: in which directory each is put, and what happens when that refuses.
//!
//! Invariant: a new partition goes to the directory with the fewest partitions that works and has room; one that is
//! there stays where it is.

use std::collections::HashSet;
use std::sync::Arc;

use flafka_log_store::{CommitError, Log, StreamId, StreamSettings, Ticket};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use tracing::warn;

use super::stored::{Places, StoredTopic};
use super::{Topic, TopicConfig, Topics};
use crate::log_dirs::{LogDir, Partition};

pub(super) fn stream_name(topic: &str, partition: usize) -> String {
    format!("topic/{topic}/{partition}")
}

/// What becomes of a partition that its directory refuses to open, or to give other settings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is an error.
    Fails,
    /// It is logged, unless the directory is the main one.
    Isolated,
}

/// A partition's stream on its way.
enum Opening {
    Created(Ticket<StreamId>),
    /// It is there; its settings may have to change.
    Found(StreamId, Option<Ticket<()>>),
}

impl Opening {
    fn of(log: &Log, name: &str, settings: &StreamSettings) -> Opening {
        match log.stream(name) {
            None => Opening::Created(log.create_stream(name, settings.clone())),
            Some(stream) => {
                let differs = log.settings(stream).ok().as_ref() != Some(settings);
                let update = differs.then(|| log.update_stream(stream, settings.clone()));
                Opening::Found(stream, update)
            }
        }
    }
}

impl Topics {
    /// Makes or finds the streams of a topic, in the directories that `stored` names. All creations are queued before the
    /// first is awaited, so that they share the journal's syncs.
    pub(super) async fn materialise(
        &self,
        name: &str,
        stored: &StoredTopic,
        refusal: Refusal,
    ) -> Result<Topic, CommitError> {
        let config = TopicConfig::effective(&self.broker, &stored.overrides);
        let settings = config.stream_settings();
        let pending = (0..stored.partitions as usize).map(|partition| {
            let dir = match stored.places.id_of(partition) {
                None => self.dirs.main_dir(),
                // Every directory that a partition is in is known, found or not.
                Some(id) => self.dirs.by_id(id).unwrap_or(self.dirs.main_dir()),
            };
            let opening = dir
                .log()
                .ok()
                .map(|log| Opening::of(log, &stream_name(name, partition), &settings));
            (Arc::clone(dir), opening)
        });
        let pending: Vec<_> = pending.collect();
        let mut partitions = Vec::with_capacity(pending.len());
        for (dir, opening) in pending {
            let stream = match opening {
                None => None,
                Some(Opening::Created(ticket)) => {
                    self.unless_isolated(&dir, ticket.await, refusal)?
                }
                Some(Opening::Found(stream, None)) => Some(stream),
                Some(Opening::Found(stream, Some(update))) => {
                    self.unless_isolated(&dir, update.await, refusal)?;
                    Some(stream)
                }
            };
            partitions.push(Partition::new(dir, stream));
        }
        Ok(Topic {
            name: TopicName(StrBytes::from_string(name.to_owned())),
            id: stored.id,
            partitions,
            overrides: stored.overrides.clone(),
            config,
            created_ms: stored.created_ms,
        })
    }

    /// What a directory other than the main one refuses is logged, if it may.
    pub(super) fn unless_isolated<T>(
        &self,
        dir: &LogDir,
        done: Result<T, CommitError>,
        refusal: Refusal,
    ) -> Result<Option<T>, CommitError> {
        dir.note(&done);
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error)
                if refusal == Refusal::Isolated && dir.index() != self.dirs.main_dir().index() =>
            {
                warn!(dir = %dir.path().display(), %error, "the data directory refuses a change to a topic; the next start makes it");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where the partitions of a topic go: those that are there stay, a new one goes to the directory with the fewest.
    pub(super) fn places(&self, present: &[Partition], total: u32) -> Places {
        let mut taken = vec![0; self.dirs.all().len()];
        for topic in self.read().by_name.values() {
            for partition in &topic.partitions {
                taken[partition.dir().index()] += 1;
            }
        }
        let more = (total as usize).saturating_sub(present.len());
        let new = self.dirs.place(&mut taken, more);
        let present = present
            .iter()
            .map(|partition| self.id_unless_main(partition.dir()));
        Places::new(present.chain(new.iter().map(|dir| self.id_unless_main(dir))))
    }

    fn id_unless_main<'a>(&self, dir: &'a LogDir) -> Option<&'a str> {
        dir.id()
            .filter(|_| dir.index() != self.dirs.main_dir().index())
    }

    pub(super) fn stored_form(&self, topic: &Topic) -> StoredTopic {
        let places = topic.partitions.iter();
        StoredTopic {
            id: topic.id,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            created_ms: topic.created_ms,
            overrides: topic.overrides.clone(),
            places: Places::new(places.map(|partition| self.id_unless_main(partition.dir()))),
        }
    }

    /// Deletes the streams of topics that are not `owned`, by directory and name.
    pub(super) async fn remove_strays(
        &self,
        owned: &HashSet<(usize, String)>,
    ) -> Result<(), CommitError> {
        for dir in self.dirs.all() {
            let Ok(log) = dir.log() else {
                continue;
            };
            for (stream, name) in log.streams() {
                if name.starts_with("topic/") && !owned.contains(&(dir.index(), name.clone())) {
                    warn!(stream = %name, dir = %dir.path().display(), "remove a stream that an unfinished topic change left behind");
                    let deleted = log.delete_stream(stream).await;
                    self.unless_isolated(dir, deleted, Refusal::Isolated)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes streams that bear a new topic's names: what a deletion could not finish must not come back as its data.
    pub(super) async fn remove_leftovers(
        &self,
        name: &str,
        partitions: u32,
    ) -> Result<(), CommitError> {
        for dir in self.dirs.all() {
            let Ok(log) = dir.log() else {
                continue;
            };
            for partition in 0..partitions as usize {
                if let Some(stream) = log.stream(&stream_name(name, partition)) {
                    log.delete_stream(stream).await?;
                }
            }
        }
        Ok(())
    }
}
