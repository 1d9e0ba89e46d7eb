//! One record of a log file version 3, big-endian but for protobuf's own numbers:
//! ```text
//! byte 0  operation  0x7f record, 0x00 repaired away (skipped by its length), 0x80 end of the written part
//!      1  length     i32 of the payload
//!      5  payload    TransactionEventHeader, body, TransactionEventFooter: each a varint length and a message
//!
//! TransactionEventHeader  1 sfixed32 type (1 put, 2 take, 3 rollback, 4 commit)
//!                         2 sfixed64 transaction id   3 sfixed64 write order id
//! Put                     1 FlumeEvent {1 repeated {1 key, 2 optional value}, 2 body}   2 optional sfixed64 CRC-32 of body
//! Take                    1 sfixed32 log file   2 sfixed32 offset of the put
//! Rollback                nothing
//! Commit                  1 sfixed32 type of what is committed (1 put, 2 take)
//! TransactionEventFooter  nothing
//! ```
//! Bytes in, fields out: nothing is read from a file here, nothing is allocated by what a length says.

use std::ops::Range;

use crc_fast::CrcAlgorithm;

use crate::Pointer;
use crate::protobuf::{Cursor, required};

/// Operation byte of a record.
pub const OPERATION_RECORD: u8 = 0x7f;
/// Operation byte of a record that Flume's integrity tool has repaired away.
pub const OPERATION_NOOP: u8 = 0x00;
/// What files are filled up with.
pub const OPERATION_END: u8 = 0x80;
/// Operation and length.
pub const PREFIX_BYTES: usize = 5;
/// Shorter payloads do not exist: length and 23 bytes of header, empty body, empty footer.
pub const LEAST_PAYLOAD_BYTES: usize = 26;
/// Of a put so many bytes are enough for [`head`]; other records are shorter as a whole.
pub const HEAD_BYTES: usize = 128;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It put events in.
    Put,
    /// It took events out.
    Take,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An event was put; see [`put`].
    Put,
    /// The event of this put was taken.
    Take(Pointer),
    /// The transaction was rolled back.
    Rollback,
    /// The transaction was committed.
    Commit(Work),
}

/// All of a record but the event of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose record it is.
    pub transaction: i64,
    /// Number in the order of all records of the channel, ascending.
    pub order: i64,
    /// What it says.
    pub kind: Kind,
}

/// A put's event; the ranges are in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put<'a> {
    /// Transaction and order.
    pub head: Head,
    /// The event's headers.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The event's body.
    pub body: Range<usize>,
}

/// Decodes a record's head from its payload, or from the first [`HEAD_BYTES`] of a longer one.
///
/// # Errors
/// When these are no bytes of a record.
pub fn head(payload: &[u8]) -> Result<Head, Malformed> {
    decode_head(payload).map(|(head, _)| head)
}

fn decode_head(payload: &[u8]) -> Result<(Head, Cursor<'_>), Malformed> {
    let mut cursor = Cursor(payload);
    let mut header = Cursor(cursor.delimited()?);
    let (mut kind, mut transaction, mut order) = (None, None, None);
    while let Some((number, value)) = header.field()? {
        match number {
            1 => kind = Some(value.fixed32()?),
            2 => transaction = Some(value.fixed64()?),
            3 => order = Some(value.fixed64()?),
            _ => {}
        }
    }
    let missing = "the record's type, transaction or order is missing";
    let kind = match required(kind, missing)? {
        1 => Kind::Put,
        2 => Kind::Take(take(&mut cursor)?),
        3 => {
            cursor.delimited()?;
            Kind::Rollback
        }
        4 => Kind::Commit(commit(&mut cursor)?),
        _ => return Err(Malformed("the record's type is unknown")),
    };
    if kind != Kind::Put {
        footer(&mut cursor)?;
    }
    let head = Head {
        transaction: required(transaction, missing)?,
        order: required(order, missing)?,
        kind,
    };
    Ok((head, cursor))
}

fn take(cursor: &mut Cursor<'_>) -> Result<Pointer, Malformed> {
    let mut body = Cursor(cursor.delimited()?);
    let (mut file, mut offset) = (None, None);
    while let Some((number, value)) = body.field()? {
        match number {
            1 => file = Some(value.fixed32()?),
            2 => offset = Some(value.fixed32()?),
            _ => {}
        }
    }
    let number = |value: Option<i32>| {
        let value = required(value, "a take does not say of what")?;
        u32::try_from(value).map_err(|_| Malformed("a take points to a negative place"))
    };
    Ok(Pointer {
        file: number(file)?,
        offset: number(offset)?,
    })
}

fn commit(cursor: &mut Cursor<'_>) -> Result<Work, Malformed> {
    let mut body = Cursor(cursor.delimited()?);
    let mut work = None;
    while let Some((number, value)) = body.field()? {
        if number == 1 {
            work = Some(value.fixed32()?);
        }
    }
    match work {
        Some(1) => Ok(Work::Put),
        Some(2) => Ok(Work::Take),
        _ => Err(Malformed("a commit does not say of what")),
    }
}

fn footer(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    cursor.delimited()?;
    match cursor.is_empty() {
        true => Ok(()),
        false => Err(Malformed("bytes follow the record's end")),
    }
}

/// Decodes a whole put and checks its body against its checksum.
///
/// # Errors
/// When the payload is not that of a put, or was damaged.
pub fn put(payload: &[u8]) -> Result<Put<'_>, Malformed> {
    let mut headers = Vec::new();
    let (head, body, checksum) = walk_put(payload, &mut |key, value| headers.push((key, value)))?;
    if let Some(checksum) = checksum
        && checksum as u64 != crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, body)
    {
        return Err(Malformed("the event's checksum does not match its body"));
    }
    let start = body.as_ptr() as usize - payload.as_ptr() as usize;
    Ok(Put {
        head,
        headers,
        body: start..start + body.len(),
    })
}

/// A put's parts: head, body, checksum; its headers go to `header_found`.
fn walk_put<'a>(
    payload: &'a [u8],
    header_found: &mut dyn FnMut(&'a str, &'a str),
) -> Result<(Head, &'a [u8], Option<i64>), Malformed> {
    let (head, mut cursor) = decode_head(payload)?;
    if head.kind != Kind::Put {
        return Err(Malformed("the record is not a put"));
    }
    let mut message = Cursor(cursor.delimited()?);
    footer(&mut cursor)?;
    let (mut event, mut checksum) = (None, None);
    while let Some((number, value)) = message.field()? {
        match number {
            1 => event = Some(value.bytes()?),
            2 => checksum = Some(value.fixed64()?),
            _ => {}
        }
    }
    let mut event = Cursor(required(event, "a put has no event")?);
    let mut body: Option<&[u8]> = None;
    while let Some((number, value)) = event.field()? {
        match number {
            1 => {
                let (key, value) = header(value.bytes()?)?;
                header_found(key, value);
            }
            2 => body = Some(value.bytes()?),
            _ => {}
        }
    }
    Ok((head, required(body, "an event has no body")?, checksum))
}

fn header(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut message = Cursor(bytes);
    let (mut key, mut text) = (None, "");
    while let Some((number, value)) = message.field()? {
        match number {
            1 => key = Some(value.text()?),
            2 => text = value.text()?,
            _ => {}
        }
    }
    Ok((required(key, "a header has no key")?, text))
}

/// The head of a whole record, all of whose fields are in order; the body's checksum is not looked at, so that an event
/// that was delivered long ago does no harm.
pub(crate) fn whole(payload: &[u8]) -> Result<Head, Malformed> {
    let (found, _) = decode_head(payload)?;
    if found.kind == Kind::Put {
        walk_put(payload, &mut |_, _| {})?;
    }
    Ok(found)
}
