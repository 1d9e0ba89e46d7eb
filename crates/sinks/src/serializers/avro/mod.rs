//! The serializers that write Avro container files: `AVRO_EVENT`, whose datums are whole events,
//! and the one of Flume's hdfs package, whose datums are the bodies themselves.
//!
//! Each write ends its block, as Flume's flush after each batch does.

use flafka_avro_wire::container::{Codec, ContainerWriter, SYNC_BYTES};
use flafka_avro_wire::flume_event::{encode_body, encode_map};
use flafka_flow::Batch;
use flafka_flow::settings::Reader;
use rand::RngCore;

use super::schema_source::{FileSchema, SchemaSource};
use super::{EventSerializer, SerializeError};

/// The schema of `AVRO_EVENT` (Flume reference 4.1.6).
const EVENT_SCHEMA: &str = r#"{"type":"record","name":"Event","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}"#;
/// Bytes of a block that Flume accepts.
const BLOCK_BYTES: std::ops::RangeInclusive<u32> = 32..=1 << 30;
const DEFAULT_BLOCK_BYTES: u32 = 2_048_000;

flafka_flow::choice! {
    /// How blocks of an Avro file are compressed.
    pub enum Compression {
        /// Not at all.
        Null = "null",
        /// Deflate.
        Deflate = "deflate",
        /// Snappy.
        Snappy = "snappy",
        /// Bzip2.
        Bzip2 = "bzip2",
        /// Zstandard.
        Zstandard = "zstandard",
    }
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Compression::Null => Codec::Null,
            Compression::Deflate => Codec::Deflate,
            Compression::Snappy => Codec::Snappy,
            Compression::Bzip2 => Codec::Bzip2,
            Compression::Zstandard => Codec::Zstandard,
        }
    }
}

flafka_flow::settings! {
    /// Writes an Avro container file whose records are events: `headers`, a map of string, and
    /// `body`, bytes.
    pub struct AvroEventConfig {
        /// Bytes of a block at most, before compression. A block also ends with each batch.
        "syncIntervalBytes" => block_bytes: u32 = DEFAULT_BLOCK_BYTES,
        /// How blocks are compressed. Flume writes without compression when it does not know the
        /// name; here that is an error.
        "compressionCodec" => compression: Compression = Compression::Null,
    }
    check(|config: &AvroEventConfig, reader: &mut Reader<'_>| {
        check_block_bytes(config.block_bytes, reader);
    })
}

flafka_flow::settings! {
    /// Writes an Avro container file whose records are the bodies of the events: each body has to
    /// be one datum, already encoded. The schema comes from the header `flume.avro.schema.url` of
    /// the file's first event, else from its header `flume.avro.schema.literal`, else from
    /// `schemaURL`. An event that names another schema begins a new file.
    pub struct AvroBodyConfig {
        /// Bytes of a block at most, before compression. A block also ends with each batch.
        "syncIntervalBytes" => block_bytes: u32 = DEFAULT_BLOCK_BYTES,
        /// How blocks are compressed. Flume writes without compression when it does not know the
        /// name; here that is an error.
        "compressionCodec" => compression: Compression = Compression::Null,
        /// Where the schema of events lies that name none: `file:///…` or an absolute path.
        "schemaURL" => schema_url: Option<String>,
    }
    check(|config: &AvroBodyConfig, reader: &mut Reader<'_>| {
        check_block_bytes(config.block_bytes, reader);
        if let Some(url) = &config.schema_url
            && let Err(error) = super::schema_source::path_of(url)
        {
            reader.error("schemaURL", error.to_string(), Some("file:///… or an absolute path".to_owned()));
        }
    })
}

fn check_block_bytes(bytes: u32, reader: &mut Reader<'_>) {
    if !BLOCK_BYTES.contains(&bytes) {
        let allowed = format!("{} to {}", BLOCK_BYTES.start(), BLOCK_BYTES.end());
        reader.error("syncIntervalBytes", "out of range", Some(allowed));
    }
}

fn writer(compression: Compression, block_bytes: u32) -> ContainerWriter {
    let mut sync = [0; SYNC_BYTES];
    rand::rng().fill_bytes(&mut sync);
    ContainerWriter::new(compression.codec(), sync, block_bytes as usize)
}

pub(super) struct AvroEventSerializer {
    writer: ContainerWriter,
    /// The headers of the last event's set, encoded.
    map: Vec<u8>,
}

impl AvroEventSerializer {
    pub(super) fn new(config: &AvroEventConfig) -> Self {
        Self {
            writer: writer(config.compression, config.block_bytes),
            map: Vec::new(),
        }
    }
}

impl EventSerializer for AvroEventSerializer {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        self.writer.begin(EVENT_SCHEMA, out);
        Ok(())
    }

    fn write(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        let mut encoded_set = None;
        for (index, event) in batch.iter().enumerate() {
            let set = batch.header_set(index);
            if encoded_set != Some(set) {
                self.map.clear();
                let headers = event.headers;
                encode_map(headers.len(), headers.encoded(), &mut self.map);
                encoded_set = Some(set);
            }
            self.writer.append(out, |block| {
                block.extend_from_slice(&self.map);
                encode_body(event.body, block);
            });
        }
        self.writer.flush(out);
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }
}

pub(super) struct AvroBodySerializer {
    writer: ContainerWriter,
    schema_url: Option<String>,
    file: Option<FileSchema>,
}

impl AvroBodySerializer {
    pub(super) fn new(config: &AvroBodyConfig) -> Self {
        Self {
            writer: writer(config.compression, config.block_bytes),
            schema_url: config.schema_url.clone(),
            file: None,
        }
    }

    /// Where the schema of a file that begins with `batch` comes from.
    fn source(&self, batch: &Batch) -> Result<SchemaSource, SerializeError> {
        let own = batch
            .iter()
            .next()
            .and_then(|event| SchemaSource::of(event.headers));
        let fallback = || self.schema_url.clone().map(SchemaSource::Url);
        own.or_else(fallback).ok_or(SerializeError::NoSchema)
    }
}

impl EventSerializer for AvroBodySerializer {
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }

    fn fitting(&self, batch: &Batch) -> usize {
        let source = match &self.file {
            Some(file) => file.source().clone(),
            None => match self.source(batch) {
                Ok(source) => source,
                Err(_) => return batch.len(),
            },
        };
        let mut same: Vec<Option<bool>> = vec![None; batch.header_sets().len()];
        let other = (0..batch.len()).find(|index| {
            let set = batch.header_set(*index);
            let fits = same[set].get_or_insert_with(|| {
                let own = SchemaSource::of(&batch.header_sets()[set]);
                own.is_none_or(|own| own == source)
            });
            !*fits
        });
        other.unwrap_or(batch.len())
    }

    fn write(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (file, is_new) = match self.file.take() {
            Some(file) => (file, false),
            None => (FileSchema::load(self.source(batch)?)?, true),
        };
        let checked = batch.iter().try_for_each(|event| file.check(event.body));
        if checked.is_err() && is_new {
            return checked;
        }
        let file = self.file.insert(file);
        checked?;
        if is_new {
            self.writer.begin(file.json(), out);
        }
        for event in batch.iter() {
            self.writer
                .append(out, |block| block.extend_from_slice(event.body));
        }
        self.writer.flush(out);
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
