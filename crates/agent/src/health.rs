//! What state each component is in: what `/health` and `/ready` show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentState {
    /// Not started yet.
    Starting,
    /// At work.
    Running,
    /// A source that has nothing left to do (such as `seq` after its last event).
    Finished,
    /// Failed; tried again after a pause.
    Failed {
        /// The error with its causes.
        error: String,
        /// Failures in a row.
        attempts: u32,
    },
    /// Stopped on request.
    Stopped,
}

impl ComponentState {
    /// One word for the state.
    pub fn word(&self) -> &'static str {
        match self {
            ComponentState::Starting => "starting",
            ComponentState::Running => "running",
            ComponentState::Finished => "finished",
            ComponentState::Failed { .. } => "failed",
            ComponentState::Stopped => "stopped",
        }
    }
}

/// The states of all components of a process, under their full names.
#[derive(Debug, Clone, Default)]
pub struct HealthBoard {
    states: Arc<Mutex<BTreeMap<String, ComponentState>>>,
}

impl HealthBoard {
    /// Sets the state of a component.
    pub fn set(&self, component: &str, state: ComponentState) {
        self.lock().insert(component.to_owned(), state);
    }

    /// Forgets the components of an agent, before it is built anew and may have other ones.
    pub fn forget_agent(&self, agent: &str) {
        self.lock().retain(|component, _| {
            let of_agent = component.strip_prefix(agent);
            !of_agent.is_some_and(|rest| rest.starts_with('.'))
        });
    }

    /// The state of a component.
    pub fn get(&self, component: &str) -> Option<ComponentState> {
        self.lock().get(component).cloned()
    }

    /// Every component and its state, by name.
    pub fn all(&self) -> Vec<(String, ComponentState)> {
        let states = self.lock();
        states
            .iter()
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect()
    }

    /// Whether no component is failed.
    pub fn healthy(&self) -> bool {
        !self
            .lock()
            .values()
            .any(|state| matches!(state, ComponentState::Failed { .. }))
    }

    /// Whether every component has started and works.
    pub fn ready(&self) -> bool {
        let states = self.lock();
        let at_work = |state: &ComponentState| {
            matches!(state, ComponentState::Running | ComponentState::Finished)
        };
        !states.is_empty() && states.values().all(at_work)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ComponentState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_an_agent_leaves_others_alone() {
        let board = HealthBoard::default();
        board.set("a1.sources.r1", ComponentState::Stopped);
        for other in ["a11.sources.r1", "broker"] {
            board.set(other, ComponentState::Running);
        }
        assert!(!board.ready());
        board.forget_agent("a1");
        assert!(board.ready());
        assert_eq!(board.get("a1.sources.r1"), None);
        assert_eq!(board.all().len(), 2);
    }
}
