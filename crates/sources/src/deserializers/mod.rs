//! Event deserializers: from the bytes of a finished file to events (reference 2.7).
//!
//! Each gives batches together with the position from which reading has to go on once the channels
//! have taken them. Positions are Flume's, so that a tracker file means the same to both.

mod avro;
mod blob;
mod line;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use flafka_avro_wire::container::ContainerError;
use flafka_flow::registry::{Description, TypeNames};
use flafka_flow::settings::{BadValue, Field, Reader, Setting, nearest};
use flafka_flow::{Batch, Headers, choice};
use thiserror::Error;

pub use avro::AvroDeserializerConfig;
pub use blob::BlobDeserializerConfig;
pub use line::LineDeserializerConfig;

use crate::charset::Charset;

/// The deserializers, for the reference.
pub const DESERIALIZERS: &[Description] = &[
    Description::of::<LineDeserializerConfig>(TypeNames {
        alias: Some("LINE"),
        also: &[],
        classes: &["org.apache.flume.serialization.LineDeserializer$Builder"],
    }),
    Description::of::<AvroDeserializerConfig>(TypeNames {
        alias: Some("AVRO"),
        also: &[],
        classes: &["org.apache.flume.serialization.AvroEventDeserializer$Builder"],
    }),
    Description::of::<BlobDeserializerConfig>(TypeNames {
        alias: None,
        also: &["BLOB"],
        classes: &["org.apache.flume.sink.solr.morphline.BlobDeserializer$Builder"],
    }),
];

/// Bodies of one batch end at this many bytes, whatever the batch size, so that memory stays
/// bounded; a single larger event is a batch of its own.
const MAX_BATCH_BYTES: usize = 16 << 20;

choice! {
    /// What is done with bytes that are not text of the charset.
    pub enum DecodeErrorPolicy {
        /// The file cannot be read on.
        Fail = "FAIL",
        /// U+FFFD stands for them.
        Replace = "REPLACE",
        /// They are left out.
        Ignore = "IGNORE",
    }
}

/// The settings of the deserializer that was chosen.
#[derive(Debug, Clone)]
pub enum DeserializerConfig {
    /// `LINE`.
    Line(LineDeserializerConfig),
    /// `AVRO`.
    Avro(AvroDeserializerConfig),
    /// `BLOB`.
    Blob(BlobDeserializerConfig),
}

impl DeserializerConfig {
    /// Reads the keys below `prefix` for the deserializer called `name`; `None` when there is none
    /// of that name.
    fn named(reader: &mut Reader<'_>, name: &str, prefix: &str) -> Option<Option<Self>> {
        let [line, avro, blob] = DESERIALIZERS else {
            return None;
        };
        if line.names.matches(name) {
            return Some(reader.below(prefix).map(Self::Line));
        }
        if avro.names.matches(name) {
            return Some(reader.below(prefix).map(Self::Avro));
        }
        if blob.names.matches(name) {
            return Some(reader.below(prefix).map(Self::Blob));
        }
        None
    }

    fn name(&self) -> &'static str {
        let index = match self {
            Self::Line(_) => 0,
            Self::Avro(_) => 1,
            Self::Blob(_) => 2,
        };
        DESERIALIZERS[index].names.main()
    }
}

impl Setting for DeserializerConfig {
    fn parse(_: &str) -> Result<Self, BadValue> {
        Err(BadValue::new(
            "is read with the keys below it",
            Self::kind(),
        ))
    }

    fn kind() -> String {
        let names: Vec<_> = DESERIALIZERS
            .iter()
            .map(|known| format!("`{}`", known.names.main()))
            .collect();
        format!(
            "one of {}; its own keys stand below this one",
            names.join(", ")
        )
    }

    fn show(&self) -> Option<String> {
        Some(self.name().to_owned())
    }

    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        let prefix = format!("{}.", field.key);
        let named = reader.entry(field).map(|entry| entry.value.trim());
        let name = named.or(default.as_ref().map(Self::name));
        let Some(name) = name else {
            reader.error(field.key, "required key is missing", Some(Self::kind()));
            return None;
        };
        if let Some(config) = Self::named(reader, name, &prefix) {
            return config;
        }
        let near = nearest(name, DESERIALIZERS.iter().map(|known| known.names.main()));
        let message = match near {
            Some(near) => format!("no such deserializer; did you mean `{near}`?"),
            None => "no such deserializer; Java classes cannot be loaded".to_owned(),
        };
        reader.error(field.key, message, Some(Self::kind()));
        reader.prefixed(&prefix);
        None
    }
}

/// Why a file cannot be read on.
#[derive(Debug, Error)]
pub(crate) enum DeserializeError {
    /// The policy is FAIL and there are bytes that are not text.
    #[error(
        "byte {position} and following are no {charset}; decodeErrorPolicy = REPLACE or IGNORE would read on"
    )]
    Malformed {
        /// Where the line begins.
        position: u64,
        /// The input charset.
        charset: &'static str,
    },
    /// Not the container file that was promised.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The schema of a container file cannot be understood.
    #[error("schema of the Avro file")]
    Schema(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A datum does not follow its schema.
    #[error("datum {datum} of the block at byte {position} does not follow the schema")]
    Datum {
        /// Where the block begins.
        position: u64,
        /// Which of its datums, from 1.
        datum: u64,
    },
    /// The file system failed.
    #[error("read the file")]
    Read(#[from] io::Error),
}

impl DeserializeError {
    /// Whether the content itself is at fault, so that reading again would not help.
    pub(crate) fn is_content(&self) -> bool {
        !matches!(
            self,
            DeserializeError::Read(_) | DeserializeError::Container(ContainerError::Read(_))
        )
    }
}

/// A batch and where to go on behind it.
pub(crate) struct Piece {
    pub(crate) batch: Batch,
    /// Position in the file from which a restart has to read.
    pub(crate) position: u64,
    /// Bytes of the bodies.
    pub(crate) bytes: usize,
}

/// Reads one file.
pub(crate) trait EventDeserializer: Send {
    /// The next events, at most `limit`; `None` at the end of the file. A file that has grown
    /// since can be read on. Blocks.
    fn read(&mut self, limit: usize) -> Result<Option<Piece>, DeserializeError>;
}

/// How files are to be opened.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) config: DeserializerConfig,
    pub(crate) charset: Charset,
    pub(crate) policy: DecodeErrorPolicy,
}

impl Opening {
    /// A deserializer over `file` that begins at `position` and gives each event `headers`.
    pub(crate) fn open(
        &self,
        file: File,
        position: u64,
        headers: Headers,
    ) -> Result<Box<dyn EventDeserializer>, DeserializeError> {
        Ok(match &self.config {
            DeserializerConfig::Line(config) => Box::new(line::LineDeserializer::open(
                file,
                position,
                headers,
                config,
                (self.charset, self.policy),
            )?),
            DeserializerConfig::Avro(config) => Box::new(avro::AvroDeserializer::open(
                file, position, headers, config,
            )?),
            DeserializerConfig::Blob(config) => {
                Box::new(blob::BlobDeserializer::new(file, position, headers, config))
            }
        })
    }
}

/// Appends up to `wanted` bytes of `file` from `position`; fewer at its end.
fn read_on(file: &File, buffer: &mut Vec<u8>, position: u64, wanted: usize) -> io::Result<usize> {
    let start = buffer.len();
    buffer.reserve_exact(wanted);
    let end = start + wanted;
    while buffer.len() < end {
        let at = position + (buffer.len() - start) as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(end);
    Ok(buffer.len() - start)
}

/// Fills `bytes` from the start of `file` as far as it goes.
fn first_bytes(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_deserializer_is_documented_and_named_once() {
        let mut names = BTreeSet::new();
        for deserializer in DESERIALIZERS {
            for name in deserializer.names.all() {
                assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
            }
            assert!(!deserializer.docs.is_empty());
            for field in (deserializer.fields)() {
                assert!(!field.docs.is_empty(), "{}", field.key);
            }
        }
    }
}
