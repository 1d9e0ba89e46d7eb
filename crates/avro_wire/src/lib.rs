//! Avro as bytes: Flume's event datum, schemas, and object container files.
//!
//! No code here does I/O but [`container::ContainerReader`], which reads what it is given. All
//! lengths and counts from outside are checked against the bytes that are there before anything
//! is allocated or repeated, so damaged or hostile input costs no more than its size.

pub mod container;
pub mod flume_event;
pub mod schema;
pub mod varint;
