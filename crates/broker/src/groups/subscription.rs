//! The topics in a consumer's subscription, as far as the coordinator has to know them: offsets of a topic that
//! members read cannot be deleted and do not expire.
//!
//! ```text
//! i16 version, i32 topic count, per topic: i16 length, name (UTF-8); more follows and is not read
//! ```

use std::collections::BTreeSet;

/// Adds the topics of one subscription; `None` if the bytes are not a consumer's subscription.
pub(crate) fn collect_topics(subscription: &[u8], topics: &mut BTreeSet<String>) -> Option<()> {
    let (version, rest) = subscription.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    // A false count ends with the bytes, two of which each topic takes.
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let name = after.get(..length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = &after[length..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_garbage_is_refused() {
        let mut bytes = vec![0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff];
        let mut topics = BTreeSet::new();
        assert_eq!(collect_topics(&bytes, &mut topics), Some(()));
        assert_eq!(topics.into_iter().collect::<Vec<_>>(), ["a", "bc"]);
        bytes[2..6].copy_from_slice(&[0x7f; 4]);
        assert_eq!(collect_topics(&bytes, &mut BTreeSet::new()), None);
        for length in 0..13 {
            let cut = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'];
            assert_eq!(collect_topics(&cut[..length], &mut BTreeSet::new()), None);
        }
    }
}
