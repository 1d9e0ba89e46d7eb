//! The log's own files.

use flafka_log_store::fuzzing;

pub(super) fn journal_records(input: &[u8]) {
    fuzzing::journal_record(input);
}

pub(super) fn checkpoints(input: &[u8]) {
    fuzzing::checkpoint(input);
}

pub(super) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    fuzzing::seeds().0
}

pub(super) fn journal_record_seeds() -> Vec<Vec<u8>> {
    fuzzing::seeds().1
}
