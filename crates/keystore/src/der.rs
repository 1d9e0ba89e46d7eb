//! A reader for the DER that keystores and certificates are made of: tag, length, contents.
//!
//! Only what [`crate::pkcs12`] needs. Constructed strings and indefinite lengths of old BER files
//! are refused. Invariant: every length is checked against the bytes that are there.

use crate::error::KeystoreError;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[0]`, primitive.
pub(crate) const CONTEXT_0_PRIMITIVE: u8 = 0x80;

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'d> {
    pub(crate) tag: u8,
    pub(crate) contents: &'d [u8],
    /// The element with its tag and length.
    pub(crate) whole: &'d [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Der<'d>(pub(crate) &'d [u8]);

impl<'d> Der<'d> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element.
    pub(crate) fn any(&mut self) -> Result<Element<'d>, KeystoreError> {
        let cut = || KeystoreError::Damaged {
            what: "DER element",
        };
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>().ok_or_else(cut)?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (digits, after) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or_else(cut)?;
                rest = after;
                digits
                    .iter()
                    .fold(0, |length, digit| length << 8 | usize::from(*digit))
            }
            _ => return Err(cut()),
        };
        let (contents, after) = rest.split_at_checked(length).ok_or_else(cut)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok(Element {
            tag,
            contents,
            whole,
        })
    }

    /// The contents of the next element, which must have `tag`.
    pub(crate) fn of(&mut self, tag: u8) -> Result<&'d [u8], KeystoreError> {
        let element = self.any()?;
        match element.tag == tag {
            true => Ok(element.contents),
            false => Err(KeystoreError::Damaged {
                what: "DER structure",
            }),
        }
    }

    /// The elements inside the next one, which must have `tag`.
    pub(crate) fn inside(&mut self, tag: u8) -> Result<Der<'d>, KeystoreError> {
        self.of(tag).map(Der)
    }

    /// Whether the next element has `tag`.
    pub(crate) fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// A positive whole number that fits.
    pub(crate) fn number(&mut self) -> Result<u32, KeystoreError> {
        let digits = self.of(INTEGER)?;
        let too_large = digits.len() > 5 || digits.first().is_none_or(|first| *first >= 0x80);
        let value = digits
            .iter()
            .fold(0u64, |value, digit| value << 8 | u64::from(*digit));
        match u32::try_from(value) {
            Ok(value) if !too_large => Ok(value),
            _ => Err(KeystoreError::Damaged { what: "number" }),
        }
    }
}

/// An object identifier in dots, for messages.
pub(crate) fn dotted(id: &[u8]) -> String {
    let mut parts: Vec<u64> = Vec::new();
    let mut value = 0u64;
    for byte in id.iter().take(64) {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (value / 40).min(2);
                parts.push(first);
                value -= first * 40;
            }
            parts.push(value);
            value = 0;
        }
    }
    let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
    parts.join(".")
}
