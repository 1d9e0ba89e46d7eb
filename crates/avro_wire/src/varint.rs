//! Avro's `int` and `long`: zigzag variable-length numbers.

/// Bytes of the longest `long`.
const LONGEST: usize = 10;

/// Appends a `long`.
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends `bytes` with their length, as Avro's `bytes` and `string` are.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// A `long` at `at` and the position behind it; `None` when it is cut or over-long.
pub fn long_at(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.get(at..)?.iter().take(LONGEST).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), at + index + 1));
        }
    }
    None
}

/// The bytes of a `bytes` or `string` at `at` and the position behind them; `None` when they are
/// not all there.
pub(crate) fn bytes_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, start) = long_at(bytes, at)?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    Some((bytes.get(start..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, -1, 1, 63, 64, -65, 8191, i64::MAX, i64::MIN] {
            let mut out = vec![0xff];
            put_long(&mut out, value);
            assert_eq!(long_at(&out, 1), Some((value, out.len())));
            assert_eq!(long_at(&out[..out.len() - 1], 1), None);
        }
        assert_eq!(long_at(&[0x80; 11], 0), None);
        assert_eq!(long_at(&[0], 5), None);
    }

    #[test]
    fn lengths_are_held_against_the_bytes() {
        assert_eq!(bytes_at(&[4, b'a', b'b', 9], 0), Some((&b"ab"[..], 3)));
        assert_eq!(bytes_at(&[4, b'a'], 0), None);
        assert_eq!(bytes_at(&[1, b'a'], 0), None, "negative");
        let mut huge = Vec::new();
        put_long(&mut huge, i64::MAX);
        assert_eq!(bytes_at(&huge, 0), None);
    }
}
