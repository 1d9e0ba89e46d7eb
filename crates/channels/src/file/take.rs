//! What a take gets: the oldest events of all volumes.
//!
//! Within a directory events come in the order of their puts. Over several directories the volume whose next run was
//! put first is next: exactly so for events that are still in memory, by the millisecond of the put for those that are
//! read back.

use std::sync::Arc;

use flafka_flow::channel::{ChannelError, TakeLimit};

use super::channel::Shared;
use super::runs::{Pop, Run};
use super::volume::{Open, Volume};

/// A volume and its log at the moment.
pub(super) type Source = (Arc<Volume>, Open);

/// A run with where it came from.
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) run: Run,
}

/// The oldest events.
pub(super) enum Gathered {
    /// Runs with their events.
    InMemory(Vec<Part>),
    /// A run whose events have to be read first.
    OnDisk(Part),
    /// Nothing is waiting.
    Nothing,
}

impl Shared {
    /// The oldest events up to the limit.
    pub(super) fn gather(&self, limit: TakeLimit) -> Result<Gathered, ChannelError> {
        let mut sources: Vec<Source> = Vec::new();
        let mut is_open = false;
        for volume in self.volumes().iter() {
            let Some(open) = volume.open() else { continue };
            is_open = true;
            if !volume.has_failed() {
                sources.push((Arc::clone(volume), open));
            }
        }
        if !is_open {
            return Err(self.is_closed());
        }
        let mut taken: Vec<Part> = Vec::new();
        let (mut events, mut bytes) = (limit.events.max(1), limit.bytes);
        while events > 0 {
            let Some(source) = oldest(&sources) else {
                break;
            };
            let (volume, open) = source;
            let Some(mut runs) = volume.runs_of(open) else {
                break;
            };
            let popped = runs.pop(events, bytes, taken.is_empty());
            drop(runs);
            let part = |run| Part {
                source: source.clone(),
                run,
            };
            match popped {
                Pop::InMemory(run) => {
                    events -= run.len();
                    bytes = bytes.saturating_sub(run.bytes());
                    taken.push(part(run));
                }
                Pop::OnDisk(run) => return Ok(Gathered::OnDisk(part(run))),
                Pop::NotNow | Pop::Nothing => break,
            }
        }
        Ok(match taken.is_empty() {
            true => Gathered::Nothing,
            false => Gathered::InMemory(taken),
        })
    }
}

/// The source whose next run was put first. One whose next run is on the disk and of unknown age goes first: it has to
/// be read to know.
fn oldest(sources: &[Source]) -> Option<&Source> {
    if let [only] = sources {
        return Some(only);
    }
    let front = |(volume, open): &Source| volume.runs_of(open)?.front_order();
    sources
        .iter()
        .filter_map(|source| Some((front(source)?, source)))
        .min_by_key(|(order, _)| *order)
        .map(|(_, source)| source)
}
