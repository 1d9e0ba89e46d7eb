//! The Kafka protocol as bytes: frames and their guard, record batches, codecs; no I/O

pub mod records;
