//! Complaining about a path without flooding the log: once a minute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// The same path is complained about once in this time.
const EVERY: Duration = Duration::from_secs(60);
/// Paths remembered at most.
const MAX_PATHS: usize = 1024;

/// When each path was last complained about.
#[derive(Default)]
pub(crate) struct Complaints {
    last: HashMap<PathBuf, Instant>,
}

impl Complaints {
    /// Whether to complain about `path` now.
    pub(crate) fn due(&mut self, path: &Path, now: Instant) -> bool {
        let last = self.last.get(path);
        if last.is_some_and(|last| now.duration_since(*last) < EVERY) {
            return false;
        }
        if self.last.len() >= MAX_PATHS {
            self.last.clear();
        }
        self.last.insert(path.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn once_a_minute() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let path = Path::new("/a");
        assert!(complaints.due(path, start));
        assert!(!complaints.due(path, start + Duration::from_secs(59)));
        assert!(complaints.due(Path::new("/b"), start));
        assert!(complaints.due(path, start + EVERY));
    }
}
