//! The files of an Apache Flume file channel; the seeds are what a real one has left.

use flafka_flume_channel::fuzzing;

pub(super) fn log_files(input: &[u8]) {
    fuzzing::log_file(input);
}

pub(super) fn small_files(input: &[u8]) {
    fuzzing::small_files(input);
}

pub(super) fn log_file_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../tests/fixtures/flume_channel/killed/data1/log-3").to_vec(),
        include_bytes!("../../../tests/fixtures/flume_channel/killed/data2/log-6").to_vec(),
    ]
}

pub(super) fn small_file_seeds() -> Vec<Vec<u8>> {
    let takes =
        include_bytes!("../../../tests/fixtures/flume_channel/killed/checkpoint/inflighttakes");
    vec![
        include_bytes!("../../../tests/fixtures/flume_channel/killed/data1/log-3.meta").to_vec(),
        include_bytes!("../../../tests/fixtures/flume_channel/killed/checkpoint/checkpoint.meta")
            .to_vec(),
        takes.to_vec(),
        // Behind the checksum, which the target makes to fit.
        takes[16..].to_vec(),
    ]
}
