//! The Kafka protocol as bytes: frames and their guard, record batches, codecs; no I/O.
//!
//! A request's way in: [`frame::frame_len`] bounds the frame, [`header::peek`] names key and version,
//! [`api_versions`] says whether they are served, [`header::parse`] splits off the body, [`guard::check`] bounds every
//! count in it, and only then the generated structs of `kafka-protocol` decode it. Record batches never pass through
//! generated code: the `records` module validates, patches and iterates them in place.

pub mod api_versions;
pub mod frame;
pub mod guard;
pub mod header;
pub mod records;
mod schemas;
