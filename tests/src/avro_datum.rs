//! Reads Flume's event as a bare Avro datum (`AvroFlumeEvent`: a map of string headers, then bytes), the value of the
//! records that the kafka channel and `useFlumeEventFormat` write.
//!
//! Written for the tests alone and apart from the product's own reader, so that one mistake cannot hide the other.
//! Spec: Avro 1.11, binary encoding of long, string, bytes and map.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// One decoded event; headers sorted, since a map has no order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlumeEvent {
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Decodes exactly one event.
///
/// # Errors
/// The bytes are not one whole event.
pub fn decode(bytes: &[u8]) -> Result<FlumeEvent> {
    let mut rest = bytes;
    let mut headers = BTreeMap::new();
    loop {
        let mut entries = long(&mut rest).context("the number of headers")?;
        if entries == 0 {
            break;
        }
        if entries < 0 {
            entries = entries
                .checked_neg()
                .context("a header block of 2^63 entries")?;
            long(&mut rest).context("the size of a header block")?;
        }
        for _ in 0..entries {
            let name = String::from_utf8(bytes_of(&mut rest).context("a header name")?)?;
            let value = String::from_utf8(bytes_of(&mut rest).context("a header value")?)?;
            headers.insert(name, value);
        }
    }
    let body = bytes_of(&mut rest).context("the body")?;
    ensure!(rest.is_empty(), "{} bytes follow the event", rest.len());
    Ok(FlumeEvent { headers, body })
}

fn long(rest: &mut &[u8]) -> Result<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, tail) = rest
            .split_first()
            .context("the bytes end inside a number")?;
        *rest = tail;
        value |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    bail!("a number of more than ten bytes")
}

fn bytes_of(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let length = usize::try_from(long(rest)?).context("a negative length")?;
    let (bytes, tail) = rest
        .split_at_checked(length)
        .with_context(|| format!("{length} bytes are not there"))?;
    *rest = tail;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_with_one_header() {
        let event = decode(b"\x02\x02k\x04vv\x00\x06abc").expect("an event");
        assert_eq!(
            event.headers,
            BTreeMap::from([("k".to_owned(), "vv".to_owned())])
        );
        assert_eq!(event.body, b"abc");
        assert_eq!(
            decode(b"\x01\x0c\x02k\x04vv\x00\x06abc").expect("a block with its size"),
            event
        );
    }

    #[test]
    fn cut_and_surplus_bytes_are_refused() {
        assert!(decode(b"\x02\x02k").is_err());
        assert!(decode(b"\x00\x00x").is_err());
        assert!(decode(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
