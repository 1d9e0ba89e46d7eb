//! The little of protobuf 2 that Flume's files use: varints, fixed numbers, length-delimited fields. No allocation; every
//! length is checked against the bytes that are there.

use crate::record::Malformed;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint,
    Fixed64(i64),
    Bytes(&'a [u8]),
    Fixed32(i32),
}

impl<'a> Value<'a> {
    pub(crate) fn fixed32(self) -> Result<i32, Malformed> {
        match self {
            Value::Fixed32(value) => Ok(value),
            _ => Err(Malformed("a field has the wrong type")),
        }
    }

    pub(crate) fn fixed64(self) -> Result<i64, Malformed> {
        match self {
            Value::Fixed64(value) => Ok(value),
            _ => Err(Malformed("a field has the wrong type")),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(value) => Ok(value),
            _ => Err(Malformed("a field has the wrong type")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

/// Takes bytes from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

const SHORT: Malformed = Malformed("it ends in the middle of a field");

impl<'a> Cursor<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = self.0.split_first().ok_or(SHORT)?;
            self.0 = rest;
            if shift == 63 && *first > 1 {
                break;
            }
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    /// A message behind its length, as `writeDelimitedTo` writes it.
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| SHORT)?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next field of a message; `None` at its end.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => {
                self.varint()?;
                Value::Varint
            }
            1 => Value::Fixed64(i64::from_le_bytes(self.take()?)),
            2 => Value::Bytes(self.delimited()?),
            5 => Value::Fixed32(i32::from_le_bytes(self.take()?)),
            _ => return Err(Malformed("a field has an unknown type")),
        };
        match tag >> 3 {
            0 => Err(Malformed("a field has the number 0")),
            number => Ok(Some((number, value))),
        }
    }
}

/// A field that must be there.
pub(crate) fn required<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
    value.ok_or(Malformed(what))
}
