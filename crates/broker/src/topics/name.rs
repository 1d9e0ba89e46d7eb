//! Which topic names are legal, as Kafka's `Topic.validate` rules.

/// Longest topic name, in bytes: leaves room for `-<partition>` in a file name.
pub const MAX_NAME_LEN: usize = 249;

/// Why a name is not legal; the text goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No letters at all.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("Topic name is invalid: '.' or '..' is not allowed")]
    Dots,
    /// Longer than [`MAX_NAME_LEN`].
    #[error(
        "Topic name is invalid: the length of the name is longer than the max allowed length 249"
    )]
    TooLong,
    /// Other than letters, digits, `.`, `_`, `-`.
    #[error(
        "Topic name is invalid: it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters,
}

/// Checks a topic name.
///
/// # Errors
/// The rule it breaks.
pub fn validate(name: &str) -> Result<(), NameError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if name.len() > MAX_NAME_LEN => Err(NameError::TooLong),
        _ if !name.bytes().all(legal) => Err(NameError::Characters),
        _ => Ok(()),
    }
}

/// Kafka treats names that differ only in `.` and `_` as colliding, because its metrics cannot tell them apart.
pub fn collides(left: &str, right: &str) -> bool {
    left != right
        && left.len() == right.len()
        && left.bytes().zip(right.bytes()).all(|(one, other)| {
            one == other || (matches!(one, b'.' | b'_') && matches!(other, b'.' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        assert_eq!(validate("a.B_c-9"), Ok(()));
        assert_eq!(validate(&"x".repeat(249)), Ok(()));
        assert_eq!(validate(&"x".repeat(250)), Err(NameError::TooLong));
        assert_eq!(validate(""), Err(NameError::Empty));
        assert_eq!(validate(".."), Err(NameError::Dots));
        for bad in ["a b", "a/b", "../x", "ä", "a\0"] {
            assert_eq!(validate(bad), Err(NameError::Characters), "{bad}");
        }
        assert!(collides("a.b", "a_b"));
        assert!(!collides("a.b", "a.b"));
        assert!(!collides("a.b", "axb"));
    }
}
