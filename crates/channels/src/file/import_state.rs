//! How far an import has come, kept in the target's own journal: it changes in the commit groups that bring the events, so
//! after any crash it says exactly which events are there.
//!
//! Table `Cursors`, key `flume-import/<fingerprint, 16 hex digits>`, value as text:
//! ```text
//! 1 <done 0|1> <next event> <events imported> <events left out> <directory, 16 hex digits>,…
//! ```

use bytes::Bytes;
use flafka_log_store::{Log, Op, Table};

const PREFIX: &str = "flume-import/";
const VERSION: &str = "1";

/// The state of the import of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ImportState {
    /// Of the whole source: [`flafka_flume_channel::Source::fingerprint`].
    pub(super) fingerprint: u64,
    pub(super) done: bool,
    /// Number of the event that comes next.
    pub(super) next: u64,
    pub(super) imported: u64,
    pub(super) left_out: u64,
    /// Of the data directories: [`flafka_flume_channel::directory_print`].
    pub(super) directories: Vec<u64>,
}

/// The states of all imports into a log.
pub(super) fn all(log: &Log) -> Vec<ImportState> {
    let entries = log.scan_prefix(Table::Cursors, PREFIX.as_bytes());
    let parsed = entries
        .iter()
        .filter_map(|(key, value)| ImportState::parse(key, value));
    parsed.collect()
}

impl ImportState {
    /// The op that stores it.
    pub(super) fn store(&self) -> Op {
        let directories: Vec<String> = self.directories.iter().map(|print| hex(*print)).collect();
        let value = format!(
            "{VERSION} {} {} {} {} {}",
            u8::from(self.done),
            self.next,
            self.imported,
            self.left_out,
            directories.join(",")
        );
        Op::Put {
            table: Table::Cursors,
            key: Bytes::from(format!("{PREFIX}{}", hex(self.fingerprint))),
            value: Bytes::from(value),
        }
    }

    fn parse(key: &[u8], value: &[u8]) -> Option<ImportState> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let done = words.next()? == "1";
        let mut number = || words.next()?.parse().ok();
        let (next, imported, left_out) = (number()?, number()?, number()?);
        let directories = words.next()?.split(',').map(unhex).collect::<Option<_>>()?;
        Some(ImportState {
            fingerprint: unhex(key)?,
            done,
            next,
            imported,
            left_out,
            directories,
        })
    }
}

fn hex(value: u64) -> String {
    format!("{value:016x}")
}

fn unhex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_stored() {
        let state = ImportState {
            fingerprint: 0xab,
            done: true,
            next: 12,
            imported: 10,
            left_out: 2,
            directories: vec![1, u64::MAX],
        };
        let Op::Put { key, value, .. } = state.store() else {
            panic!("a put");
        };
        assert_eq!(ImportState::parse(&key, &value), Some(state));
        for broken in ["", "1 1 1", "2 1 1 1 1 1", "1 1 x 1 1 1"] {
            assert_eq!(
                ImportState::parse(&key, broken.as_bytes()),
                None,
                "{broken}"
            );
        }
    }
}
