//! The event: an ordered, small map of header strings, and a body of bytes.
//!
//! [`Headers`] are kept in the encoding of Kafka's record headers (KIP-82: zigzag varint key
//! length, key, zigzag varint value length, value), without the leading count, in one shared
//! buffer. So a set of headers is one allocation whatever its size, equal sets are compared as
//! bytes, and channels and topics store them by copying bytes.
//!
//! Invariants: names are unique (a later value replaces an earlier one and keeps its place);
//! every name and value is UTF-8, checked when the set is made, never trusted from outside.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Why bytes are not a set of headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadersError {
    /// A length is negative, over-long or reaches past the end.
    #[error("header list is cut or has a bad length at byte {at}")]
    BadLength {
        /// Position in the encoded list.
        at: usize,
    },
    /// A name or a value is not UTF-8.
    #[error("header text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position in the encoded list.
        at: usize,
    },
}

/// An immutable set of headers; cloning shares it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    encoded: Bytes,
}

impl Headers {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// One header.
    pub fn single(name: &str, value: &str) -> Self {
        let mut builder = HeadersBuilder::default();
        builder.set(name, value);
        builder.finish()
    }

    /// Takes a Kafka record header list (without its count) that may come from anywhere.
    /// A null value becomes the empty string; of a repeated name the last value counts.
    ///
    /// # Errors
    /// When lengths do not fit the bytes or text is not UTF-8.
    pub fn from_encoded(encoded: Bytes) -> Result<Self, HeadersError> {
        let mut at = 0;
        let mut plain = true;
        let mut names: [&[u8]; 16] = [&[]; 16];
        let mut count = 0;
        while at < encoded.len() {
            let (name, next) = checked_text(&encoded, at, false)?;
            plain &= !names[..count.min(16)].contains(&name) && count < 16;
            if count < 16 {
                names[count] = name;
            }
            count += 1;
            let length = read_varint(&encoded, next).ok_or(HeadersError::BadLength { at: next })?;
            plain &= length.0 >= 0;
            let (_, next) = checked_text(&encoded, next, true)?;
            at = next;
        }
        if plain {
            return Ok(Self { encoded });
        }
        let mut builder = HeadersBuilder::default();
        let mut at = 0;
        while at < encoded.len() {
            let (name, next) = checked_text(&encoded, at, false)?;
            let (value, next) = checked_text(&encoded, next, true)?;
            builder.set(text(name), text(value));
            at = next;
        }
        Ok(builder.finish())
    }

    /// The set as Kafka record headers, without the leading count.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Whether there is no header.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        let skip = |at| raw_text(&self.encoded, at).map(|(_, next)| next);
        let mut at = 0;
        let mut count = 0;
        while let (true, Some(next)) = (at < self.encoded.len(), skip(at).and_then(skip)) {
            at = next;
            count += 1;
        }
        count
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Name and value of each header, in order.
    pub fn iter(&self) -> HeadersIter<'_> {
        HeadersIter {
            encoded: &self.encoded,
            at: 0,
        }
    }

    /// This set with `name` set to `value`.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = HeadersBuilder::from(self);
        builder.set(name, value);
        builder.finish()
    }

    /// This set without `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut builder = HeadersBuilder::default();
        for (key, value) in self.iter().filter(|(key, _)| *key != name) {
            builder.push_unchecked(key, value);
        }
        builder.finish()
    }

    /// The headers in the order in which Java's `HashMap` walks them: what Flume prints and
    /// writes wherever it walks its header map (logger sink, `HEADER_AND_TEXT`, Avro maps).
    /// Exact for maps filled one by one from the default capacity.
    pub fn in_java_order(&self) -> Vec<(&str, &str)> {
        let mut entries: Vec<_> = self.iter().collect();
        let mut capacity: u32 = 16;
        while entries.len() as u32 > capacity / 4 * 3 {
            capacity *= 2;
        }
        entries.sort_by_key(|(name, _)| {
            let hash = java_string_hash(name);
            (hash ^ (hash >> 16)) & (capacity - 1)
        });
        entries
    }
}

/// `String.hashCode` of Java: over UTF-16 code units.
fn java_string_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0u32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(u32::from(unit))
    })
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a str);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut builder = HeadersBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.finish()
    }
}

/// Walks a set of headers.
#[derive(Clone)]
pub struct HeadersIter<'a> {
    encoded: &'a [u8],
    at: usize,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.encoded.len() {
            return None;
        }
        let (name, next) = raw_text(self.encoded, self.at)?;
        let (value, next) = raw_text(self.encoded, next)?;
        self.at = next;
        Some((text(name), text(value)))
    }
}

/// Builds a set of headers; setting a name again replaces its value.
#[derive(Default)]
pub struct HeadersBuilder {
    encoded: BytesMut,
}

impl From<&Headers> for HeadersBuilder {
    fn from(headers: &Headers) -> Self {
        Self {
            encoded: BytesMut::from(&headers.encoded[..]),
        }
    }
}

impl HeadersBuilder {
    /// Sets `name` to `value`.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.find(name) {
            None => self.push_unchecked(name, value),
            Some((start, end)) => {
                let tail = self.encoded.split_off(end);
                self.encoded.truncate(start);
                put_text(&mut self.encoded, value);
                self.encoded.extend_from_slice(&tail);
            }
        }
        self
    }

    /// Whether `name` is set.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A builder with room for `bytes` of encoded headers. Sets that are finished one after the
    /// other share that room, so many small sets are one allocation.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            encoded: BytesMut::with_capacity(bytes),
        }
    }

    /// The finished set; the builder is empty afterwards and keeps its unused room.
    pub fn finish(&mut self) -> Headers {
        Headers {
            encoded: self.encoded.split().freeze(),
        }
    }

    /// Appends a header whose name is known not to be there yet.
    pub fn push_unchecked(&mut self, name: &str, value: &str) {
        put_text(&mut self.encoded, name);
        put_text(&mut self.encoded, value);
    }

    /// Where the encoded value of `name` starts and ends.
    fn find(&self, name: &str) -> Option<(usize, usize)> {
        let mut at = 0;
        while at < self.encoded.len() {
            let (key, value_at) = raw_text(&self.encoded, at)?;
            let (_, next) = raw_text(&self.encoded, value_at)?;
            if key == name.as_bytes() {
                return Some((value_at, next));
            }
            at = next;
        }
        None
    }
}

/// One event that owns its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The headers.
    pub headers: Headers,
    /// The body, unchanged bytes.
    pub body: Bytes,
}

impl Event {
    /// An event without headers.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            headers: Headers::new(),
            body: body.into(),
        }
    }
}

/// One event of a batch, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// The headers.
    pub headers: &'a Headers,
    /// The body.
    pub body: &'a [u8],
}

fn put_text(buffer: &mut BytesMut, value: &str) {
    let mut length = (value.len() as u64) << 1;
    while length >= 0x80 {
        buffer.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    buffer.put_u8(length as u8);
    buffer.put_slice(value.as_bytes());
}

/// A zigzag varint of at most five bytes, and the position behind it.
fn read_varint(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let mut value: u32 = 0;
    for (index, byte) in bytes.get(at..)?.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let decoded = (value >> 1) as i32 ^ -((value & 1) as i32);
            return Some((decoded, at + index + 1));
        }
    }
    None
}

fn raw_text(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, start) = read_varint(bytes, at)?;
    let end = start.checked_add(usize::try_from(length.max(0)).ok()?)?;
    Some((bytes.get(start..end)?, end))
}

fn checked_text(
    bytes: &[u8],
    at: usize,
    null_allowed: bool,
) -> Result<(&[u8], usize), HeadersError> {
    let bad = HeadersError::BadLength { at };
    let (length, _) = read_varint(bytes, at).ok_or(bad)?;
    if length < -1 || (length == -1 && !null_allowed) {
        return Err(bad);
    }
    let (raw, next) = raw_text(bytes, at).ok_or(bad)?;
    std::str::from_utf8(raw).map_err(|_| HeadersError::NotUtf8 { at })?;
    Ok((raw, next))
}

fn text(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).expect("checked when the headers were made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_replace_and_keep_their_place() {
        let mut builder = HeadersBuilder::default();
        builder
            .set("a", "1")
            .set("b", "2")
            .set("a", "a longer value");
        let headers = builder.finish();
        let pairs: Vec<_> = headers.iter().collect();
        assert_eq!(pairs, [("a", "a longer value"), ("b", "2")]);
        assert_eq!(headers.without("a").get("a"), None);
        assert_eq!(headers.with("c", "3").len(), 3);
    }

    #[test]
    fn sets_of_one_builder_share_its_room() {
        let mut builder = HeadersBuilder::with_capacity(64);
        let first = builder.set("a", "1").finish();
        let second = builder.set("b", "2").finish();
        assert_eq!((first.get("a"), first.len()), (Some("1"), 1));
        assert_eq!((second.get("b"), second.len()), (Some("2"), 1));
        let end = first.encoded().as_ptr_range().end;
        assert_eq!(second.encoded().as_ptr(), end);
    }

    #[test]
    fn foreign_bytes_are_checked_and_made_unique() {
        let twice = [2, b'a', 2, b'1', 2, b'a', 2, b'2', 2, b'n', 1];
        let headers = Headers::from_encoded(Bytes::copy_from_slice(&twice)).expect("valid");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "2"), ("n", "")]);
        for length in 1..twice.len() {
            let cut = Bytes::copy_from_slice(&twice[..length]);
            let whole = [4, 8].contains(&length);
            assert_eq!(Headers::from_encoded(cut).is_ok(), whole, "{length}");
        }
        let not_text = Bytes::from_static(&[2, 0xff, 0]);
        assert_eq!(
            Headers::from_encoded(not_text),
            Err(HeadersError::NotUtf8 { at: 0 })
        );
    }

    #[test]
    fn java_order_is_that_of_a_java_hash_map() {
        // Both orders were printed by a JDK 17 walking a `new HashMap<>()` filled in this order.
        let inserted =
            "a b c topic key partition offset timestamp host file byteoffset id category";
        let walked = "a b c offset byteoffset partition file host topic id category key timestamp";
        for (inserted, walked) in [
            ("timestamp host file", "file host timestamp"),
            (inserted, walked),
        ] {
            let headers: Headers = inserted.split(' ').map(|name| (name, "")).collect();
            let names: Vec<_> = headers
                .in_java_order()
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(names.join(" "), walked);
        }
    }
}
