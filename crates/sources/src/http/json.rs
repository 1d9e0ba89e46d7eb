//! The JSON of the HTTP source: an array of `{"headers": {…}, "body": "…"}` becomes a batch
//! (Flume reference 3.12, JSONHandler).
//!
//! A UTF-8 request is kept as one buffer: bodies without escapes are slices of it, and a set of
//! headers that is written with the same bytes as one before it is not parsed again. The
//! request's charset is also that of the bodies, so UTF-16 bodies leave as UTF-16.
//!
//! Differences from Flume, on purpose: a bad `\u` escape is bad syntax (400; Flume: 500), a
//! header whose value is `null` is left out (Flume keeps a Java null that later components fail
//! on), and text without a charset is UTF-8 whatever its content type (Flume reads anything but
//! `application/json` as ISO-8859-1 and so spoils it).

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use flafka_flow::batch::{BufferId, HeaderSetId};
use flafka_flow::{Batch, BatchBuilder, Headers, HeadersBuilder};

pub use super::scan::{DEEPEST, JsonError};
use super::scan::{Scanner, Text};
use crate::charset::{Charset, OnMalformed};

/// Header sets of which the text is remembered.
const REMEMBERED_SETS: usize = 4;
/// Names up to which a second one is looked for one by one.
const FEW_NAMES: usize = 16;
/// Room for the sets of headers of a request, which share it; grows when they need more.
const HEADERS_ROOM: usize = 4 << 10;
/// Bodies that fill less than this part of the request are copied out of it, so that they do not
/// keep it alive.
const LARGEST_SHARE: u64 = 4;

/// Parses a request in `charset`. Bytes that are not text become U+FFFD.
///
/// # Errors
/// When it is not an array of events; [`JsonError::is_syntax`] tells 400 from 500.
pub fn parse(request: &Bytes, charset: Charset) -> Result<Batch, JsonError> {
    if charset == Charset::UTF_8 && std::str::from_utf8(request).is_ok() {
        return parse_text(request.clone(), charset);
    }
    let mut text = String::with_capacity(request.len());
    let replaced = charset
        .decoder()
        .decode(request, true, OnMalformed::Replace, &mut text);
    replaced.expect("bad bytes are replaced, not reported");
    parse_text(Bytes::from(text), charset)
}

fn parse_text(text: Bytes, charset: Charset) -> Result<Batch, JsonError> {
    let scanned = text.clone();
    let scanned = std::str::from_utf8(&scanned).expect("checked or decoded by the caller");
    let mut builder = BatchBuilder::new();
    let whole = builder.buffer(text.clone());
    let parser = Parser {
        scanner: Scanner::new(scanned),
        builder,
        whole,
        charset,
        no_headers: None,
        remembered: Vec::with_capacity(REMEMBERED_SETS),
        headers: HeadersBuilder::with_capacity(HEADERS_ROOM.min(text.len())),
        count: 0,
        names: HashSet::new(),
    };
    let batch = parser.events()?;
    let bodies = batch.body_bytes();
    if bodies > 0 && bodies * LARGEST_SHARE < text.len() as u64 {
        return Ok(copied(&batch));
    }
    Ok(batch)
}

/// The same events in a buffer of their own.
fn copied(batch: &Batch) -> Batch {
    let mut builder = BatchBuilder::with_capacity(batch.len());
    for event in batch.iter() {
        let headers = builder.headers(event.headers.clone());
        builder.push_copy(headers, event.body);
    }
    builder.finish()
}

struct Parser<'t> {
    scanner: Scanner<'t>,
    builder: BatchBuilder,
    whole: BufferId,
    charset: Charset,
    no_headers: Option<HeaderSetId>,
    /// Where a set of headers stands in the text, and the set.
    remembered: Vec<(Range<usize>, HeaderSetId)>,
    /// The set that is being read, and how many headers it has.
    headers: HeadersBuilder,
    count: usize,
    /// Names of a set with many.
    names: HashSet<String>,
}

impl Parser<'_> {
    fn events(mut self) -> Result<Batch, JsonError> {
        self.scanner.skip_prologue()?;
        if self.scanner.next()?.is_none() || self.scanner.null()? {
            return Err(JsonError::Nothing);
        }
        self.scanner.open(b'[', "an array of events")?;
        let mut null_event = None;
        let mut count = 0;
        while self.scanner.element(count == 0)? {
            if self.scanner.null_element()? {
                null_event.get_or_insert(JsonError::NullEvent { index: count });
            } else {
                self.event()?;
            }
            count += 1;
        }
        self.scanner.end()?;
        match null_event {
            Some(error) => Err(error),
            None => Ok(self.builder.finish()),
        }
    }

    fn event(&mut self) -> Result<(), JsonError> {
        self.scanner
            .open(b'{', "an event, `{\"headers\":{…},\"body\":\"…\"}`")?;
        let mut headers = None;
        let mut body = Text::Null;
        let mut first = true;
        while let Some(name) = self.scanner.member(first)? {
            first = false;
            match &*name {
                "headers" => headers = self.headers()?,
                "body" => body = self.scanner.value()?,
                _ => self.scanner.skip(0)?,
            }
        }
        let headers = match headers {
            Some(headers) => headers,
            None => self.no_headers(),
        };
        self.push(headers, body);
        Ok(())
    }

    fn push(&mut self, headers: HeaderSetId, body: Text) {
        let text = match &body {
            Text::Null => return self.builder.push(headers, self.whole, 0..0),
            Text::Slice(range) if self.charset == Charset::UTF_8 => {
                return self.builder.push(headers, self.whole, range.clone());
            }
            Text::Slice(range) => &self.scanner.text[range.clone()],
            Text::Owned(text) => text,
        };
        let charset = self.charset;
        self.builder
            .push_with(headers, |bytes| charset.encode(text, bytes));
        if let Text::Owned(text) = body {
            self.scanner.recycle(text);
        }
    }

    fn no_headers(&mut self) -> HeaderSetId {
        match self.no_headers {
            Some(set) => set,
            None => *self.no_headers.insert(self.builder.headers(Headers::new())),
        }
    }

    /// The value of `headers`: an object, an array of pairs (Gson reads both as a map) or null.
    fn headers(&mut self) -> Result<Option<HeaderSetId>, JsonError> {
        if self.scanner.null()? {
            return Ok(None);
        }
        let start = self.scanner.at;
        let rest = &self.scanner.bytes()[start..];
        for (known, set) in &self.remembered {
            if rest.starts_with(&self.scanner.bytes()[known.clone()]) {
                self.scanner.at += known.len();
                return Ok(Some(*set));
            }
        }
        match self.scanner.next()? {
            Some(b'[') => self.header_pairs()?,
            _ => self.header_object()?,
        }
        if self.count >= FEW_NAMES {
            self.names.clear();
        }
        self.count = 0;
        let set = self.builder.headers(self.headers.finish());
        if self.remembered.len() == REMEMBERED_SETS {
            self.remembered.remove(0);
        }
        self.remembered.push((start..self.scanner.at, set));
        Ok(Some(set))
    }

    fn header_object(&mut self) -> Result<(), JsonError> {
        self.scanner.open(b'{', "an object of headers")?;
        let mut first = true;
        while let Some(name) = self.scanner.member(first)? {
            first = false;
            let value = self.scanner.value()?;
            self.add_header(&name, value)?;
        }
        Ok(())
    }

    fn header_pairs(&mut self) -> Result<(), JsonError> {
        self.scanner.open(b'[', "an array of headers")?;
        let mut first = true;
        while self.scanner.element(first)? {
            first = false;
            self.scanner.open(b'[', "a pair of header name and value")?;
            let is_pair = self.scanner.element(true)?;
            let name = self.scanner.value()?;
            if !is_pair || !self.scanner.element(false)? {
                return self.scanner.expected("a header value");
            }
            let value = self.scanner.value()?;
            if self.scanner.element(false)? {
                return self.scanner.expected("the end of the pair");
            }
            let name = match name {
                Text::Null => return self.scanner.expected("a header name that is not null"),
                Text::Slice(range) => self.scanner.text[range].to_owned(),
                Text::Owned(name) => name,
            };
            self.add_header(&name, value)?;
        }
        Ok(())
    }

    fn add_header(&mut self, name: &str, value: Text) -> Result<(), JsonError> {
        let is_second = match self.count {
            0..FEW_NAMES => self.headers.contains(name),
            _ => self.is_second_of_many(name),
        };
        if is_second {
            return Err(JsonError::DuplicateHeader {
                at: self.scanner.at,
                name: name.to_owned(),
            });
        }
        let value = match &value {
            Text::Null => return Ok(()),
            Text::Slice(range) => &self.scanner.text[range.clone()],
            Text::Owned(value) => value,
        };
        self.headers.push_unchecked(name, value);
        self.count += 1;
        if self.count > FEW_NAMES {
            self.names.insert(name.to_owned());
        }
        Ok(())
    }

    fn is_second_of_many(&mut self, name: &str) -> bool {
        if self.names.is_empty() {
            let headers = self.headers.finish();
            self.names
                .extend(headers.iter().map(|(name, _)| name.to_owned()));
            self.headers = HeadersBuilder::from(&headers);
        }
        self.names.contains(name)
    }
}
