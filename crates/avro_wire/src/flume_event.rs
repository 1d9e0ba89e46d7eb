//! `AvroFlumeEvent` as a bare datum (Flume reference 4.1.1, 4.1.5): what the Kafka components
//! write as a value and the Avro RPC carries.
//!
//! ```text
//! map of string   count (zigzag varint), then count × { name, value }, …blocks…, 0
//! bytes           length (zigzag varint), bytes
//! ```
//! A negative count is followed by the block's size in bytes. Names and values are a length and
//! UTF-8. Decoding borrows; nothing is allocated but a small list of header places.
//!
//! A pair of strings is encoded as in Kafka's record headers, the form in which events keep their
//! headers. So [`encode_raw`] and [`decode_raw`] move the whole list of pairs as bytes, without
//! looking at names and values.

use std::borrow::Cow;

use thiserror::Error;

use crate::varint::{bytes_at, long_at, put_bytes, put_long};

/// Headers of one event at most: far above any real one, so that a lie about a count is cheap.
pub const MAX_HEADERS: usize = 10_000;

/// Why bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end too early, or a length is negative or over-long.
    #[error("event datum is cut or has a bad length at byte {at}")]
    BadLength {
        /// Position in the datum.
        at: usize,
    },
    /// A header is not UTF-8.
    #[error("header text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position in the datum.
        at: usize,
    },
    /// More headers than [`MAX_HEADERS`].
    #[error("more than {MAX_HEADERS} headers")]
    TooManyHeaders,
}

/// A decoded event that borrows the datum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlumeEvent<'a> {
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
    length: usize,
}

impl<'a> FlumeEvent<'a> {
    /// Name and value of each header, as they stand in the datum.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + '_ {
        self.headers.iter().copied()
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Bytes that the datum took; the next one of an array begins there.
    pub fn encoded_len(&self) -> usize {
        self.length
    }
}

/// Appends an event to `out`.
pub fn encode<'a>(
    headers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let count = headers.clone().count();
    if count > 0 {
        put_long(out, count as i64);
        for (name, value) in headers {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    put_long(out, 0);
    put_bytes(out, body);
}

/// Reads one event from the front of `datum`; what follows it is not looked at.
///
/// # Errors
/// When the bytes are no event.
pub fn decode(datum: &[u8]) -> Result<FlumeEvent<'_>, DecodeError> {
    let mut reader = Reader { datum, at: 0 };
    let mut headers = Vec::new();
    loop {
        let at = reader.at;
        let mut count = reader.long()?;
        if count == 0 {
            break;
        }
        if count < 0 {
            reader.long()?;
            count = count.checked_neg().ok_or(DecodeError::BadLength { at })?;
        }
        if count > (MAX_HEADERS - headers.len()) as i64 {
            return Err(DecodeError::TooManyHeaders);
        }
        for _ in 0..count {
            headers.push((reader.text()?, reader.text()?));
        }
    }
    let body = reader.bytes()?;
    Ok(FlumeEvent {
        headers,
        body,
        length: reader.at,
    })
}

/// Appends an event whose headers are encoded already: `count` pairs of strings, one behind the
/// other.
pub fn encode_raw(count: usize, pairs: &[u8], body: &[u8], out: &mut Vec<u8>) {
    encode_map(count, pairs, out);
    put_bytes(out, body);
}

/// Appends the headers of an event alone, `count` encoded pairs; [`encode_body`] completes it.
pub fn encode_map(count: usize, pairs: &[u8], out: &mut Vec<u8>) {
    if count > 0 {
        put_long(out, count as i64);
        out.extend_from_slice(pairs);
    }
    out.push(0);
}

/// Appends the body of an event whose headers [`encode_map`] has appended.
pub fn encode_body(body: &[u8], out: &mut Vec<u8>) {
    put_bytes(out, body);
}

/// A decoded event whose headers are still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// The pairs of strings, one behind the other; borrowed when the datum has them in one block,
    /// as it nearly always has. Lengths are checked and fit 31 bits, the text is not checked.
    pub pairs: Cow<'a, [u8]>,
    /// The body.
    pub body: &'a [u8],
    /// Bytes that the datum took.
    pub length: usize,
}

/// Reads one event from the front of `datum` without looking into its headers.
///
/// # Errors
/// When the bytes are no event. That header text is UTF-8 is left to who uses it.
pub fn decode_raw(datum: &[u8]) -> Result<RawEvent<'_>, DecodeError> {
    let mut pairs: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut headers = 0;
    let mut at = 0;
    loop {
        let bad = DecodeError::BadLength { at };
        let (mut count, mut next) = long_at(datum, at).ok_or(bad)?;
        if count == 0 {
            at = next;
            break;
        }
        if count < 0 {
            count = count.checked_neg().ok_or(bad)?;
            next = long_at(datum, next).ok_or(bad)?.1;
        }
        headers = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_add(headers))
            .filter(|headers| *headers <= MAX_HEADERS)
            .ok_or(DecodeError::TooManyHeaders)?;
        let (run, end) = pairs_at(datum, next, count as usize)?;
        match &mut pairs {
            Cow::Borrowed([]) => pairs = run,
            several => several.to_mut().extend_from_slice(&run),
        }
        at = end;
    }
    let (body, length) = bytes_at(datum, at).ok_or(DecodeError::BadLength { at })?;
    Ok(RawEvent {
        pairs,
        body,
        length,
    })
}

/// The bytes of `count` pairs at `start`, and the position behind them.
fn pairs_at(
    datum: &[u8],
    start: usize,
    count: usize,
) -> Result<(Cow<'_, [u8]>, usize), DecodeError> {
    /// Bytes of a length that fits 31 bits at most; a longer one is written with padding.
    const LONGEST_LENGTH: usize = 5;
    let mut at = start;
    let mut canonical = true;
    for _ in 0..2 * count {
        let (text, next) = bytes_at(datum, at).ok_or(DecodeError::BadLength { at })?;
        if i32::try_from(text.len()).is_err() {
            return Err(DecodeError::BadLength { at });
        }
        canonical &= next - at - text.len() <= LONGEST_LENGTH;
        at = next;
    }
    if canonical {
        return Ok((Cow::Borrowed(&datum[start..at]), at));
    }
    let mut rewritten = Vec::with_capacity(at - start);
    let mut place = start;
    while let Some((text, next)) = bytes_at(datum, place).filter(|_| place < at) {
        put_bytes(&mut rewritten, text);
        place = next;
    }
    Ok((Cow::Owned(rewritten), at))
}

struct Reader<'a> {
    datum: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn long(&mut self) -> Result<i64, DecodeError> {
        let bad = DecodeError::BadLength { at: self.at };
        let (value, next) = long_at(self.datum, self.at).ok_or(bad)?;
        self.at = next;
        Ok(value)
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let bad = DecodeError::BadLength { at: self.at };
        let (bytes, next) = bytes_at(self.datum, self.at).ok_or(bad)?;
        self.at = next;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::NotUtf8 { at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_reference() {
        let mut out = Vec::new();
        encode(std::iter::empty(), b"hi", &mut out);
        assert_eq!(out, [0x00, 0x04, 0x68, 0x69]);
        out.clear();
        encode([("k", "v")].into_iter(), b"", &mut out);
        assert_eq!(out, [2, 2, b'k', 2, b'v', 0, 0]);
    }

    #[test]
    fn blocks_with_sizes_and_lies_about_counts() {
        // Two blocks, the first with a negative count and its size.
        let datum = [1, 8, 2, b'a', 2, b'1', 2, 2, b'b', 0, 0, 2, b'x', 99];
        let event = decode(&datum).expect("valid");
        assert_eq!(event.headers().collect::<Vec<_>>(), [("a", "1"), ("b", "")]);
        assert_eq!((event.body(), event.encoded_len()), (&b"x"[..], 13));
        let mut lie = Vec::new();
        put_long(&mut lie, i64::from(i32::MAX));
        assert_eq!(decode(&lie), Err(DecodeError::TooManyHeaders));
        put_long(&mut lie, i64::MIN);
        assert!(decode(&lie[5..]).is_err());
        assert_eq!(decode(&[0, 2]), Err(DecodeError::BadLength { at: 1 }));
        assert_eq!(
            decode(&[2, 2, 0xff, 0, 0, 0]),
            Err(DecodeError::NotUtf8 { at: 1 })
        );
    }

    #[test]
    fn raw_pairs_are_joined_and_put_in_their_shortest_form() {
        let datum = [1, 8, 2, b'a', 2, b'1', 2, 2, b'b', 0, 0, 2, b'x', 99];
        let raw = decode_raw(&datum).expect("valid");
        assert_eq!(&raw.pairs[..], [2, b'a', 2, b'1', 2, b'b', 0]);
        assert_eq!((raw.body, raw.length), (&b"x"[..], 13));
        let padded = [2, 0x82, 0x80, 0x80, 0x80, 0x80, 0x00, b'a', 0, 0, 0];
        let raw = decode_raw(&padded).expect("valid");
        assert_eq!(&raw.pairs[..], [2, b'a', 0]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(headers: Vec<(String, String)>, body: Vec<u8>) {
            let mut out = Vec::new();
            let pairs: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            encode(pairs.iter().copied(), &body, &mut out);
            let event = decode(&out).expect("our own bytes");
            prop_assert_eq!(event.headers().collect::<Vec<_>>(), pairs.clone());
            prop_assert_eq!(event.body(), &body[..]);
            prop_assert_eq!(event.encoded_len(), out.len());
            let raw = decode_raw(&out).expect("our own bytes");
            prop_assert_eq!((raw.body, raw.length), (&body[..], out.len()));
            prop_assert!(matches!(raw.pairs, Cow::Borrowed(_)));
            let mut again = Vec::new();
            encode_raw(pairs.len(), &raw.pairs, &body, &mut again);
            prop_assert_eq!(again, out);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let whole = decode(&bytes);
            let raw = decode_raw(&bytes);
            match whole {
                Ok(event) => {
                    let raw = raw.expect("as above");
                    prop_assert_eq!((raw.body, raw.length), (event.body(), event.encoded_len()));
                }
                Err(DecodeError::NotUtf8 { .. }) => {}
                Err(_) => prop_assert!(raw.is_err()),
            }
        }
    }
}
