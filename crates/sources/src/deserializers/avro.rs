//! `AVRO`: one event a datum of an Avro container file.
//!
//! A position is what Flume stores: the sync marker before the block that is being read. So a
//! restart in the middle of a block gives the events of that block again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use flafka_avro_wire::container::{ContainerError, ContainerReader, SYNC_BYTES};
use flafka_avro_wire::schema::Schema;
use flafka_flow::{BatchBuilder, Headers};
use flafka_flow::{choice, settings};

use super::{DeserializeError, EventDeserializer, MAX_BATCH_BYTES, Piece};

/// Bytes of a block at most, packed or unpacked.
const MAX_BLOCK_BYTES: usize = 256 << 20;
/// Datums without a byte of their own that a block may hold.
const MAX_EMPTY_DATUMS: u64 = 1 << 20;

settings! {
    /// Gives each record of an Avro container file as an event: its body is the binary datum, and a
    /// header says its schema.
    pub struct AvroDeserializerConfig {
        /// How the header says the schema: `HASH` puts its CRC-64-AVRO into `flume.avro.schema.hash`,
        /// `LITERAL` its JSON into `flume.avro.schema.literal`.
        "schemaType" => schema_type: AvroSchemaType = AvroSchemaType::Hash,
    }
}

choice! {
    /// How events say their schema.
    pub enum AvroSchemaType {
        /// By fingerprint.
        Hash = "HASH",
        /// In full.
        Literal = "LITERAL",
    }
}

pub(super) struct AvroDeserializer {
    reader: ContainerReader<File>,
    schema: Arc<Schema>,
    headers: Headers,
    block: Option<OpenBlock>,
}

struct OpenBlock {
    position: u64,
    data: Bytes,
    datums: u64,
    taken: u64,
    at: usize,
}

impl AvroDeserializer {
    pub(super) fn open(
        file: File,
        position: u64,
        headers: Headers,
        config: &AvroDeserializerConfig,
    ) -> Result<Self, DeserializeError> {
        let searched = file.try_clone()?;
        let mut reader = ContainerReader::open(file, MAX_BLOCK_BYTES)?;
        let header = reader.header();
        let schema = Schema::parse(&header.schema)
            .map_err(|error| DeserializeError::Schema(error.into()))?;
        let headers = match config.schema_type {
            AvroSchemaType::Hash => headers.with("flume.avro.schema.hash", &hash_of(&schema)),
            AvroSchemaType::Literal => headers.with("flume.avro.schema.literal", &header.schema),
        };
        if position >= header.length as u64 {
            let block = next_block_after(&searched, position, &header.sync)?;
            reader.seek(block)?;
        }
        Ok(Self {
            reader,
            schema: Arc::new(schema),
            headers,
            block: None,
        })
    }

    /// The block that is being read; `None` at the end of the file.
    fn block(&mut self) -> Result<Option<&mut OpenBlock>, DeserializeError> {
        let used_up = self
            .block
            .as_ref()
            .is_none_or(|block| block.taken == block.datums);
        if used_up {
            self.block = None;
            let Some(block) = self.reader.next_block()? else {
                return Ok(None);
            };
            if block.datums > MAX_EMPTY_DATUMS.max(block.data.len() as u64) {
                return Err(ContainerError::BadBlock.into());
            }
            self.block = Some(OpenBlock {
                position: block.position,
                data: block.data.into(),
                datums: block.datums,
                taken: 0,
                at: 0,
            });
        }
        Ok(self.block.as_mut())
    }

    /// Where a restart has to read from.
    fn position(&self) -> u64 {
        let block = match &self.block {
            Some(block) if block.taken < block.datums => block.position,
            _ => self.reader.position(),
        };
        block.saturating_sub(SYNC_BYTES as u64)
    }

    fn fill(
        &mut self,
        builder: &mut BatchBuilder,
        limit: usize,
        bytes: &mut usize,
    ) -> Result<(), DeserializeError> {
        let headers = builder.headers(self.headers.clone());
        while builder.len() < limit && *bytes < MAX_BATCH_BYTES {
            let schema = Arc::clone(&self.schema);
            let Some(block) = self.block()? else {
                return Ok(());
            };
            let buffer = builder.buffer(block.data.clone());
            while block.taken < block.datums && builder.len() < limit && *bytes < MAX_BATCH_BYTES {
                let bad = DeserializeError::Datum {
                    position: block.position,
                    datum: block.taken + 1,
                };
                let Ok(end) = schema.skip(&block.data, block.at) else {
                    return Err(bad);
                };
                if block.taken + 1 == block.datums && end != block.data.len() {
                    return Err(bad);
                }
                builder.push(headers, buffer, block.at..end);
                *bytes += end - block.at;
                block.at = end;
                block.taken += 1;
            }
        }
        Ok(())
    }
}

impl EventDeserializer for AvroDeserializer {
    fn read(&mut self, limit: usize) -> Result<Option<Piece>, DeserializeError> {
        let mut builder = BatchBuilder::new();
        let mut bytes = 0;
        match self.fill(&mut builder, limit, &mut bytes) {
            Err(error) if builder.is_empty() => return Err(error),
            // The same error comes again at the next read.
            Err(_) | Ok(()) => {}
        }
        Ok((!builder.is_empty()).then(|| Piece {
            batch: builder.finish(),
            position: self.position(),
            bytes,
        }))
    }
}

/// CRC-64-AVRO as Flume writes it: little-endian, lower hex.
fn hash_of(schema: &Schema) -> String {
    let bytes = schema.fingerprint().to_le_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The position of the first block behind a sync marker at or after `position`; the end of the
/// file when there is none.
fn next_block_after(
    file: &File,
    position: u64,
    sync: &[u8; SYNC_BYTES],
) -> Result<u64, DeserializeError> {
    let finder = memchr::memmem::Finder::new(sync);
    let mut part = vec![0; 64 << 10];
    let mut at = position;
    loop {
        let mut read = 0;
        while read < part.len() {
            match file.read_at(&mut part[read..], at + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        if let Some(found) = finder.find(&part[..read]) {
            return Ok(at + (found + SYNC_BYTES) as u64);
        }
        if read < part.len() {
            return Ok(at + read as u64);
        }
        at += (part.len() - SYNC_BYTES + 1) as u64;
    }
}

#[cfg(test)]
mod tests {
    use flafka_avro_wire::container::{Codec, ContainerWriter};
    use flafka_avro_wire::varint::put_long;

    use super::*;

    const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"},{"name":"s","type":"string"}]}"#;

    fn container(records: std::ops::Range<i64>, codec: Codec) -> Vec<u8> {
        let mut writer = ContainerWriter::new(codec, [7; SYNC_BYTES], 64);
        let mut out = Vec::new();
        writer.begin(SCHEMA, &mut out);
        for number in records {
            writer.append(&mut out, |datum| datum.extend_from_slice(&record(number)));
        }
        writer.flush(&mut out);
        out
    }

    fn record(number: i64) -> Vec<u8> {
        let mut datum = Vec::new();
        put_long(&mut datum, number);
        let text = format!("text {number}");
        put_long(&mut datum, text.len() as i64);
        datum.extend_from_slice(text.as_bytes());
        datum
    }

    fn open(bytes: &[u8], position: u64, schema_type: AvroSchemaType) -> AvroDeserializer {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file.avro");
        std::fs::write(&path, bytes).expect("writes");
        let config = AvroDeserializerConfig { schema_type };
        let file = File::open(&path).expect("opens");
        AvroDeserializer::open(file, position, Headers::new(), &config).expect("opens")
    }

    fn rest(avro: &mut AvroDeserializer, limit: usize) -> Vec<(Vec<u8>, u64)> {
        let mut all = Vec::new();
        while let Some(piece) = avro.read(limit).expect("reads") {
            all.extend(
                piece
                    .batch
                    .iter()
                    .map(|event| (event.body.to_vec(), piece.position)),
            );
        }
        all
    }

    #[test]
    fn each_datum_is_an_event_with_its_schema() {
        for codec in [Codec::Null, Codec::Deflate, Codec::Snappy] {
            let bytes = container(0..50, codec);
            let mut avro = open(&bytes, 0, AvroSchemaType::Hash);
            let found: Vec<_> = rest(&mut avro, 7)
                .into_iter()
                .map(|(body, _)| body)
                .collect();
            assert_eq!(found, (0..50).map(record).collect::<Vec<_>>());
            let headers = avro.headers.clone();
            assert_eq!(
                headers.get("flume.avro.schema.hash").map(str::len),
                Some(16)
            );
        }
        let bytes = container(0..1, Codec::Null);
        let literal = open(&bytes, 0, AvroSchemaType::Literal);
        assert_eq!(
            literal.headers.get("flume.avro.schema.literal"),
            Some(SCHEMA)
        );
    }

    #[test]
    fn a_restart_begins_at_the_block_and_loses_nothing() {
        let bytes = container(0..50, Codec::Null);
        let all = rest(&mut open(&bytes, 0, AvroSchemaType::Hash), 3);
        for (index, (_, position)) in all.iter().enumerate() {
            let again = rest(&mut open(&bytes, *position, AvroSchemaType::Hash), 3);
            let first = all.len() - again.len();
            // The position of a batch is behind its last event, so up to a batch is seen twice.
            assert!(first <= index + 3, "event {index}: {first}");
            assert!(first + 10 > index, "event {index}: {first}");
            assert_eq!(
                again.last().map(|last| &last.0),
                all.last().map(|last| &last.0).filter(|_| !again.is_empty())
            );
        }
        assert!(
            rest(
                &mut open(&bytes, bytes.len() as u64, AvroSchemaType::Hash),
                3
            )
            .is_empty()
        );
    }

    #[test]
    fn damage_comes_after_what_is_whole() {
        let mut bytes = container(0..50, Codec::Null);
        let cut = bytes.len() - 5;
        bytes.truncate(cut);
        let mut avro = open(&bytes, 0, AvroSchemaType::Hash);
        let mut events = 0;
        let error = loop {
            match avro.read(1000) {
                Ok(Some(piece)) => events += piece.batch.len(),
                Ok(None) => panic!("the cut is an error"),
                Err(error) => break error,
            }
        };
        assert!(
            events > 30 && error.is_content(),
            "{events} events, {error}"
        );
        assert!(avro.read(1).is_err(), "again");
    }
}
