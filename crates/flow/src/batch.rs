//! The batch: many events that share their read buffers and their equal headers.
//!
//! A batch holds a list of buffers, a list of distinct header sets, and sixteen bytes for each
//! event that say where its body lies and which set is its own. So making, routing, queueing and
//! copying events costs per batch, not per event; an interceptor that sets a header touches the
//! distinct sets only. Cloning a batch shares it, and slicing is free.
//!
//! Invariant: every slot points inside its buffer and at an existing header set; only this file
//! makes slots.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::event::{Event, EventRef, Headers};

/// Where one event lies. Bodies are at most `u32::MAX` bytes.
#[derive(Clone, Copy)]
struct Slot {
    buffer: u32,
    start: u32,
    length: u32,
    headers: u32,
}

#[derive(Clone, Default)]
struct Inner {
    buffers: Vec<Bytes>,
    headers: Vec<Headers>,
    slots: Vec<Slot>,
}

/// An immutable run of events in order; cheap to clone and to slice.
#[derive(Clone, Default)]
pub struct Batch {
    inner: Arc<Inner>,
    start: usize,
    end: usize,
}

impl Batch {
    /// The empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch of owned events.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Self {
        let mut builder = BatchBuilder::new();
        for event in events {
            builder.push_event(event);
        }
        builder.finish()
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Sum of the bodies' lengths, in bytes. Walks the slots.
    pub fn body_bytes(&self) -> u64 {
        self.slots().iter().map(|slot| u64::from(slot.length)).sum()
    }

    /// Bodies and encoded headers together, in bytes: what a byte capacity counts.
    pub fn total_bytes(&self) -> u64 {
        self.slots()
            .iter()
            .map(|slot| {
                u64::from(slot.length)
                    + self.inner.headers[slot.headers as usize].encoded().len() as u64
            })
            .sum()
    }

    /// The `index`-th event.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub fn get(&self, index: usize) -> EventRef<'_> {
        self.view(&self.slots()[index])
    }

    /// The events in order.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = EventRef<'_>> + DoubleEndedIterator + Clone {
        self.slots().iter().map(|slot| self.view(slot))
    }

    /// The body of the `index`-th event, sharing the batch's buffer.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub fn body(&self, index: usize) -> Bytes {
        let slot = self.slots()[index];
        let start = slot.start as usize;
        self.inner.buffers[slot.buffer as usize].slice(start..start + slot.length as usize)
    }

    /// The `index`-th event, sharing the batch's buffers.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub fn event(&self, index: usize) -> Event {
        Event {
            headers: self.get(index).headers.clone(),
            body: self.body(index),
        }
    }

    /// The events as owned ones.
    pub fn to_events(&self) -> Vec<Event> {
        (0..self.len()).map(|index| self.event(index)).collect()
    }

    /// The events `range` of this batch, shared.
    ///
    /// # Panics
    /// When the range is not inside the batch.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "slice inside the batch"
        );
        Self {
            inner: Arc::clone(&self.inner),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }

    /// The distinct header sets; [`Batch::header_set`] says which one an event has.
    pub fn header_sets(&self) -> &[Headers] {
        &self.inner.headers
    }

    /// Index into [`Batch::header_sets`] for the `index`-th event.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub fn header_set(&self, index: usize) -> usize {
        self.slots()[index].headers as usize
    }

    /// This batch with each distinct header set replaced: `change` runs once a set, not once an
    /// event.
    #[must_use]
    pub fn map_header_sets(mut self, change: impl FnMut(&Headers) -> Headers) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        inner.headers = inner.headers.iter().map(change).collect();
        self
    }

    /// This batch with the headers of each event replaced by `change(index, old)`.
    #[must_use]
    pub fn map_headers(self, mut change: impl FnMut(usize, EventRef<'_>) -> Headers) -> Self {
        let headers: Vec<_> = self
            .iter()
            .enumerate()
            .map(|(index, event)| change(index, event))
            .collect();
        let slots = self
            .slots()
            .iter()
            .enumerate()
            .map(|(index, slot)| Slot {
                headers: index as u32,
                ..*slot
            })
            .collect();
        Self::of(Inner {
            buffers: self.inner.buffers.clone(),
            headers,
            slots,
        })
    }

    /// The events at `indices`, in that order, shared.
    ///
    /// # Panics
    /// When an index is not below [`Batch::len`].
    #[must_use]
    pub fn pick(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let own = self.slots();
        let slots = indices.into_iter().map(|index| own[index]).collect();
        Self::of(Inner {
            buffers: self.inner.buffers.clone(),
            headers: self.inner.headers.clone(),
            slots,
        })
    }

    /// The events for which `keep` holds; the batch itself when that is all of them.
    #[must_use]
    pub fn retain(self, mut keep: impl FnMut(EventRef<'_>) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len())
            .filter(|index| keep(self.get(*index)))
            .collect();
        if kept.len() == self.len() {
            self
        } else {
            self.pick(kept)
        }
    }

    /// One batch of all events of `parts`, in order. A single part is returned as it is.
    pub fn concat(parts: Vec<Batch>) -> Self {
        if parts.len() == 1 {
            return parts.into_iter().next().unwrap_or_default();
        }
        let mut joined = Inner::default();
        joined.slots.reserve(parts.iter().map(Batch::len).sum());
        for part in &parts {
            let buffers = joined.buffers.len() as u32;
            let headers = joined.headers.len() as u32;
            joined.buffers.extend_from_slice(&part.inner.buffers);
            joined.headers.extend_from_slice(&part.inner.headers);
            joined.slots.extend(part.slots().iter().map(|slot| Slot {
                buffer: slot.buffer + buffers,
                headers: slot.headers + headers,
                ..*slot
            }));
        }
        Self::of(joined)
    }

    fn of(inner: Inner) -> Self {
        let end = inner.slots.len();
        Self {
            inner: Arc::new(inner),
            start: 0,
            end,
        }
    }

    fn slots(&self) -> &[Slot] {
        &self.inner.slots[self.start..self.end]
    }

    fn view(&self, slot: &Slot) -> EventRef<'_> {
        let start = slot.start as usize;
        EventRef {
            headers: &self.inner.headers[slot.headers as usize],
            body: &self.inner.buffers[slot.buffer as usize][start..start + slot.length as usize],
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// Names a buffer added to a [`BatchBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(u32);

/// Names a header set added to a [`BatchBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSetId(u32);

/// Builds a batch. Bodies either point into a shared read buffer ([`BatchBuilder::push`]) or are
/// copied into the builder's own ([`BatchBuilder::push_copy`]).
#[derive(Default)]
pub struct BatchBuilder {
    inner: Inner,
    own: BytesMut,
    own_buffer: Option<u32>,
    last_headers: Option<u32>,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with room for `events`.
    pub fn with_capacity(events: usize) -> Self {
        let mut builder = Self::default();
        builder.inner.slots.reserve(events);
        builder
    }

    /// Number of events so far.
    pub fn len(&self) -> usize {
        self.inner.slots.len()
    }

    /// Whether no event was added.
    pub fn is_empty(&self) -> bool {
        self.inner.slots.is_empty()
    }

    /// Adds a read buffer that bodies may point into; at most 4 GiB.
    pub fn buffer(&mut self, buffer: Bytes) -> BufferId {
        self.inner.buffers.push(buffer);
        BufferId(self.inner.buffers.len() as u32 - 1)
    }

    /// Adds a header set; an immediate repetition gets the same id.
    pub fn headers(&mut self, headers: Headers) -> HeaderSetId {
        if let Some(last) = self.last_headers
            && self.inner.headers[last as usize] == headers
        {
            return HeaderSetId(last);
        }
        self.inner.headers.push(headers);
        let id = self.inner.headers.len() as u32 - 1;
        self.last_headers = Some(id);
        HeaderSetId(id)
    }

    /// Adds an event whose body is `range` of `buffer`.
    ///
    /// # Panics
    /// When the range is not inside the buffer: ranges come from our own scanners.
    pub fn push(&mut self, headers: HeaderSetId, buffer: BufferId, range: Range<usize>) {
        let whole = &self.inner.buffers[buffer.0 as usize];
        assert!(
            range.start <= range.end && range.end <= whole.len(),
            "body inside its buffer"
        );
        self.inner.slots.push(Slot {
            buffer: buffer.0,
            start: offset_in_buffer(range.start),
            length: offset_in_buffer(range.end - range.start),
            headers: headers.0,
        });
    }

    /// Adds an event, copying its body.
    pub fn push_copy(&mut self, headers: HeaderSetId, body: &[u8]) {
        self.push_with(headers, |own| own.extend_from_slice(body));
    }

    /// Adds an event whose body is what `write` appends to the buffer it is given.
    pub fn push_with(&mut self, headers: HeaderSetId, write: impl FnOnce(&mut BytesMut)) {
        let buffer = *self.own_buffer.get_or_insert_with(|| {
            self.inner.buffers.push(Bytes::new());
            self.inner.buffers.len() as u32 - 1
        });
        let start = self.own.len();
        write(&mut self.own);
        self.inner.slots.push(Slot {
            buffer,
            start: offset_in_buffer(start),
            length: offset_in_buffer(self.own.len() - start),
            headers: headers.0,
        });
    }

    /// Adds an owned event, sharing its body.
    pub fn push_event(&mut self, event: Event) {
        let headers = self.headers(event.headers);
        let length = event.body.len();
        let buffer = self.buffer(event.body);
        self.push(headers, buffer, 0..length);
    }

    /// The finished batch; the builder is empty afterwards.
    pub fn finish(&mut self) -> Batch {
        let mut inner = std::mem::take(&mut self.inner);
        if let Some(buffer) = self.own_buffer.take() {
            inner.buffers[buffer as usize] = std::mem::take(&mut self.own).freeze();
        }
        self.last_headers = None;
        Batch::of(inner)
    }
}

fn offset_in_buffer(value: usize) -> u32 {
    u32::try_from(value).expect("read buffers are bounded far below 4 GiB by every source")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(batch: &Batch) -> Vec<String> {
        batch
            .iter()
            .map(|event| String::from_utf8_lossy(event.body).into_owned())
            .collect()
    }

    #[test]
    fn events_share_buffers_and_headers() {
        let mut builder = BatchBuilder::new();
        let buffer = builder.buffer(Bytes::from_static(b"one\ntwo\n"));
        let set = builder.headers(Headers::single("file", "/a"));
        builder.push(set, buffer, 0..3);
        builder.push(set, buffer, 4..7);
        let none = builder.headers(Headers::new());
        builder.push_copy(none, b"three");
        let batch = builder.finish();
        assert!(builder.is_empty());
        assert_eq!(bodies(&batch), ["one", "two", "three"]);
        assert_eq!(batch.header_sets().len(), 2);
        assert_eq!(batch.body_bytes(), 11);

        let stamped = batch
            .clone()
            .map_header_sets(|headers| headers.with("host", "h"));
        assert_eq!(stamped.get(0).headers.get("file"), Some("/a"));
        assert_eq!(stamped.get(2).headers.get("host"), Some("h"));
        assert_eq!(batch.get(2).headers.get("host"), None);
    }

    #[test]
    fn slices_picks_and_concatenations_keep_order() {
        let batch = Batch::from_events((0..5).map(|n| Event::new(n.to_string())));
        let joined = Batch::concat(vec![
            batch.slice(3..5),
            batch.slice(0..2),
            batch.pick([4, 4]),
        ]);
        assert_eq!(bodies(&joined), ["3", "4", "0", "1", "4", "4"]);
        let odd = batch.clone().retain(|event| event.body[0] % 2 == 1);
        assert_eq!(bodies(&odd), ["1", "3"]);
        assert_eq!(batch.slice(1..3).retain(|_| true), batch.slice(1..3));
        let numbered = batch
            .slice(2..4)
            .map_headers(|index, _| Headers::single("n", &index.to_string()));
        assert_eq!(numbered.get(1).headers.get("n"), Some("1"));
        assert!(Batch::concat(Vec::new()).is_empty());
    }
}
