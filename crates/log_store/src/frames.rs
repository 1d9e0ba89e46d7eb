//! The journal frames of a planned round.

use crate::chunks::{Chunk, StreamPlan};
use crate::codec::Writer;
use crate::journal::frame::{APPEND_PREFIX_BYTES, FrameKind};
use crate::journal::writer::Group;
use crate::plan::{Effect, Plan};

impl Plan {
    /// The journal group of this round.
    pub(crate) fn journal_group(&self) -> Group<'_> {
        let mut group = Group::default();
        for stream in &self.streams {
            for chunk in &stream.chunks {
                self.chunk_frame(&mut group, stream, chunk);
            }
        }
        for (effect, weak) in &self.effects {
            effect_frame(&mut group, effect, *weak);
        }
        group
    }

    fn chunk_frame<'a>(&'a self, group: &mut Group<'a>, stream: &StreamPlan, chunk: &'a Chunk) {
        let mut prefix = Writer::default();
        prefix.i64(chunk.segment);
        prefix.u64(chunk.position);
        prefix.i64(chunk.next_offset);
        if stream.weak || stream.bulk {
            prefix.u64(chunk.length);
            prefix.u32(chunk.batches_crc.value());
            let kind = FrameKind::AppendRef;
            group.push(kind, stream.weak, stream.id.0, &prefix.into_vec(), []);
        } else {
            let prefix = prefix.into_vec();
            debug_assert_eq!(prefix.len(), APPEND_PREFIX_BYTES);
            let kind = FrameKind::Append;
            group.push(kind, false, stream.id.0, &prefix, self.slices(chunk));
        }
    }
}

fn effect_frame<'a>(group: &mut Group<'a>, effect: &'a Effect, weak: bool) {
    let mut prefix = Writer::default();
    match effect {
        Effect::Put(table, key, value) => {
            prefix.u8(table.code());
            prefix.bytes(key);
            group.push(FrameKind::Put, weak, 0, &prefix.into_vec(), [&value[..]]);
        }
        Effect::Delete(table, key) => {
            prefix.u8(table.code());
            group.push(FrameKind::Delete, weak, 0, &prefix.into_vec(), [&key[..]]);
        }
        Effect::Ack(stream, first, last) => {
            prefix.i64(first.0);
            prefix.i64(last.0);
            group.push(FrameKind::Ack, weak, stream.0, &prefix.into_vec(), []);
        }
        Effect::Trim(stream, log_start, whole) => {
            prefix.i64(log_start.0);
            prefix.u8(u8::from(*whole));
            group.push(FrameKind::Trim, weak, stream.0, &prefix.into_vec(), []);
        }
    }
}
