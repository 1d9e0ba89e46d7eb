//! Event serializers: how file sinks write events (Flume reference 2.7).
//!
//! A serializer appends whole batches to one output buffer; the sink writes the buffer. One
//! serializer belongs to one file. After each [`EventSerializer::write`] the buffer ends where a
//! reader can stop, so a file that is cut there is whole.

use flafka_flow::registry::{Description, TypeNames};
use flafka_flow::settings::{BadValue, Field, Reader, Setting, nearest};
use flafka_flow::{Batch, Headers};
use thiserror::Error;

mod avro;
mod schema_source;
mod text;

use std::path::PathBuf;

pub use avro::{AvroBodyConfig, AvroEventConfig, Compression};
use flafka_avro_wire::schema::{DatumError, SchemaError};
pub use text::{HeaderAndTextConfig, TextConfig};

/// Why events could not be serialized.
#[derive(Debug, Error)]
pub enum SerializeError {
    /// An event begins a file and nobody says what its schema is.
    #[error(
        "no schema is known: the event has no header `flume.avro.schema.url` or `flume.avro.schema.literal`, and `schemaURL` is not set"
    )]
    NoSchema,
    /// The schema lies where we cannot read.
    #[error(
        "schemas are read from local files only (`file:///…` or an absolute path), not from `{url}`"
    )]
    SchemaAddress {
        /// The address.
        url: String,
    },
    /// The schema's file cannot be read.
    #[error("read the schema {}", path.display())]
    ReadSchema {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The schema is absurdly large.
    #[error("the schema has more than a megabyte")]
    SchemaTooLarge,
    /// The schema is none.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The body of an event is no datum of the file's schema.
    #[error("the body of an event is no datum of the schema")]
    NotADatum(#[from] DatumError),
    /// The body of an event goes on behind the datum.
    #[error("the body of an event has {body} bytes, and its datum ends after {datum} bytes")]
    MoreThanADatum {
        /// Bytes of the datum.
        datum: usize,
        /// Bytes of the body.
        body: usize,
    },
}

/// Writes the events of one file.
pub trait EventSerializer: Send {
    /// Appends what stands at the beginning of a new file.
    ///
    /// # Errors
    /// When the file cannot be begun.
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), SerializeError>;

    /// How many leading events of `batch` may stand in this file; the others need a new one. At
    /// least one in a file without events.
    fn fitting(&self, batch: &Batch) -> usize {
        batch.len()
    }

    /// Appends all events of `batch`, up to a boundary at which the file may end.
    ///
    /// # Errors
    /// When an event cannot be written in this form; `out` may then hold a part of the batch.
    fn write(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SerializeError>;

    /// Appends what stands at the end of a file.
    ///
    /// # Errors
    /// When the file cannot be ended.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), SerializeError>;
}

/// A chosen serializer with its settings. As a setting, the key holds the serializer's name and
/// the keys below it are the serializer's own.
#[derive(Debug, Clone)]
pub enum SerializerConfig {
    /// `TEXT`.
    Text(TextConfig),
    /// `HEADER_AND_TEXT`.
    HeaderAndText(HeaderAndTextConfig),
    /// `AVRO_EVENT`.
    AvroEvent(AvroEventConfig),
    /// The Avro serializer of Flume's hdfs package.
    AvroBody(AvroBodyConfig),
}

const TEXT: TypeNames = TypeNames {
    alias: Some("TEXT"),
    also: &[],
    classes: &["org.apache.flume.serialization.BodyTextEventSerializer$Builder"],
};
const HEADER_AND_TEXT: TypeNames = TypeNames {
    alias: Some("HEADER_AND_TEXT"),
    also: &[],
    classes: &["org.apache.flume.serialization.HeaderAndBodyTextEventSerializer$Builder"],
};
const AVRO_EVENT: TypeNames = TypeNames {
    alias: Some("AVRO_EVENT"),
    also: &[],
    classes: &["org.apache.flume.serialization.FlumeEventAvroEventSerializer$Builder"],
};
const AVRO_BODY: TypeNames = TypeNames {
    alias: None,
    also: &["avro_body"],
    classes: &["org.apache.flume.sink.hdfs.AvroEventSerializer$Builder"],
};

/// Every serializer.
pub const SERIALIZERS: &[Description] = &[
    Description::of::<TextConfig>(TEXT),
    Description::of::<HeaderAndTextConfig>(HEADER_AND_TEXT),
    Description::of::<AvroEventConfig>(AVRO_EVENT),
    Description::of::<AvroBodyConfig>(AVRO_BODY),
];

impl Default for SerializerConfig {
    fn default() -> Self {
        Self::Text(TextConfig {
            append_newline: true,
        })
    }
}

impl SerializerConfig {
    /// A serializer for one new file.
    pub fn build(&self) -> Box<dyn EventSerializer> {
        match self {
            Self::Text(config) => Box::new(text::TextSerializer::new(config)),
            Self::HeaderAndText(config) => Box::new(text::HeaderAndTextSerializer::new(config)),
            Self::AvroEvent(config) => Box::new(avro::AvroEventSerializer::new(config)),
            Self::AvroBody(config) => Box::new(avro::AvroBodySerializer::new(config)),
        }
    }

    /// The serializer's name.
    pub fn names(&self) -> TypeNames {
        match self {
            Self::Text(_) => TEXT,
            Self::HeaderAndText(_) => HEADER_AND_TEXT,
            Self::AvroEvent(_) => AVRO_EVENT,
            Self::AvroBody(_) => AVRO_BODY,
        }
    }

    /// Reads the settings of the serializer called `name` from below `prefix`; `None` when there
    /// is no such serializer, the inner one when its settings are not valid.
    fn named(reader: &mut Reader<'_>, name: &str, prefix: &str) -> Option<Option<Self>> {
        Some(if TEXT.matches(name) {
            reader.below(prefix).map(Self::Text)
        } else if HEADER_AND_TEXT.matches(name) {
            reader.below(prefix).map(Self::HeaderAndText)
        } else if AVRO_EVENT.matches(name) {
            reader.below(prefix).map(Self::AvroEvent)
        } else if AVRO_BODY.matches(name) {
            reader.below(prefix).map(Self::AvroBody)
        } else {
            return None;
        })
    }
}

impl Setting for SerializerConfig {
    fn parse(_: &str) -> Result<Self, BadValue> {
        Err(BadValue::new(
            "is read with the keys below it",
            Self::kind(),
        ))
    }

    fn kind() -> String {
        let names: Vec<_> = SERIALIZERS
            .iter()
            .map(|serializer| format!("`{}`", serializer.names.main()))
            .collect();
        format!(
            "one of {}; its own keys stand below this one",
            names.join(", ")
        )
    }

    fn show(&self) -> Option<String> {
        Some(self.names().main().to_owned())
    }

    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        let named = reader.entry(field).map(|entry| entry.value.trim());
        let shown = default.unwrap_or_default();
        let name = named.unwrap_or(shown.names().main());
        match Self::named(reader, name, &format!("{}.", field.key)) {
            Some(config) => config,
            None => {
                let known = SERIALIZERS.iter().map(|known| known.names.main());
                let message = match nearest(name, known) {
                    Some(near) => format!("no such serializer; did you mean `{near}`?"),
                    None => "no such serializer; Java classes cannot be loaded".to_owned(),
                };
                reader.error(field.key, message, Some(Self::kind()));
                reader.prefixed(&format!("{}.", field.key));
                None
            }
        }
    }
}

/// Appends headers as Java prints a map: `{k=v, k2=v2}`, in the order of its hash map.
pub(crate) fn write_java_map(headers: &Headers, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in headers.in_java_order().into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
    out.push('}');
}
