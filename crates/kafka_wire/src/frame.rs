//! The length prefix of a request frame.
//!
//! ```text
//! +-----------------+----------------------------------------+
//! | length: i32 BE  | request header + body, `length` bytes  |
//! +-----------------+----------------------------------------+
//! ```
//!
//! Invariant: no buffer is sized from a length that is negative, too short for a header or above the limit
//! (`socket.request.max.bytes`). Bytes of other protocols on the port are named, because a browser or a TLS client on
//! a Kafka port is the most common mistake and reads as an absurd length.

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 4;
/// Smallest request: key, version and correlation id.
pub const MIN_FRAME_LEN: usize = 8;

/// Why a frame's length prefix is refused; the connection cannot go on, because the next frame's start is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The prefix is the start of an HTTP request.
    #[error("the peer speaks HTTP on the Kafka port")]
    Http,
    /// The prefix is the start of a TLS handshake.
    #[error("the peer starts TLS on a plaintext listener")]
    Tls,
    /// The length is negative or below [`MIN_FRAME_LEN`].
    #[error("frame length {length} is below the shortest request ({MIN_FRAME_LEN} bytes)")]
    TooShort {
        /// The length as sent.
        length: i32,
    },
    /// The length is above the limit.
    #[error("frame length {length} is above socket.request.max.bytes ({max})")]
    TooLong {
        /// The length as sent.
        length: i32,
        /// The limit in bytes.
        max: usize,
    },
}

/// Reads the length prefix; the result is the number of bytes that follow it.
///
/// # Errors
/// Any length that no request can have, or that is above `max_bytes`.
pub fn frame_len(prefix: [u8; PREFIX_LEN], max_bytes: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    if matches!(&prefix, b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI") {
        return Err(FrameError::Http);
    }
    if prefix[0] == 0x16 && prefix[1] == 0x03 {
        return Err(FrameError::Tls);
    }
    match usize::try_from(length) {
        Ok(bytes) if bytes > max_bytes => Err(FrameError::TooLong {
            length,
            max: max_bytes,
        }),
        Ok(bytes) if bytes >= MIN_FRAME_LEN => Ok(bytes),
        Ok(_) | Err(_) => Err(FrameError::TooShort { length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        assert_eq!(frame_len(8i32.to_be_bytes(), 100), Ok(8));
        assert_eq!(frame_len(100i32.to_be_bytes(), 100), Ok(100));
        for length in [-1, 0, 7, i32::MIN] {
            assert_eq!(
                frame_len(length.to_be_bytes(), 100),
                Err(FrameError::TooShort { length })
            );
        }
        for length in [101, i32::MAX] {
            assert_eq!(
                frame_len(length.to_be_bytes(), 100),
                Err(FrameError::TooLong { length, max: 100 })
            );
        }
    }

    #[test]
    fn foreign_protocols_are_named() {
        assert_eq!(frame_len(*b"GET ", 1 << 30), Err(FrameError::Http));
        assert_eq!(
            frame_len([0x16, 0x03, 0x01, 0x02], usize::MAX),
            Err(FrameError::Tls)
        );
    }
}
