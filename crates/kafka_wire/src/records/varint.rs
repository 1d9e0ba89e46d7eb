//! Zigzag varints as in record batches: groups of seven bits, lowest first, the sign in bit 0.
//!
//! Readers return `None` for bytes that end early or do not fit the width; they never read past the slice.

/// Longest encoding of a 32-bit value.
pub(super) const MAX_32: usize = 5;
/// Longest encoding of a 64-bit value.
pub(super) const MAX_64: usize = 10;

/// Reads a zigzag varint of at most 32 bits at `*position` and moves on.
#[inline]
pub(super) fn read_i32(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let first = *bytes.get(*position)?;
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag_32(u32::from(first)));
    }
    let mut value = u32::from(first & 0x7f);
    for index in 1..MAX_32 {
        let byte = *bytes.get(*position + index)?;
        if index == MAX_32 - 1 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *position += index + 1;
            return Some(unzigzag_32(value));
        }
    }
    None
}

/// Reads a zigzag varint of at most 64 bits at `*position` and moves on.
#[inline]
pub(super) fn read_i64(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let first = *bytes.get(*position)?;
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag_64(u64::from(first)));
    }
    let mut value = u64::from(first & 0x7f);
    for index in 1..MAX_64 {
        let byte = *bytes.get(*position + index)?;
        if index == MAX_64 - 1 && byte > 0x01 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *position += index + 1;
            return Some(unzigzag_64(value));
        }
    }
    None
}

/// Bytes that `value` takes.
#[inline]
pub(super) fn len_i32(value: i32) -> usize {
    let zigzag = zigzag_32(value);
    ((31 - (zigzag | 1).leading_zeros()) / 7 + 1) as usize
}

/// Bytes that `value` takes.
#[inline]
pub(super) fn len_i64(value: i64) -> usize {
    let zigzag = zigzag_64(value);
    ((63 - (zigzag | 1).leading_zeros()) / 7 + 1) as usize
}

/// Writes `value` at `*position` of a buffer that is large enough and moves on.
#[inline]
pub(super) fn write_i32(buffer: &mut [u8], position: &mut usize, value: i32) {
    let mut zigzag = zigzag_32(value);
    while zigzag >= 0x80 {
        buffer[*position] = (zigzag as u8) | 0x80;
        *position += 1;
        zigzag >>= 7;
    }
    buffer[*position] = zigzag as u8;
    *position += 1;
}

/// Writes `value` at `*position` of a buffer that is large enough and moves on.
#[inline]
pub(super) fn write_i64(buffer: &mut [u8], position: &mut usize, value: i64) {
    let mut zigzag = zigzag_64(value);
    while zigzag >= 0x80 {
        buffer[*position] = (zigzag as u8) | 0x80;
        *position += 1;
        zigzag >>= 7;
    }
    buffer[*position] = zigzag as u8;
    *position += 1;
}

/// Appends `value` to `out`.
#[inline]
pub(super) fn push_i32(out: &mut Vec<u8>, value: i32) {
    let mut buffer = [0; MAX_32];
    let mut end = 0;
    write_i32(&mut buffer, &mut end, value);
    out.extend_from_slice(&buffer[..end]);
}

#[inline]
fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn unzigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[inline]
fn unzigzag_64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_power_of_two_and_its_neighbours_return_with_their_length() {
        for shift in 0..64 {
            for delta in [-1i64, 0, 1] {
                for sign in [-1i64, 1] {
                    let value = (1i64.wrapping_shl(shift))
                        .wrapping_add(delta)
                        .wrapping_mul(sign);
                    let mut buffer = [0; MAX_64];
                    let mut end = 0;
                    write_i64(&mut buffer, &mut end, value);
                    assert_eq!(end, len_i64(value), "{value}");
                    let mut position = 0;
                    assert_eq!(read_i64(&buffer[..end], &mut position), Some(value));
                    assert_eq!(position, end);
                    assert_eq!(read_i64(&buffer[..end - 1], &mut 0), None);

                    let value = value as i32;
                    let mut out = Vec::new();
                    push_i32(&mut out, value);
                    assert_eq!(out.len(), len_i32(value), "{value}");
                    assert_eq!(read_i32(&out, &mut 0), Some(value));
                }
            }
        }
    }

    #[test]
    fn a_varint_wider_than_its_type_is_refused() {
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f], &mut 0), None);
        assert_eq!(read_i32(&[0xff; 20], &mut 0), None);
        assert_eq!(read_i64(&[0xff; 20], &mut 0), None);
        assert_eq!(
            read_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f], &mut 0),
            Some(i32::MIN)
        );
    }
}
