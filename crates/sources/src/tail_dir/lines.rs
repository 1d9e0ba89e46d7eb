//! Cuts a read buffer into lines (reference 3.10): a line ends at `\n`, one `\r` before it is
//! removed, every other byte stays as it is. Pure.
//!
//! A line longer than the limit is cut into pieces, each an event; where it is cut does not
//! depend on how the file was read.

use std::ops::Range;

/// The longest body of a line, in bytes. Flume has no limit and needs memory for the whole line;
/// we cut a longer one into pieces of this size and warn.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// One line of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSpan {
    /// The body.
    pub body: Range<usize>,
    /// Where the next line begins.
    pub end: usize,
    /// Whether the line goes on there, because it is too long.
    pub cut: bool,
}

/// The lines of a buffer that begins at the start of a line.
pub struct LineSpans<'a> {
    bytes: &'a [u8],
    newlines: memchr::Memchr<'a>,
    next_newline: Option<usize>,
    at: usize,
    limit: usize,
    flush: bool,
}

impl<'a> LineSpans<'a> {
    /// The lines of `bytes` with bodies of at most `limit` bytes. With `flush` the rest behind
    /// the last newline is a line too.
    pub fn new(bytes: &'a [u8], limit: usize, flush: bool) -> Self {
        let mut newlines = memchr::memchr_iter(b'\n', bytes);
        let next_newline = newlines.next();
        Self {
            bytes,
            newlines,
            next_newline,
            at: 0,
            limit: limit.max(1),
            flush,
        }
    }

    fn cut(&mut self) -> LineSpan {
        let start = self.at;
        self.at += self.limit;
        LineSpan {
            body: start..self.at,
            end: self.at,
            cut: true,
        }
    }
}

impl Iterator for LineSpans<'_> {
    type Item = LineSpan;

    fn next(&mut self) -> Option<LineSpan> {
        let start = self.at;
        let Some(newline) = self.next_newline else {
            let rest = self.bytes.len() - start;
            if rest > self.limit + 1 || (self.flush && rest > self.limit) {
                return Some(self.cut());
            }
            if rest == 0 || !self.flush {
                return None;
            }
            self.at = self.bytes.len();
            return Some(LineSpan {
                body: start..self.at,
                end: self.at,
                cut: false,
            });
        };
        let has_return = newline > start && self.bytes[newline - 1] == b'\r';
        let body = start..newline - usize::from(has_return);
        if body.len() > self.limit {
            return Some(self.cut());
        }
        self.at = newline + 1;
        self.next_newline = self.newlines.next();
        Some(LineSpan {
            body,
            end: self.at,
            cut: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], limit: usize, flush: bool) -> Vec<&[u8]> {
        LineSpans::new(bytes, limit, flush)
            .map(|span| &bytes[span.body])
            .collect()
    }

    #[test]
    fn newline_ends_and_one_return_before_it_goes() {
        let bytes = b"a\r\n\nb\r\r\nc\rd\n\r\nrest";
        let expected: [&[u8]; 5] = [b"a", b"", b"b\r", b"c\rd", b""];
        assert_eq!(lines(bytes, 100, false), expected);
        assert_eq!(lines(bytes, 100, true).last(), Some(&&b"rest"[..]));
        assert_eq!(lines(b"x\0\xff\n", 100, false), [b"x\0\xff"]);
        assert_eq!(lines(b"half\r", 100, true), [b"half\r"]);
    }

    #[test]
    fn a_line_at_the_limit_stays_whole_and_a_longer_one_is_cut() {
        assert_eq!(lines(b"abcd\r\n", 4, false), [b"abcd"]);
        let expected: [&[u8]; 3] = [b"abcd", b"e", b"f"];
        assert_eq!(lines(b"abcde\nf\n", 4, false), expected);
        assert_eq!(lines(b"abcde", 4, false), Vec::<&[u8]>::new());
        assert_eq!(lines(b"abcdef", 4, false), [b"abcd"]);
        assert_eq!(lines(b"abcde", 4, true), [&b"abcd"[..], b"e"]);
    }

    #[test]
    fn cuts_do_not_depend_on_the_buffer() {
        let whole = b"0123456789\r\nab\r\n\nxxxxxxxxx\n";
        let expected = lines(whole, 4, false);
        for size in 6..whole.len() {
            let mut at = 0;
            let mut found = Vec::new();
            while at < whole.len() {
                let part = &whole[at..(at + size).min(whole.len())];
                let mut used = 0;
                for span in LineSpans::new(part, 4, false) {
                    found.push(&part[span.body.clone()]);
                    used = span.end;
                }
                assert!(used > 0, "no progress at {at} with {size}");
                at += used;
            }
            assert_eq!(found, expected, "buffers of {size}");
        }
    }
}
