//! Doors for the fuzz targets: every parser of this crate on bytes in memory.

use crate::log_file::LogReader;
use crate::md5::md5;
use crate::{meta, record};

/// The bytes as a log file: read to the end, every put decoded.
pub fn log_file(bytes: &[u8]) {
    let mut reader = LogReader::in_memory(bytes);
    let mut findings = 0usize;
    let mut behind = 0;
    while let Ok(Some(_)) = reader.next(&mut |_| findings += 1) {
        assert!(reader.position() > behind, "reading goes on");
        behind = reader.position();
    }
    assert!(findings <= bytes.len(), "a place is found once");
    for start in 0..bytes.len().min(64) {
        drop(record::put(&bytes[start..]));
    }
}

/// The bytes as each of the small files, for those with a checksum also with one that fits.
pub fn small_files(bytes: &[u8]) {
    drop(meta::log_meta(bytes));
    drop(meta::checkpoint_meta(bytes));
    drop(meta::in_flight(bytes));
    drop(meta::in_flight(&[&md5(bytes)[..], bytes].concat()));
}
