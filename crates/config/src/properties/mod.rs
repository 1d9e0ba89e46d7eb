//! The grammar of `java.util.Properties`, as Flume reads its files.
//!
//! Flume hands its file to `Properties.load(InputStream)`, so what counts is that method's
//! reading of bytes: ISO-8859-1, two comment signs, three separators, escapes, continued lines
//! (reference 1.1). The reading is followed state by state, oddities included: a lone backslash
//! line followed by `#` gives a comment, a continued blank line ends the value. Keys and values
//! are trimmed afterwards as Flume does (everything up to U+0020 at both ends).
//!
//! Invariant: never panics, whatever the bytes, and every range lies within them. What Java
//! refuses as a whole (a malformed `\u`) is a [`Mistake`] here, so that all of them are found.

use std::ops::Range;

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key, unescaped and trimmed.
    pub key: String,
    /// The value, unescaped and trimmed; may be empty.
    pub value: String,
    /// Where the key stands in the bytes, escapes and all.
    pub key_range: Range<usize>,
    /// Where the value stands in the bytes; spans lines when it is continued.
    pub value_range: Range<usize>,
    /// Line of the key, from 1.
    pub line: u32,
    /// Line on which the value begins, from 1.
    pub value_line: u32,
}

/// What is wrong with an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `\u` without four hexadecimal digits. Java refuses the whole file.
    MalformedEscape,
    /// Half of a surrogate pair, which stands for no character.
    LoneSurrogate,
}

/// A pair that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub fault: Fault,
    /// The key as far as it can be read.
    pub key: String,
    /// Where the faulty part (key or value) stands.
    pub range: Range<usize>,
    /// Where the value stands, which may be a secret.
    pub value_range: Range<usize>,
    /// Line of the faulty part, from 1.
    pub line: u32,
}

/// What a file holds, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The pairs, also those with a repeated key.
    pub pairs: Vec<Pair>,
    /// What could not be read.
    pub mistakes: Vec<Mistake>,
}

/// Reads the bytes of a properties file.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let lines = line_starts(bytes);
    let mut reader = LineReader {
        bytes,
        position: 0,
        line: LogicalLine::default(),
    };
    while reader.next_line() {
        parse_line(&reader.line, &lines, &mut parsed);
    }
    parsed
}

/// Removes what Java's `String.trim` removes: everything up to U+0020 at both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// A line after joining, with the position of each of its bytes.
#[derive(Default)]
struct LogicalLine {
    bytes: Vec<u8>,
    positions: Vec<usize>,
}

impl LogicalLine {
    fn clear(&mut self) {
        self.bytes.clear();
        self.positions.clear();
    }

    fn pop(&mut self) {
        self.bytes.pop();
        self.positions.pop();
    }

    /// The range in the file of a range of this line, blanks at its ends left out.
    fn range_in_file(&self, range: Range<usize>) -> Range<usize> {
        let part = &self.bytes[range.clone()];
        let blank = |byte: &u8| *byte <= b' ';
        let Some(first) = part.iter().position(|byte| !blank(byte)) else {
            let end = match range.start.checked_sub(1) {
                Some(before) => self.positions[before] + 1,
                None => self.positions.first().copied().unwrap_or(0),
            };
            return end..end;
        };
        let last = part.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
        self.positions[range.start + first]..self.positions[range.start + last] + 1
    }
}

/// Joins physical lines to logical ones, as `Properties.LineReader` does.
struct LineReader<'a> {
    bytes: &'a [u8],
    position: usize,
    line: LogicalLine,
}

impl LineReader<'_> {
    /// Reads the next logical line; false at the end of the file.
    fn next_line(&mut self) -> bool {
        self.line.clear();
        let mut skip_blanks = true;
        let mut continued = false;
        let mut backslash = false;
        loop {
            let Some(&byte) = self.bytes.get(self.position) else {
                if backslash {
                    self.line.pop();
                    return true;
                }
                return !self.line.bytes.is_empty();
            };
            self.position += 1;
            let newline = byte == b'\n' || byte == b'\r';
            if skip_blanks {
                if is_blank(byte) || (!continued && newline) {
                    continue;
                }
                skip_blanks = false;
                continued = false;
            }
            if self.line.bytes.is_empty() && (byte == b'#' || byte == b'!') {
                self.skip_comment();
                skip_blanks = true;
                continue;
            }
            if !newline {
                self.line.bytes.push(byte);
                self.line.positions.push(self.position - 1);
                backslash = byte == b'\\' && !backslash;
            } else if self.line.bytes.is_empty() {
                skip_blanks = true;
            } else if backslash {
                self.line.pop();
                if self.position == self.bytes.len() {
                    return true;
                }
                (skip_blanks, continued, backslash) = (true, true, false);
                if byte == b'\r' && self.bytes.get(self.position) == Some(&b'\n') {
                    self.position += 1;
                }
            } else {
                return true;
            }
        }
    }

    fn skip_comment(&mut self) {
        let rest = &self.bytes[self.position..];
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        self.position = end.map_or(self.bytes.len(), |end| self.position + end + 1);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

/// Splits a logical line into key and value and unescapes both.
fn parse_line(line: &LogicalLine, lines: &[usize], parsed: &mut Parsed) {
    let (key_end, value_start) = split(&line.bytes);
    let key_range = line.range_in_file(0..key_end);
    let value_range = line.range_in_file(value_start..line.bytes.len());
    let key = unescape(&line.bytes[..key_end]);
    let value = unescape(&line.bytes[value_start..]);
    let mut mistake = |fault, range: &Range<usize>| {
        parsed.mistakes.push(Mistake {
            fault,
            key: match &key {
                Ok(key) => trim(key).to_owned(),
                Err(_) => latin1(&line.bytes[..key_end]),
            },
            range: range.clone(),
            value_range: value_range.clone(),
            line: line_of(lines, range.start),
        });
    };
    if let Err(fault) = key {
        mistake(fault, &key_range);
    }
    if let Err(fault) = value {
        mistake(fault, &value_range);
    }
    let (Ok(key), Ok(value)) = (key, value) else {
        return;
    };
    parsed.pairs.push(Pair {
        key: trim(&key).to_owned(),
        value: trim(&value).to_owned(),
        line: line_of(lines, key_range.start),
        value_line: line_of(lines, value_range.start),
        key_range,
        value_range,
    });
}

/// Where the key ends and where the value starts.
fn split(line: &[u8]) -> (usize, usize) {
    let mut backslash = false;
    let mut key_end = line.len();
    let mut value_start = line.len();
    let mut separated = false;
    for (index, &byte) in line.iter().enumerate() {
        let separator = matches!(byte, b'=' | b':');
        if !backslash && (separator || is_blank(byte)) {
            (key_end, value_start, separated) = (index, index + 1, separator);
            break;
        }
        backslash = byte == b'\\' && !backslash;
    }
    while let Some(&byte) = line.get(value_start) {
        if !is_blank(byte) {
            if separated || !matches!(byte, b'=' | b':') {
                break;
            }
            separated = true;
        }
        value_start += 1;
    }
    (key_end, value_start)
}

/// Decodes ISO-8859-1 and escapes, in UTF-16 units as Java does.
fn unescape(raw: &[u8]) -> Result<String, Fault> {
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        match rest.next() {
            Some(b'u') => {
                let digits = rest.as_slice().get(..4).ok_or(Fault::MalformedEscape)?;
                rest = rest.as_slice()[4..].iter();
                units.push(hexadecimal(digits).ok_or(Fault::MalformedEscape)?);
            }
            Some(b't') => units.push(u16::from(b'\t')),
            Some(b'n') => units.push(u16::from(b'\n')),
            Some(b'r') => units.push(u16::from(b'\r')),
            Some(b'f') => units.push(0x0c),
            Some(&other) => units.push(u16::from(other)),
            None => {}
        }
    }
    String::from_utf16(&units).map_err(|_| Fault::LoneSurrogate)
}

fn hexadecimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | digit as u16)
    })
}

/// Decodes ISO-8859-1.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Where each line starts; `\r`, `\n` and `\r\n` end lines.
pub(crate) fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    for (index, &byte) in bytes.iter().enumerate() {
        let ends = byte == b'\n' || (byte == b'\r' && bytes.get(index + 1) != Some(&b'\n'));
        if ends {
            starts.push(index + 1);
        }
    }
    starts
}

/// The line, from 1, of a position.
pub(crate) fn line_of(starts: &[usize], position: usize) -> u32 {
    let line = starts.partition_point(|start| *start <= position);
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
