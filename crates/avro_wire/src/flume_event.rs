//! `AvroFlumeEvent` as a bare datum (Flume reference 4.1.1, 4.1.5): what the Kafka components
//! write as a value and the Avro RPC carries.
//!
//! ```text
//! map of string   count (zigzag varint), then count × { name, value }, …blocks…, 0
//! bytes           length (zigzag varint), bytes
//! ```
//! A negative count is followed by the block's size in bytes. Names and values are a length and
//! UTF-8. Decoding borrows; nothing is allocated but a small list of header places.

use thiserror::Error;

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

fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    datum: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn long(&mut self) -> Result<i64, DecodeError> {
        let at = self.at;
        let mut value: u64 = 0;
        for (index, byte) in self.datum[at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.at = at + index + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(DecodeError::BadLength { at })
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        let length = self.long()?;
        let bad = DecodeError::BadLength { at };
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length))
            .ok_or(bad)?;
        let bytes = self.datum.get(self.at..end).ok_or(bad)?;
        self.at = end;
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

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(headers: Vec<(String, String)>, body: Vec<u8>) {
            let mut out = Vec::new();
            let pairs: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            encode(pairs.iter().copied(), &body, &mut out);
            let event = decode(&out).expect("our own bytes");
            prop_assert_eq!(event.headers().collect::<Vec<_>>(), pairs);
            prop_assert_eq!(event.body(), &body[..]);
            prop_assert_eq!(event.encoded_len(), out.len());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }
    }
}
