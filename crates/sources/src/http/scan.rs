//! The lenient JSON tokens that Gson accepts, over a text that is known to be UTF-8.
//!
//! Beyond JSON: comments (`//`, `#`, `/* */`), names and strings in single quotes or without
//! quotes, `=` or `=>` for `:`, `;` for `,`, an empty place in an array for `null`, raw control
//! characters in strings. What exactly is accepted was compared with Flume 1.11 and Gson 2.9.1
//! (`testdata/`). Invariant: memory and time are linear in the text, and depth is bounded.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2, memmem};
use thiserror::Error;

/// Deepest nesting of ignored fields.
pub const DEEPEST: u32 = 200;

/// Why a request is not a list of events.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Something else was expected.
    #[error("byte {at}: expected {expected}, found {found}")]
    Expected {
        /// Position in the text, as UTF-8.
        at: usize,
        /// What could have stood there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A backslash is followed by something that is no escape.
    #[error("byte {at}: bad escape in a string; a backslash is written `\\\\`")]
    BadEscape {
        /// Position of the backslash.
        at: usize,
    },
    /// A string or a comment does not end.
    #[error("byte {at}: a {what} begins here and does not end")]
    Unterminated {
        /// Where it begins.
        at: usize,
        /// `string` or `comment`.
        what: &'static str,
    },
    /// A header stands twice in one event.
    #[error("byte {at}: header `{name}` is set twice")]
    DuplicateHeader {
        /// Position behind the second value.
        at: usize,
        /// The header.
        name: String,
    },
    /// Nested deeper than anything that makes sense.
    #[error("byte {at}: nested deeper than {DEEPEST} levels")]
    TooDeep {
        /// Where it goes too deep.
        at: usize,
    },
    /// The request is empty or `null`.
    #[error("the request has no JSON value; send an array of events")]
    Nothing,
    /// An element of the array is `null`, or left out by a comma too many.
    #[error("event {index} of the array is null (or there is a comma too many)")]
    NullEvent {
        /// Index in the array.
        index: usize,
    },
}

impl JsonError {
    /// Whether Flume calls it bad syntax (400) or fails on it otherwise (500).
    pub fn is_syntax(&self) -> bool {
        match self {
            JsonError::Nothing | JsonError::NullEvent { .. } => false,
            JsonError::Expected { .. }
            | JsonError::BadEscape { .. }
            | JsonError::Unterminated { .. }
            | JsonError::DuplicateHeader { .. }
            | JsonError::TooDeep { .. } => true,
        }
    }
}

/// A string, number or word as text.
pub(super) enum Text {
    /// The word `null`.
    Null,
    /// As it stands in the text.
    Slice(Range<usize>),
    /// With escapes resolved.
    Owned(String),
}

/// What ends a word without quotes.
const fn ends_word(byte: u8) -> bool {
    matches!(
        byte,
        b'/' | b'\\'
            | b';'
            | b'#'
            | b'='
            | b'{'
            | b'}'
            | b'['
            | b']'
            | b':'
            | b','
            | b' '
            | b'\t'
            | 0x0c
            | b'\r'
            | b'\n'
    )
}

static ENDS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = ends_word(byte as u8);
        byte += 1;
    }
    table
};

/// A position in the text.
pub(super) struct Scanner<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
    scratch: String,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            scratch: String::new(),
        }
    }

    pub(super) fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    pub(super) fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        let found = match self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            Some(letter) if letter.is_control() => format!("`{}`", letter.escape_default()),
            Some(letter) => format!("`{letter}`"),
            None => "the end".to_owned(),
        };
        Err(JsonError::Expected {
            at: self.at,
            expected,
            found,
        })
    }

    /// Skips blanks and comments and returns the byte after them, not consumed.
    pub(super) fn next(&mut self) -> Result<Option<u8>, JsonError> {
        let bytes = self.bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(b'#') => self.skip_line(),
                Some(b'/') => match bytes.get(self.at + 1) {
                    Some(b'/') => self.skip_line(),
                    Some(b'*') => self.skip_comment()?,
                    _ => return Ok(Some(b'/')),
                },
                other => return Ok(other.copied()),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.bytes()[self.at..];
        self.at += memchr2(b'\n', b'\r', rest).map_or(rest.len(), |end| end + 1);
    }

    fn skip_comment(&mut self) -> Result<(), JsonError> {
        let inside = &self.bytes()[self.at + 2..];
        let Some(end) = memmem::find(inside, b"*/") else {
            return Err(JsonError::Unterminated {
                at: self.at,
                what: "comment",
            });
        };
        self.at += 2 + end + 2;
        Ok(())
    }

    /// Consumes the next byte, which must be `byte`.
    pub(super) fn open(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.next()? != Some(byte) {
            return self.expected(expected);
        }
        self.at += 1;
        Ok(())
    }

    /// The name of the next member of an object whose `{` was consumed, and the separator behind
    /// it; `None` at its end. `first` says that no member was read yet.
    pub(super) fn member(&mut self, first: bool) -> Result<Option<Cow<'t, str>>, JsonError> {
        let mut next = self.next()?;
        if next == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        if !first {
            if !matches!(next, Some(b',' | b';')) {
                return self.expected("`,` or `}`");
            }
            self.at += 1;
            next = self.next()?;
        }
        let name = match next {
            Some(quote @ (b'"' | b'\'')) => match self.quoted(quote)? {
                Text::Owned(name) => Cow::Owned(name),
                Text::Slice(range) => Cow::Borrowed(&self.text[range]),
                Text::Null => Cow::Borrowed(""),
            },
            _ => {
                let word = self.word("a name")?;
                Cow::Borrowed(&self.text[word])
            }
        };
        match self.next()? {
            Some(b':') => self.at += 1,
            Some(b'=') => {
                self.at += 1;
                if self.bytes().get(self.at) == Some(&b'>') {
                    self.at += 1;
                }
            }
            _ => return self.expected("`:`"),
        }
        Ok(Some(name))
    }

    /// Moves to the next element of an array whose `[` was consumed; false at its end. An
    /// element that is left out is there and reads as null.
    pub(super) fn element(&mut self, first: bool) -> Result<bool, JsonError> {
        let next = self.next()?;
        if next == Some(b']') {
            self.at += 1;
            return Ok(false);
        }
        if !first {
            if !matches!(next, Some(b',' | b';')) {
                return self.expected("`,` or `]`");
            }
            self.at += 1;
            self.next()?;
        }
        Ok(true)
    }

    /// Whether an array element is null: the word, or left out. Consumes it.
    pub(super) fn null_element(&mut self) -> Result<bool, JsonError> {
        match self.next()? {
            Some(b',' | b';' | b']') => Ok(true),
            _ => self.null(),
        }
    }

    /// Whether the next value is the word `null`, in any case. Consumes it.
    pub(super) fn null(&mut self) -> Result<bool, JsonError> {
        self.next()?;
        let rest = &self.bytes()[self.at..];
        let is_null = rest.len() >= 4
            && rest[..4].eq_ignore_ascii_case(b"null")
            && rest.get(4).is_none_or(|byte| ENDS_WORD[usize::from(*byte)]);
        if is_null {
            self.at += 4;
        }
        Ok(is_null)
    }

    /// A value as text: a string, a number, a word.
    pub(super) fn value(&mut self) -> Result<Text, JsonError> {
        match self.next()? {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote),
            _ => {
                let word = self.word("text")?;
                let bytes = &self.bytes()[word.clone()];
                Ok(match bytes.len() {
                    4 if bytes.eq_ignore_ascii_case(b"null") => Text::Null,
                    4 if bytes.eq_ignore_ascii_case(b"true") => Text::Owned("true".to_owned()),
                    5 if bytes.eq_ignore_ascii_case(b"false") => Text::Owned("false".to_owned()),
                    _ => Text::Slice(word),
                })
            }
        }
    }

    fn word(&mut self, expected: &'static str) -> Result<Range<usize>, JsonError> {
        let start = self.at;
        let rest = &self.bytes()[start..];
        let length = rest
            .iter()
            .position(|byte| ENDS_WORD[usize::from(*byte)])
            .unwrap_or(rest.len());
        if length == 0 {
            return self.expected(expected);
        }
        self.at += length;
        Ok(start..self.at)
    }

    /// A string whose opening quote is next.
    fn quoted(&mut self, quote: u8) -> Result<Text, JsonError> {
        let open = self.at;
        let start = open + 1;
        match memchr2(quote, b'\\', &self.bytes()[start..]) {
            Some(end) if self.bytes()[start + end] == quote => {
                self.at = start + end + 1;
                Ok(Text::Slice(start..start + end))
            }
            Some(end) => {
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                text.push_str(&self.text[start..start + end]);
                self.at = start + end;
                self.unescape(open, quote, &mut text)?;
                Ok(Text::Owned(text))
            }
            None => self.unterminated(open),
        }
    }

    fn unterminated<T>(&self, at: usize) -> Result<T, JsonError> {
        Err(JsonError::Unterminated { at, what: "string" })
    }

    /// Takes back a string, so that its memory serves for the next one.
    pub(super) fn recycle(&mut self, text: String) {
        self.scratch = text;
    }

    /// The rest of a string from a backslash on, with its closing quote.
    fn unescape(&mut self, open: usize, quote: u8, out: &mut String) -> Result<(), JsonError> {
        loop {
            match self.bytes().get(self.at) {
                None => return self.unterminated(open),
                Some(b'\\') => self.escape(open, out)?,
                Some(byte) if *byte == quote => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => {
                    let rest = &self.bytes()[self.at..];
                    let Some(length) = memchr2(quote, b'\\', rest) else {
                        return self.unterminated(open);
                    };
                    out.push_str(&self.text[self.at..self.at + length]);
                    self.at += length;
                }
            }
        }
    }

    fn escape(&mut self, open: usize, out: &mut String) -> Result<(), JsonError> {
        let at = self.at;
        let letter = match self.bytes().get(at + 1) {
            None => return self.unterminated(open),
            Some(b'u') => return self.unicode_escape(out),
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b'f') => '\u{c}',
            Some(own @ (b'\n' | b'\'' | b'"' | b'\\' | b'/')) => char::from(*own),
            Some(_) => return Err(JsonError::BadEscape { at }),
        };
        out.push(letter);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`; a surrogate without its partner becomes `?`, as Java writes it.
    fn unicode_escape(&mut self, out: &mut String) -> Result<(), JsonError> {
        let first = self
            .unicode_unit()
            .ok_or(JsonError::BadEscape { at: self.at })?;
        self.at += 6;
        let mut units = [first, 0];
        let mut count = 1;
        if (0xd800..0xdc00).contains(&first)
            && let Some(second @ 0xdc00..0xe000) = self.unicode_unit()
        {
            units[1] = second;
            count = 2;
            self.at += 6;
        }
        out.extend(
            char::decode_utf16(units[..count].iter().copied()).map(|letter| letter.unwrap_or('?')),
        );
        Ok(())
    }

    fn unicode_unit(&self) -> Option<u16> {
        let escape = self.bytes().get(self.at..self.at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0u16, |unit, digit| {
            let value = char::from(*digit).to_digit(16)?;
            Some(unit << 4 | value as u16)
        })
    }

    /// Passes over a value of any kind, checking its syntax.
    pub(super) fn skip(&mut self, depth: u32) -> Result<(), JsonError> {
        if depth > DEEPEST {
            return Err(JsonError::TooDeep { at: self.at });
        }
        match self.next()? {
            Some(b'{') => {
                self.at += 1;
                let mut first = true;
                while self.member(first)?.is_some() {
                    first = false;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    if !self.null_element()? {
                        self.skip(depth + 1)?;
                    }
                }
                Ok(())
            }
            Some(quote @ (b'"' | b'\'')) => self.skip_quoted(quote),
            _ => self.word("a value").map(drop),
        }
    }

    fn skip_quoted(&mut self, quote: u8) -> Result<(), JsonError> {
        let open = self.at;
        self.at += 1;
        loop {
            let Some(length) = memchr2(quote, b'\\', &self.bytes()[self.at..]) else {
                return self.unterminated(open);
            };
            self.at += length;
            if self.bytes()[self.at] == quote {
                self.at += 1;
                return Ok(());
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            let outcome = self.escape(open, &mut scratch);
            self.scratch = scratch;
            outcome?;
        }
    }

    /// What may stand before the value: a byte order mark, and the line that keeps browsers from
    /// running JSON as a script.
    pub(super) fn skip_prologue(&mut self) -> Result<(), JsonError> {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        self.next()?;
        if self.text[self.at..].starts_with(")]}'\n") {
            self.at += 5;
        }
        Ok(())
    }

    /// Checks that only blanks follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        let rest = &self.bytes()[self.at..];
        let blank = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        match rest.iter().position(|byte| !blank(byte)) {
            None => Ok(()),
            Some(length) => {
                self.at += length;
                self.expected("the end of the request after the array")
            }
        }
    }
}
