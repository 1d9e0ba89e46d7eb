//! `LINE`: one event a line of text, in any charset.
//!
//! Lines are found on the bytes (a newline is one unit of one, two or four bytes, and no charset
//! we know has that byte inside another character), so the position behind each line is exact.
//! Text that is UTF-8 on both sides is checked and shared, not copied; everything else is decoded
//! line by line.
//!
//! A line is cut after `maxLineLength` Java characters (UTF-16 units), as in Flume, where a line of
//! exactly that length is followed by an empty event: its newline comes after the cut. Other than
//! in Flume a cut never divides a character.

use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use flafka_flow::batch::BufferId;
use flafka_flow::settings;
use flafka_flow::settings::Count;
use flafka_flow::{BatchBuilder, Headers};

use super::{
    DecodeErrorPolicy, DeserializeError, EventDeserializer, MAX_BATCH_BYTES, Piece, first_bytes,
    read_on,
};
use crate::charset::{Charset, OnMalformed};

/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;
/// A line longer than this many bytes is cut here whatever `maxLineLength` says.
const MAX_LINE_BYTES: usize = 64 << 20;

settings! {
    /// Gives each line of a text file as an event, without its newline; a carriage return before it
    /// stays.
    pub struct LineDeserializerConfig {
        /// Characters of one event at most; the rest of a longer line becomes the next events. (No line
        /// is longer than 64 MiB.)
        "maxLineLength" => max_line_length: Count = Count(2048),
        /// Charset of the events' bodies.
        "outputCharset" => output_charset: Charset = Charset::UTF_8,
    }
}

/// How newlines look in the bytes.
#[derive(Clone, Copy)]
struct Layout {
    width: usize,
    big: bool,
}

impl Layout {
    /// Where the first newline is.
    fn newline(self, bytes: &[u8]) -> Option<usize> {
        if self.width == 1 {
            return memchr::memchr(b'\n', bytes);
        }
        let last = self.width - 1;
        let in_unit = if self.big { last } else { 0 };
        memchr::memchr_iter(b'\n', bytes).find_map(|at| {
            if at % self.width != in_unit {
                return None;
            }
            let start = at - in_unit;
            let unit = bytes.get(start..start + self.width)?;
            let zeros = unit.iter().filter(|byte| **byte == 0).count();
            (zeros == last).then_some(start)
        })
    }
}

pub(super) struct LineDeserializer {
    file: File,
    headers: Headers,
    charset: Charset,
    policy: DecodeErrorPolicy,
    output: Charset,
    limit: usize,
    layout: Layout,
    /// Whether the bytes are given on as they are when they are valid.
    shared: bool,
    buffer: Bytes,
    at: usize,
    /// Position of the buffer's first byte in the file.
    base: u64,
    at_end: bool,
}

/// What the front of the buffer gives.
enum Front {
    /// An event that is a part of the buffer, and the bytes that it uses up.
    Shared(Range<usize>, usize),
    /// An event that was decoded, and the bytes that it uses up.
    Decoded(String, usize),
    /// More bytes are needed.
    NeedMore,
}

impl LineDeserializer {
    pub(super) fn open(
        file: File,
        position: u64,
        headers: Headers,
        config: &LineDeserializerConfig,
        (charset, policy): (Charset, DecodeErrorPolicy),
    ) -> Result<Self, DeserializeError> {
        let mut first = [0; 4];
        let read = first_bytes(&file, &mut first)?;
        let (charset, layout, mark) = layout_of(charset, &first[..read]);
        Ok(Self {
            file,
            headers,
            charset,
            policy,
            output: config.output_charset,
            limit: config.max_line_length.0,
            layout,
            shared: charset == Charset::UTF_8 && config.output_charset == Charset::UTF_8,
            buffer: Bytes::new(),
            at: 0,
            base: position.max(mark),
            at_end: false,
        })
    }

    fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Reads on behind what is left in the buffer; false when nothing came.
    fn fill(&mut self) -> Result<bool, DeserializeError> {
        let rest = &self.buffer[self.at..];
        let mut buffer = Vec::with_capacity(rest.len() + CHUNK_BYTES.max(rest.len()));
        buffer.extend_from_slice(rest);
        let wanted = CHUNK_BYTES.max(rest.len());
        let base = self.position();
        let read = read_on(&self.file, &mut buffer, base + rest.len() as u64, wanted)?;
        self.at_end = read < wanted;
        self.base = base;
        self.at = 0;
        self.buffer = buffer.into();
        Ok(read > 0)
    }

    /// The event at the front of the buffer. Looks first at no more than a cut line needs, so that
    /// a text without newlines is not searched again and again.
    fn front(&self) -> Result<Front, DeserializeError> {
        let rest = &self.buffer[self.at..];
        let enough = self.limit.saturating_mul(4).saturating_add(16);
        if enough < rest.len() {
            let front = self.front_of(&rest[..enough], false)?;
            if !matches!(front, Front::NeedMore) {
                return Ok(front);
            }
        }
        self.front_of(rest, self.at_end)
    }

    /// The event at the front of `rest`; `last` says that the file ends behind it.
    fn front_of(&self, rest: &[u8], last: bool) -> Result<Front, DeserializeError> {
        let (length, ending, whole) = match self.layout.newline(rest) {
            Some(newline) => (newline, self.layout.width, true),
            None if rest.is_empty() => return Ok(Front::NeedMore),
            None => (rest.len(), 0, last),
        };
        let raw = &rest[..length];
        let forced = !whole && length >= MAX_LINE_BYTES;
        if self.shared
            && let Some(text) = valid_text(raw, whole)
        {
            return Ok(match cut_after(text, self.limit) {
                Some(cut) => Front::Shared(self.at..self.at + cut, cut),
                None if whole => Front::Shared(self.at..self.at + length, length + ending),
                None if forced => Front::Shared(self.at..self.at + text.len(), text.len()),
                None => Front::NeedMore,
            });
        }
        if !whole && !forced && length < self.limit {
            return Ok(Front::NeedMore);
        }
        self.decode(raw, whole, forced, length + ending)
    }

    fn decode(
        &self,
        raw: &[u8],
        whole: bool,
        forced: bool,
        used: usize,
    ) -> Result<Front, DeserializeError> {
        let mut text = String::with_capacity(raw.len());
        self.charset
            .decoder()
            .decode(raw, whole, self.on_malformed(), &mut text)
            .map_err(|_| self.malformed())?;
        if cut_after(&text, self.limit).is_some() {
            let (text, used) = self.decode_up_to(raw, whole)?;
            return Ok(Front::Decoded(text, used));
        }
        Ok(match whole || forced {
            true => Front::Decoded(text, used),
            false => Front::NeedMore,
        })
    }

    /// Decodes byte by byte up to the limit, to know which bytes it takes.
    fn decode_up_to(&self, raw: &[u8], whole: bool) -> Result<(String, usize), DeserializeError> {
        let mut decoder = self.charset.decoder();
        let mut text = String::new();
        let mut units = 0;
        let mut kept = (0, 0);
        for (index, byte) in raw.iter().enumerate() {
            let before = text.len();
            let last = whole && index + 1 == raw.len();
            decoder
                .decode(
                    std::slice::from_ref(byte),
                    last,
                    self.on_malformed(),
                    &mut text,
                )
                .map_err(|_| self.malformed())?;
            for letter in text[before..].chars() {
                units += letter.len_utf16();
            }
            if units > self.limit && kept.0 > 0 {
                break;
            }
            if text.len() > before {
                kept = (text.len(), index + 1);
            }
            if units >= self.limit {
                break;
            }
        }
        text.truncate(kept.0);
        Ok((text, kept.1))
    }

    fn on_malformed(&self) -> OnMalformed {
        match self.policy {
            DecodeErrorPolicy::Fail => OnMalformed::Report,
            DecodeErrorPolicy::Replace => OnMalformed::Replace,
            DecodeErrorPolicy::Ignore => OnMalformed::Ignore,
        }
    }

    fn malformed(&self) -> DeserializeError {
        DeserializeError::Malformed {
            position: self.position(),
            charset: self.charset.name(),
        }
    }
}

impl EventDeserializer for LineDeserializer {
    fn read(&mut self, limit: usize) -> Result<Option<Piece>, DeserializeError> {
        let mut builder = BatchBuilder::with_capacity(limit.min(4096));
        let headers = builder.headers(self.headers.clone());
        let mut shared: Option<BufferId> = None;
        let mut bytes = 0;
        while builder.len() < limit && bytes < MAX_BATCH_BYTES {
            let front = match self.front() {
                Err(_) if !builder.is_empty() => break,
                front => front?,
            };
            let used = match front {
                Front::NeedMore => {
                    shared = None;
                    if !self.fill()? && self.at == self.buffer.len() {
                        break;
                    }
                    continue;
                }
                Front::Shared(body, used) => {
                    bytes += body.len();
                    let buffer = *shared.get_or_insert_with(|| builder.buffer(self.buffer.clone()));
                    builder.push(headers, buffer, body);
                    used
                }
                Front::Decoded(text, used) => {
                    bytes += text.len();
                    builder.push_with(headers, |out| self.output.encode(&text, out));
                    used
                }
            };
            self.at += used;
        }
        Ok((!builder.is_empty()).then(|| Piece {
            batch: builder.finish(),
            position: self.position(),
            bytes,
        }))
    }
}

/// The charset to decode lines with, how its newlines look, and the bytes of a byte order mark.
fn layout_of(charset: Charset, first: &[u8]) -> (Charset, Layout, u64) {
    let layout = |width, big| Layout { width, big };
    let marked = |width: usize, big: &[u8], little: &[u8], names: [&str; 2]| {
        let is_little = first.starts_with(little);
        let mark = if is_little || first.starts_with(big) {
            width as u64
        } else {
            0
        };
        let name = names[usize::from(is_little)];
        let order = Charset::named(name).expect("the UTF families are always known");
        (order, layout(width, !is_little), mark)
    };
    match charset.name() {
        "UTF-16" => marked(2, &[0xfe, 0xff], &[0xff, 0xfe], ["UTF-16BE", "UTF-16LE"]),
        "UTF-32" => marked(
            4,
            &[0, 0, 0xfe, 0xff],
            &[0xff, 0xfe, 0, 0],
            ["UTF-32BE", "UTF-32LE"],
        ),
        "UTF-16BE" => (charset, layout(2, true), 0),
        "UTF-16LE" => (charset, layout(2, false), 0),
        "UTF-32BE" => (charset, layout(4, true), 0),
        "UTF-32LE" => (charset, layout(4, false), 0),
        _ => (charset, layout(1, true), 0),
    }
}

/// The bytes as text; when they are not all there (`whole` is false), without a begun character at
/// their end.
fn valid_text(raw: &[u8], whole: bool) -> Option<&str> {
    match std::str::from_utf8(raw) {
        Ok(text) => Some(text),
        Err(error) if !whole && error.error_len().is_none() => {
            std::str::from_utf8(&raw[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Where to cut a text that has at least `limit` UTF-16 units; at least one character before it.
fn cut_after(text: &str, limit: usize) -> Option<usize> {
    if text.len() < limit {
        return None;
    }
    let mut units = 0;
    for (at, letter) in text.char_indices() {
        units += letter.len_utf16();
        if units > limit && at > 0 {
            return Some(at);
        }
        if units >= limit {
            return Some(at + letter.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sheet {
        charset: &'static str,
        output: &'static str,
        policy: DecodeErrorPolicy,
        limit: usize,
    }

    const PLAIN: Sheet = Sheet {
        charset: "UTF-8",
        output: "UTF-8",
        policy: DecodeErrorPolicy::Fail,
        limit: 2048,
    };

    type Outcome = (Vec<Vec<u8>>, Vec<u64>, Option<String>);

    fn read_from(bytes: &[u8], sheet: &Sheet, position: u64, limit: usize) -> Outcome {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).expect("writes");
        let config = LineDeserializerConfig {
            max_line_length: Count(sheet.limit),
            output_charset: Charset::named(sheet.output).expect("known"),
        };
        let charset = Charset::named(sheet.charset).expect("known");
        let file = File::open(&path).expect("opens");
        let mut lines = LineDeserializer::open(
            file,
            position,
            Headers::new(),
            &config,
            (charset, sheet.policy),
        )
        .expect("opens");
        let (mut bodies, mut positions) = (Vec::new(), Vec::new());
        loop {
            match lines.read(limit) {
                Ok(Some(piece)) => {
                    bodies.extend(piece.batch.iter().map(|event| event.body.to_vec()));
                    positions.push(piece.position);
                }
                Ok(None) => return (bodies, positions, None),
                Err(error) => return (bodies, positions, Some(error.to_string())),
            }
        }
    }

    fn bodies(bytes: &[u8], sheet: &Sheet) -> Vec<String> {
        let (bodies, _, error) = read_from(bytes, sheet, 0, 10);
        assert_eq!(error, None);
        bodies
            .into_iter()
            .map(|body| String::from_utf8(body).expect("text"))
            .collect()
    }

    #[test]
    fn lines_keep_their_return_and_know_their_positions() {
        let text = "one\r\n\nzwölf\nlast".as_bytes();
        let (found, positions, error) = read_from(text, &PLAIN, 0, 1);
        assert_eq!(found, [&b"one\r"[..], b"", "zwölf".as_bytes(), b"last"]);
        assert_eq!((positions, error), (vec![5, 6, 13, 17], None));
        let (found, _, _) = read_from(text, &PLAIN, 6, 10);
        assert_eq!(found[0], "zwölf".as_bytes());
        assert!(bodies(b"", &PLAIN).is_empty());
    }

    #[test]
    fn long_lines_are_cut_as_in_flume() {
        let sheet = Sheet { limit: 16, ..PLAIN };
        let text = "short\nexactly 16 chars\nthis line is longer than sixteen characters\nend\n";
        let expected = [
            "short",
            "exactly 16 chars",
            "",
            "this line is lon",
            "ger than sixteen",
            " characters",
            "end",
        ];
        assert_eq!(bodies(text.as_bytes(), &sheet), expected);
        assert_eq!(bodies(b"exactly 16 chars", &sheet), ["exactly 16 chars"]);
        for charset in ["ISO-8859-1", "windows-1252"] {
            let sheet = Sheet {
                charset,
                limit: 16,
                ..PLAIN
            };
            assert_eq!(bodies(text.as_bytes(), &sheet), expected, "{charset}");
        }
    }

    #[test]
    fn a_cut_counts_java_characters_and_divides_none() {
        let sheet = Sheet { limit: 3, ..PLAIN };
        assert_eq!(bodies("äöüß\n".as_bytes(), &sheet), ["äöü", "ß"]);
        assert_eq!(bodies("ab😀c\n".as_bytes(), &sheet), ["ab", "😀c", ""]);
        let tiny = Sheet { limit: 1, ..PLAIN };
        assert_eq!(bodies("😀".as_bytes(), &tiny), ["😀"]);
    }

    #[test]
    fn a_text_without_newlines_is_cut_in_bounded_memory() {
        let sheet = Sheet {
            limit: 1000,
            ..PLAIN
        };
        let text = "ä".repeat(400_500);
        let (found, positions, _) = read_from(text.as_bytes(), &sheet, 0, 7);
        assert_eq!(found.len(), 401);
        assert_eq!(found.concat(), text.as_bytes());
        assert_eq!((positions[0], positions[1]), (14_000, 28_000));
    }

    #[test]
    fn bytes_that_are_no_text_follow_the_policy() {
        let bytes = b"good\nb\xffad\nmore\n";
        let with = |policy| Sheet { policy, ..PLAIN };
        let (found, positions, error) = read_from(bytes, &with(DecodeErrorPolicy::Fail), 0, 10);
        assert_eq!((found.len(), positions), (1, vec![5]));
        assert!(error.expect("an error").contains("byte 5"));
        assert_eq!(
            bodies(bytes, &with(DecodeErrorPolicy::Replace)),
            ["good", "b\u{fffd}ad", "more"]
        );
        assert_eq!(
            bodies(bytes, &with(DecodeErrorPolicy::Ignore)),
            ["good", "bad", "more"]
        );
    }

    #[test]
    fn other_charsets_are_decoded_and_written() {
        let latin = Sheet {
            charset: "ISO-8859-1",
            ..PLAIN
        };
        assert_eq!(bodies(b"gr\xfc\xdfe\n", &latin), ["grüße"]);
        let text = "grüße\n\u{20ac}10😀\n\nletzte";
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let lines: Vec<_> = text.split('\n').collect();
        for (charset, mark, bytes) in [
            ("UTF-16BE", &[][..], &big),
            ("UTF-16LE", &[], &little),
            ("UTF-16", &[0xff, 0xfe], &little),
            ("UTF-16", &[0xfe, 0xff], &big),
            ("UTF-16", &[], &big),
        ] {
            let sheet = Sheet { charset, ..PLAIN };
            let bytes = [mark, bytes].concat();
            assert_eq!(bodies(&bytes, &sheet), lines, "{charset} {mark:?}");
            let (_, positions, _) = read_from(&bytes, &sheet, 0, 1);
            let resumed = read_from(&bytes, &sheet, positions[1], 10).0;
            assert_eq!(resumed.len(), 2, "resumed in the middle, {charset}");
        }
        let latin_out = Sheet {
            output: "ISO-8859-1",
            ..PLAIN
        };
        let (found, _, _) = read_from("ü€\n".as_bytes(), &latin_out, 0, 10);
        assert_eq!(found, [b"\xfc?"]);
    }
}
