//! Cuts a value into plain text and look-ups.

/// A piece of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Text that stays.
    Text(&'t str),
    /// A look-up.
    Lookup {
        /// With `${` and `}`.
        written: &'t str,
        /// Between them.
        inner: &'t str,
    },
}

impl<'t> Part<'t> {
    /// The piece as it was written.
    pub(crate) fn written(self) -> &'t str {
        match self {
            Part::Text(text) => text,
            Part::Lookup { written, .. } => written,
        }
    }
}

/// The pieces of a value. `$${x}` gives the text `${x}`; from a `${` without its `}` on all is
/// text.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut search = 0;
    while let Some(found) = text[search..].find("${").map(|at| search + at) {
        let Some(end) = closing(text, found + 2) else {
            break;
        };
        if found > from && text.as_bytes()[found - 1] == b'$' {
            parts.push(Part::Text(&text[from..found - 1]));
            (from, search) = (found, found + 2);
            continue;
        }
        parts.push(Part::Text(&text[from..found]));
        parts.push(Part::Lookup {
            written: &text[found..=end],
            inner: &text[found + 2..end],
        });
        (from, search) = (end + 1, end + 1);
    }
    parts.push(Part::Text(&text[from..]));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

/// The position of the `}` that belongs to the `${` before `from`.
fn closing(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Filter name and key of `f1['key']`, `f1["key"]` or `f1[key]`, the inside of a reference to a
/// config filter.
pub(crate) fn filter_reference(inner: &str) -> Option<(&str, &str)> {
    let (name, rest) = inner.split_once('[')?;
    let quoted = rest.strip_suffix(']')?;
    let key = match quoted.as_bytes() {
        [b'\'', .., b'\''] | [b'"', .., b'"'] if quoted.len() > 2 => &quoted[1..quoted.len() - 1],
        _ => quoted,
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = !key.is_empty() && key.chars().all(legal);
    let plain_name = !name.is_empty() && !name.contains(['$', '{', '}', ':']);
    (fits && plain_name).then_some((name, key))
}
