//! `BLOB`: the whole file is one event, or slices of it where it is larger than the limit.

use std::fs::File;

use flafka_flow::settings;
use flafka_flow::settings::Count;
use flafka_flow::{BatchBuilder, Event, Headers};

use super::{DeserializeError, EventDeserializer, MAX_BATCH_BYTES, Piece, read_on};

/// Java's longest array; Flume cannot hold a longer body either.
const LONGEST: usize = i32::MAX as usize;

settings! {
    /// Gives the whole file as one event; a file longer than the limit as several. Each event is held
    /// in memory.
    pub struct BlobDeserializerConfig {
        /// Bytes of one event at most.
        "maxBlobLength" => max_blob_length: Count = Count(100_000_000),
    }
    check(|config: &BlobDeserializerConfig, reader: &mut settings::Reader<'_>| {
        if config.max_blob_length.0 > LONGEST {
            reader.error("maxBlobLength", "longer than any event can be", Some(format!("at most {LONGEST}")));
        }
    })
}

pub(super) struct BlobDeserializer {
    file: File,
    position: u64,
    headers: Headers,
    limit: usize,
}

impl BlobDeserializer {
    pub(super) fn new(
        file: File,
        position: u64,
        headers: Headers,
        config: &BlobDeserializerConfig,
    ) -> Self {
        Self {
            file,
            position,
            headers,
            limit: config.max_blob_length.0,
        }
    }
}

impl EventDeserializer for BlobDeserializer {
    fn read(&mut self, limit: usize) -> Result<Option<Piece>, DeserializeError> {
        let mut builder = BatchBuilder::new();
        let mut bytes = 0;
        while builder.len() < limit && bytes < MAX_BATCH_BYTES {
            let left = self.file.metadata()?.len().saturating_sub(self.position);
            let wanted = self.limit.min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let mut body = Vec::new();
            let read = read_on(&self.file, &mut body, self.position, wanted)?;
            if read == 0 {
                break;
            }
            self.position += read as u64;
            bytes += read;
            builder.push_event(Event {
                headers: self.headers.clone(),
                body: body.into(),
            });
        }
        Ok((!builder.is_empty()).then(|| Piece {
            batch: builder.finish(),
            position: self.position,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_event_or_slices() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("blob");
        std::fs::write(&path, b"0123456789").expect("writes");
        let open = |position, length| {
            let config = BlobDeserializerConfig {
                max_blob_length: Count(length),
            };
            let file = File::open(&path).expect("opens");
            BlobDeserializer::new(file, position, Headers::single("a", "b"), &config)
        };
        let piece = open(0, 100).read(5).expect("reads").expect("an event");
        assert_eq!(
            (&piece.batch.body(0)[..], piece.position),
            (&b"0123456789"[..], 10)
        );
        let mut blob = open(2, 3);
        let piece = blob.read(2).expect("reads").expect("events");
        assert_eq!((piece.batch.len(), piece.position), (2, 8));
        assert_eq!(piece.batch.get(1).headers.get("a"), Some("b"));
        let piece = blob.read(2).expect("reads").expect("events");
        assert_eq!(&piece.batch.body(0)[..], b"89");
        assert!(blob.read(2).expect("reads").is_none());
    }
}
