//! Charsets under their Java names, as a streaming decoder to UTF-8 and an encoder from it.
//!
//! Flume hands charset names to Java, so the same names have to work here, with the same rules:
//! `UTF-16` and `UTF-32` take a byte order mark or are big-endian, `UTF-16` is written big-endian
//! with a mark, what a charset cannot say becomes `?`. UTF-8, ASCII, Latin-1 and the UTF-16 and
//! UTF-32 families are decoded here; the legacy ones (GBK, Shift_JIS, windows-125x, …) by
//! `encoding_rs`, which follows the WHATWG tables.
//!
//! Invariant: a decoder gives the same text however its input is cut into pieces.

use bytes::{BufMut, BytesMut};
use encoding_rs::{DecoderResult, EncoderResult, Encoding};
use flafka_flow::settings::{BadValue, Setting};
use thiserror::Error;

/// Byte order of the UTF-16 and UTF-32 families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// A mark decides when reading, big-endian without one.
    Marked,
    Big,
    Little,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Utf8,
    Ascii,
    Latin1,
    Utf16(Order),
    Utf32(Order),
    Legacy(&'static Encoding),
}

/// A charset; `parse` takes Java's names and aliases in any case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Charset(Kind);

/// The charsets decoded here: the name to show, then other names.
const OWN: &[(Kind, &[&str])] = &[
    (Kind::Utf8, &["UTF-8", "UTF8", "unicode-1-1-utf-8"]),
    (
        Kind::Ascii,
        &[
            "US-ASCII",
            "ASCII",
            "ASCII7",
            "ISO646-US",
            "cp367",
            "ANSI_X3.4-1968",
        ],
    ),
    (
        Kind::Latin1,
        &[
            "ISO-8859-1",
            "ISO8859_1",
            "ISO8859-1",
            "ISO_8859-1",
            "ISO_8859_1",
            "latin1",
            "l1",
            "cp819",
            "IBM819",
        ],
    ),
    (
        Kind::Utf16(Order::Marked),
        &["UTF-16", "UTF_16", "UTF16", "unicode"],
    ),
    (
        Kind::Utf16(Order::Big),
        &["UTF-16BE", "UTF_16BE", "UnicodeBigUnmarked"],
    ),
    (
        Kind::Utf16(Order::Little),
        &["UTF-16LE", "UTF_16LE", "UnicodeLittleUnmarked"],
    ),
    (Kind::Utf32(Order::Marked), &["UTF-32", "UTF_32", "UTF32"]),
    (Kind::Utf32(Order::Big), &["UTF-32BE", "UTF_32BE"]),
    (Kind::Utf32(Order::Little), &["UTF-32LE", "UTF_32LE"]),
];

impl Charset {
    /// UTF-8.
    pub const UTF_8: Charset = Charset(Kind::Utf8);
    /// UTF-16, marked.
    pub const UTF_16: Charset = Charset(Kind::Utf16(Order::Marked));
    /// UTF-32, marked.
    pub const UTF_32: Charset = Charset(Kind::Utf32(Order::Marked));

    /// The charset called `name` by Java.
    pub fn named(name: &str) -> Option<Self> {
        let own = OWN
            .iter()
            .find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        match own {
            Some((kind, _)) => Some(Self(*kind)),
            None => Encoding::for_label_no_replacement(name.as_bytes())
                .map(|found| Self(Kind::Legacy(found))),
        }
    }

    /// The name to show.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Legacy(encoding) => encoding.name(),
            own => OWN
                .iter()
                .find(|(kind, _)| *kind == own)
                .map_or("UTF-8", |(_, names)| names[0]),
        }
    }

    /// A decoder at the start of a text.
    pub fn decoder(self) -> Decoder {
        let state = match self.0 {
            Kind::Legacy(encoding) => {
                State::Legacy(Box::new(encoding.new_decoder_without_bom_handling()))
            }
            own => State::Own(own),
        };
        Decoder {
            charset: self,
            state,
            tail: Vec::new(),
            at_start: true,
        }
    }

    /// Appends `text` as Java's `String.getBytes` writes it: with the mark that `UTF-16` has,
    /// `?` for what the charset cannot say.
    pub fn encode(self, text: &str, out: &mut BytesMut) {
        if !text.is_empty() {
            self.encode_mark(out);
            self.encode_continued(text, out);
        }
    }

    /// Appends the byte order mark, if this charset is written with one.
    pub fn encode_mark(self, out: &mut BytesMut) {
        if self.0 == Kind::Utf16(Order::Marked) {
            out.put_u16(0xfeff);
        }
    }

    /// Appends `text` without a mark: the way a stream goes on.
    pub fn encode_continued(self, text: &str, out: &mut BytesMut) {
        let narrow = |out: &mut BytesMut, limit: u32| {
            out.extend(text.chars().map(|letter| match u32::from(letter) {
                code if code < limit => code as u8,
                _ => b'?',
            }));
        };
        match self.0 {
            Kind::Utf8 => out.put_slice(text.as_bytes()),
            Kind::Ascii => narrow(out, 0x80),
            Kind::Latin1 => narrow(out, 0x100),
            Kind::Utf16(Order::Little) => text.encode_utf16().for_each(|unit| out.put_u16_le(unit)),
            Kind::Utf16(_) => text.encode_utf16().for_each(|unit| out.put_u16(unit)),
            Kind::Utf32(Order::Little) => text
                .chars()
                .for_each(|letter| out.put_u32_le(letter.into())),
            Kind::Utf32(_) => text.chars().for_each(|letter| out.put_u32(letter.into())),
            Kind::Legacy(encoding) => encode_legacy(encoding, text, out),
        }
    }
}

impl Setting for Charset {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Self::named(text).ok_or_else(|| {
            BadValue::new(
                "not a known charset",
                "UTF-8, US-ASCII, ISO-8859-1, UTF-16[BE|LE], UTF-32[BE|LE], or a charset of the web such as windows-1252, GBK, Shift_JIS",
            )
        })
    }

    fn kind() -> String {
        "charset name".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.name().to_owned())
    }
}

fn encode_legacy(encoding: &'static Encoding, text: &str, out: &mut BytesMut) {
    let mut encoder = encoding.new_encoder();
    let mut rest = text;
    let mut piece = [0u8; 1024];
    loop {
        let (result, read, written) =
            encoder.encode_from_utf8_without_replacement(rest, &mut piece, true);
        out.put_slice(&piece[..written]);
        rest = &rest[read..];
        match result {
            EncoderResult::InputEmpty => return,
            EncoderResult::OutputFull => {}
            EncoderResult::Unmappable(_) => out.put_u8(b'?'),
        }
    }
}

/// The bytes are not text of the charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the input is not valid {charset}")]
pub struct MalformedInput {
    /// The charset's name.
    pub charset: &'static str,
}

/// What a decoder does with bytes that are not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMalformed {
    /// Puts U+FFFD in their place.
    Replace,
    /// Leaves them out.
    Ignore,
    /// Stops with an error; what came before has been decoded.
    Report,
}

enum State {
    Own(Kind),
    Legacy(Box<encoding_rs::Decoder>),
}

/// Decodes a stream piece by piece.
pub struct Decoder {
    charset: Charset,
    state: State,
    /// The begun character at the end of the last piece; at most three bytes.
    tail: Vec<u8>,
    at_start: bool,
}

impl Decoder {
    /// Appends the text of `input`; `last` says that nothing follows, so that a begun character
    /// is malformed.
    ///
    /// # Errors
    /// With [`OnMalformed::Report`], when bytes are not text. The decoder is of no use then.
    pub fn decode(
        &mut self,
        input: &[u8],
        last: bool,
        on_malformed: OnMalformed,
        out: &mut String,
    ) -> Result<(), MalformedInput> {
        let outcome = match &mut self.state {
            State::Legacy(decoder) => decode_legacy(decoder, input, last, on_malformed, out),
            State::Own(kind) => {
                let joined;
                let input = if self.tail.is_empty() {
                    input
                } else {
                    self.tail.extend_from_slice(input);
                    joined = std::mem::take(&mut self.tail);
                    &joined
                };
                decode_own(kind, &mut self.at_start, input, last, on_malformed, out).map(|rest| {
                    self.tail.clear();
                    self.tail.extend_from_slice(rest);
                })
            }
        };
        outcome.map_err(|_| MalformedInput {
            charset: self.charset.name(),
        })
    }
}

/// Bad bytes were met and are to be reported.
struct Stop;

fn replace(on_malformed: OnMalformed, out: &mut String) -> Result<(), Stop> {
    match on_malformed {
        OnMalformed::Report => Err(Stop),
        OnMalformed::Ignore => Ok(()),
        OnMalformed::Replace => {
            out.push('\u{fffd}');
            Ok(())
        }
    }
}

fn decode_legacy(
    decoder: &mut encoding_rs::Decoder,
    mut input: &[u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<(), Stop> {
    loop {
        let room = decoder.max_utf8_buffer_length_without_replacement(input.len());
        out.reserve(room.unwrap_or(input.len().saturating_mul(3)).max(16));
        let (result, read) = decoder.decode_to_string_without_replacement(input, out, last);
        input = &input[read..];
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => replace(on_malformed, out)?,
        }
    }
}

/// Decodes what is whole and returns the begun character at the end.
fn decode_own<'i>(
    kind: &mut Kind,
    at_start: &mut bool,
    input: &'i [u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<&'i [u8], Stop> {
    match kind {
        Kind::Utf8 | Kind::Legacy(_) => decode_utf8(input, last, on_malformed, out),
        Kind::Latin1 => {
            out.extend(input.iter().map(|byte| char::from(*byte)));
            Ok(&[])
        }
        Kind::Ascii => {
            for byte in input {
                match byte.is_ascii() {
                    true => out.push(char::from(*byte)),
                    false => replace(on_malformed, out)?,
                }
            }
            Ok(&[])
        }
        Kind::Utf16(order) => {
            let input = after_mark::<2>(order, at_start, input);
            decode_utf16(*order, input, last, on_malformed, out)
        }
        Kind::Utf32(order) => {
            let input = after_mark::<4>(order, at_start, input);
            decode_utf32(*order, input, last, on_malformed, out)
        }
    }
}

fn decode_utf8<'i>(
    mut input: &'i [u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<&'i [u8], Stop> {
    loop {
        let error = match std::str::from_utf8(input) {
            Ok(text) => {
                out.push_str(text);
                return Ok(&[]);
            }
            Err(error) => error,
        };
        let (whole, rest) = input.split_at(error.valid_up_to());
        out.push_str(std::str::from_utf8(whole).expect("valid up to here, says the error"));
        match error.error_len() {
            None if !last => return Ok(rest),
            None => {
                replace(on_malformed, out)?;
                return Ok(&[]);
            }
            Some(length) => {
                replace(on_malformed, out)?;
                input = &rest[length..];
            }
        }
    }
}

/// Settles the byte order of a marked charset once the first unit of `WIDTH` bytes is there.
fn after_mark<'i, const WIDTH: usize>(
    order: &mut Order,
    at_start: &mut bool,
    input: &'i [u8],
) -> &'i [u8] {
    if !*at_start || input.len() < WIDTH {
        return input;
    }
    *at_start = false;
    if *order != Order::Marked {
        return input;
    }
    let big: &[u8] = if WIDTH == 2 {
        &[0xfe, 0xff]
    } else {
        &[0, 0, 0xfe, 0xff]
    };
    let little: &[u8] = if WIDTH == 2 {
        &[0xff, 0xfe]
    } else {
        &[0xff, 0xfe, 0, 0]
    };
    *order = if input.starts_with(little) {
        Order::Little
    } else {
        Order::Big
    };
    match input.starts_with(big) || input.starts_with(little) {
        true => &input[WIDTH..],
        false => input,
    }
}

fn decode_utf16<'i>(
    order: Order,
    mut input: &'i [u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<&'i [u8], Stop> {
    let unit = |bytes: &[u8]| match order {
        Order::Little => u16::from_le_bytes([bytes[0], bytes[1]]),
        _ => u16::from_be_bytes([bytes[0], bytes[1]]),
    };
    while input.len() >= 2 {
        let first = unit(input);
        let second = (input.len() >= 4).then(|| unit(&input[2..]));
        if (0xd800..0xdc00).contains(&first) && second.is_none() && !last {
            return Ok(input);
        }
        let units = [first, second.unwrap_or(0)];
        let used = if (0xd800..0xdc00).contains(&first) {
            &units[..]
        } else {
            &units[..1]
        };
        match char::decode_utf16(used.iter().copied()).next() {
            Some(Ok(letter)) => {
                out.push(letter);
                input = &input[letter.len_utf16() * 2..];
            }
            _ => {
                replace(on_malformed, out)?;
                input = &input[2..];
            }
        }
    }
    cut_at_end(input, last, on_malformed, out)
}

fn decode_utf32<'i>(
    order: Order,
    input: &'i [u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<&'i [u8], Stop> {
    let (units, rest) = input.split_at(input.len() / 4 * 4);
    for unit in units.chunks_exact(4) {
        let bytes = [unit[0], unit[1], unit[2], unit[3]];
        let code = match order {
            Order::Little => u32::from_le_bytes(bytes),
            _ => u32::from_be_bytes(bytes),
        };
        match char::from_u32(code) {
            Some(letter) => out.push(letter),
            None => replace(on_malformed, out)?,
        }
    }
    cut_at_end(rest, last, on_malformed, out)
}

fn cut_at_end<'i>(
    rest: &'i [u8],
    last: bool,
    on_malformed: OnMalformed,
    out: &mut String,
) -> Result<&'i [u8], Stop> {
    if last && !rest.is_empty() {
        replace(on_malformed, out)?;
        return Ok(&[]);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "line é 漢字 \u{1f600} end";

    fn bytes_of(charset: Charset, text: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        charset.encode(text, &mut out);
        out.to_vec()
    }

    fn decode_in_pieces(
        charset: Charset,
        input: &[u8],
        piece: usize,
        rule: OnMalformed,
    ) -> Result<String, MalformedInput> {
        let mut decoder = charset.decoder();
        let mut out = String::new();
        for part in input.chunks(piece) {
            decoder.decode(part, false, rule, &mut out)?;
        }
        decoder.decode(&[], true, rule, &mut out).map(|()| out)
    }

    #[test]
    fn every_unicode_charset_gives_the_text_back_however_it_is_cut() {
        for name in [
            "utf-8", "UTF-16", "utf-16be", "UTF-16LE", "utf-32", "UTF-32LE", "gb18030",
        ] {
            let charset = Charset::named(name).expect("known");
            let encoded = bytes_of(charset, TEXT);
            for piece in 1..9 {
                let decoded = decode_in_pieces(charset, &encoded, piece, OnMalformed::Report);
                assert_eq!(decoded.as_deref(), Ok(TEXT), "{name} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn marks_and_unmappable_letters_are_as_in_java() {
        assert_eq!(bytes_of(Charset::UTF_16, "a"), [0xfe, 0xff, 0, b'a']);
        assert_eq!(bytes_of(Charset::UTF_16, ""), [0u8; 0]);
        assert_eq!(bytes_of(Charset::UTF_32, "a"), [0, 0, 0, b'a']);
        let latin = Charset::named("latin1").expect("known");
        assert_eq!(bytes_of(latin, "é漢"), [0xe9, b'?']);
        let shift = Charset::named("Shift_JIS").expect("known");
        assert_eq!(bytes_of(shift, "漢\u{1f600}."), [0x8a, 0xbf, b'?', b'.']);
        let little = decode_in_pieces(
            Charset::UTF_16,
            &[0xff, 0xfe, b'a', 0],
            1,
            OnMalformed::Report,
        );
        assert_eq!(little.as_deref(), Ok("a"));
        assert!(Charset::named("EBCDIC-9").is_none());
        assert_eq!(Charset::named("gbk").map(Charset::name), Some("GBK"));
    }

    #[test]
    fn malformed_bytes_are_replaced_or_reported() {
        for (name, input, expected) in [
            (
                "utf-8",
                &b"a\xff\xe2\x82b\xf0\x9f"[..],
                "a\u{fffd}\u{fffd}b\u{fffd}",
            ),
            ("us-ascii", b"a\xe9b", "a\u{fffd}b"),
            ("utf-16be", b"\xd8\x00\0a\0", "\u{fffd}a\u{fffd}"),
            ("utf-32be", b"\0\x11\0\0\0\0\0a\0", "\u{fffd}a\u{fffd}"),
        ] {
            let charset = Charset::named(name).expect("known");
            for piece in 1..6 {
                let decoded = decode_in_pieces(charset, input, piece, OnMalformed::Replace);
                assert_eq!(
                    decoded.as_deref(),
                    Ok(expected),
                    "{name} in pieces of {piece}"
                );
            }
            let reported = decode_in_pieces(charset, input, 3, OnMalformed::Report);
            assert!(reported.is_err(), "{name}");
        }
    }
}
