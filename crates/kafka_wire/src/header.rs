//! The request header, read without trusting it.
//!
//! ```text
//! api_key i16 | api_version i16 | correlation_id i32        every version
//!   | client_id: i16 length (-1 = null) + UTF-8             version 1 and 2
//!   | tagged fields: uvarint count, (tag, size, bytes)*     version 2
//! ```
//!
//! The first eight bytes are the same in every version, so a request with an unknown key or version can still be
//! answered (ApiVersions, KIP-511) or named in a log line. Client ids stay slices of the frame.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use crate::guard::{GuardError, Walker};

/// The part of the header that all versions share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestStart {
    /// The API key, as sent.
    pub api_key: i16,
    /// The API version, as sent.
    pub api_version: i16,
    /// Echoed in the response header.
    pub correlation_id: i32,
}

/// A whole request header and the body behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The client id, if sent.
    pub client_id: Option<StrBytes>,
    /// The request body, a slice of the frame.
    pub body: Bytes,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame ends inside the header, or a length in it is impossible.
    #[error("request header: {0}")]
    Shape(#[from] GuardError),
    /// The client id is not UTF-8.
    #[error("request header: the client id is not UTF-8")]
    ClientId,
}

/// Reads key, version and correlation id.
///
/// # Errors
/// The frame is shorter than eight bytes.
pub fn peek(frame: &[u8]) -> Result<RequestStart, HeaderError> {
    let mut walker = Walker::new(frame);
    Ok(RequestStart {
        api_key: walker.i16()?,
        api_version: walker.i16()?,
        correlation_id: walker.i32()?,
    })
}

/// Reads the rest of the header. `flexible` = header version 2, else version 1.
///
/// # Errors
/// The frame ends inside the header, a length is impossible, or the client id is not UTF-8.
pub fn parse(frame: &Bytes, flexible: bool) -> Result<RequestHead, HeaderError> {
    let mut walker = Walker::new(frame);
    walker.skip(8)?;
    let length = walker.i16()?;
    let client_id = match usize::try_from(length) {
        Ok(length) => {
            let start = walker.position();
            walker.skip(length)?;
            let text = StrBytes::from_utf8(frame.slice(start..start + length))
                .map_err(|_| HeaderError::ClientId)?;
            Some(text)
        }
        Err(_) if length == -1 => None,
        Err(_) => {
            return Err(HeaderError::Shape(GuardError::NegativeLength {
                position: 8,
                length: i32::from(length),
            }));
        }
    };
    if flexible {
        walker.unknown_tags()?;
    }
    Ok(RequestHead {
        client_id,
        body: frame.slice(walker.position()..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tail: &[u8]) -> Bytes {
        let mut bytes = vec![0, 3, 0, 9, 0, 0, 0, 7];
        bytes.extend_from_slice(tail);
        Bytes::from(bytes)
    }

    #[test]
    fn reads_both_header_versions() {
        let start = peek(&frame(&[])).unwrap();
        assert_eq!(
            (start.api_key, start.api_version, start.correlation_id),
            (3, 9, 7)
        );
        let plain = parse(&frame(b"\x00\x02abXY"), false).unwrap();
        assert_eq!(plain.client_id.as_deref(), Some("ab"));
        assert_eq!(&plain.body[..], b"XY");
        let tagged = parse(&frame(b"\xff\xff\x01\x05\x02zzXY"), true).unwrap();
        assert_eq!(tagged.client_id, None);
        assert_eq!(&tagged.body[..], b"XY");
    }

    #[test]
    fn hostile_headers_are_errors() {
        assert!(peek(&[0, 1, 2]).is_err());
        assert!(parse(&frame(b"\x00\x09ab"), false).is_err());
        assert!(parse(&frame(b"\xff\xfe"), false).is_err());
        assert_eq!(
            parse(&frame(b"\x00\x01\xff"), false),
            Err(HeaderError::ClientId)
        );
        assert!(parse(&frame(b"\xff\xff\xff\xff\xff\xff\x0f"), true).is_err());
        assert!(parse(&frame(b"\xff\xff\x01\x00\xff\xff\xff\xff\x0f"), true).is_err());
    }
}
