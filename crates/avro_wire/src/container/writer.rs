//! Writing container files.

use super::{CODEC_KEY, Codec, MAGIC, SCHEMA_KEY, SYNC_BYTES};
use crate::varint::{put_bytes, put_long};

/// Writes one container file into buffers of the caller.
#[derive(Debug)]
pub struct ContainerWriter {
    codec: Codec,
    sync: [u8; SYNC_BYTES],
    block_bytes: usize,
    /// The datums of the open block.
    block: Vec<u8>,
    datums: i64,
    packed: Vec<u8>,
}

impl ContainerWriter {
    /// A writer that ends a block when it has `block_bytes`, before compression. `sync` must be
    /// random.
    pub fn new(codec: Codec, sync: [u8; SYNC_BYTES], block_bytes: usize) -> Self {
        Self {
            codec,
            sync,
            block_bytes,
            block: Vec::new(),
            datums: 0,
            packed: Vec::new(),
        }
    }

    /// Appends the file's header.
    pub fn begin(&self, schema: &str, out: &mut Vec<u8>) {
        self.begin_with(schema, &[], out);
    }

    /// Appends the file's header with metadata of the caller; names must not begin with `avro.`.
    pub fn begin_with(&self, schema: &str, metadata: &[(&str, &[u8])], out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        put_long(out, 2 + metadata.len() as i64);
        for (name, value) in metadata {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value);
        }
        put_bytes(out, SCHEMA_KEY.as_bytes());
        put_bytes(out, schema.as_bytes());
        put_bytes(out, CODEC_KEY.as_bytes());
        put_bytes(out, self.codec.name().as_bytes());
        put_long(out, 0);
        out.extend_from_slice(&self.sync);
    }

    /// Adds one datum that `encode` appends to the block; appends the block to `out` when it is
    /// large enough.
    pub fn append(&mut self, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.block);
        self.datums += 1;
        if self.block.len() >= self.block_bytes {
            self.flush(out);
        }
    }

    /// Appends the open block to `out`, if there is a datum in it: behind it the file is whole.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.datums == 0 {
            return;
        }
        put_long(out, self.datums);
        if self.codec == Codec::Null {
            put_bytes(out, &self.block);
        } else {
            self.packed.clear();
            self.codec.compress(&self.block, &mut self.packed);
            put_bytes(out, &self.packed);
        }
        out.extend_from_slice(&self.sync);
        self.forget();
    }

    /// Drops the open block.
    pub fn forget(&mut self) {
        self.block.clear();
        self.datums = 0;
    }
}
