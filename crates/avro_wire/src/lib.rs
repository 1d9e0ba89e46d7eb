//! Avro as bytes: Flume's event datum and object container files

pub mod flume_event;
