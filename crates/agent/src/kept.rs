//! What memory channels hold, over a reload of the configuration (Flume reference 1.7, channel reuse).
//!
//! Flume keeps the object of a channel whose name and class are in the new configuration too, unless the class is
//! `@Disposable`. Here everything is built anew, and a channel that would forget its events hands them to the next of
//! its name and type: so a reload waits for no sink, and one that is down costs nothing. Channels that keep their events
//! themselves have nothing to hand over. Invariant: what is handed over is drained neither before nor lost after.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flafka_config::topology::AgentConfig;
use flafka_flow::channel::Contents;
use flafka_flow::registry::{Registry, TypeNames};

/// What channels of a process hand to the next ones.
#[derive(Clone, Default)]
pub struct KeptChannels {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The channels of the next configuration, by full name, with their types.
    next: HashMap<String, &'static str>,
    /// The directories that its channels use, if there is one.
    next_directories: Option<HashSet<PathBuf>>,
    held: HashMap<String, (&'static str, Contents)>,
}

impl KeptChannels {
    /// Says what configuration comes next; before the agents of the present one are stopped. `home` is where Flume's
    /// default paths begin.
    pub fn prepare(&self, agents: &[AgentConfig], registry: &Registry, home: &Path) {
        let mut next = HashMap::new();
        let mut directories = HashSet::new();
        for agent in agents {
            for channel in &agent.channels {
                let mut entries = registry.channels.iter();
                let entry =
                    entries.find(|entry| entry.description.names.matches(&channel.type_name));
                if let Some(entry) = entry {
                    let name = format!("{}.channels.{}", agent.name, channel.name);
                    next.insert(name, kind(&entry.description.names));
                    let promise = (entry.promise)(&channel.section, home);
                    directories.extend(promise.into_iter().flat_map(|promise| promise.directories));
                }
            }
        }
        let mut state = self.lock();
        state.next = next;
        state.next_directories = Some(directories);
    }

    /// Whether a configuration comes next that uses none of these directories of a channel.
    pub(crate) fn leaves_all(&self, directories: &[PathBuf]) -> bool {
        let state = self.lock();
        let next = state.next_directories.as_ref();
        next.is_some_and(|next| {
            !directories.is_empty() && directories.iter().all(|dir| !next.contains(dir))
        })
    }

    /// Whether events wait for a next configuration.
    pub fn holds_any(&self) -> bool {
        !self.lock().held.is_empty()
    }

    /// Whether the next configuration has this channel.
    pub(crate) fn is_next(&self, name: &str, kind: &str) -> bool {
        self.lock().next.get(name).is_some_and(|next| *next == kind)
    }

    pub(crate) fn hold(&self, name: &str, kind: &'static str, contents: Contents) {
        self.lock().held.insert(name.to_owned(), (kind, contents));
    }

    /// What the channel of this name and type held.
    pub(crate) fn take(&self, name: &str, kind: &str) -> Option<Contents> {
        let mut state = self.lock();
        state.next.remove(name);
        let (held, contents) = state.held.remove(name)?;
        (held == kind).then_some(contents)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One name for a type, however the configuration spells it.
pub(crate) fn kind(names: &TypeNames) -> &'static str {
    names.classes.first().copied().or(names.alias).unwrap_or("")
}
