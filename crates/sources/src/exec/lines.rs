//! From a command's output to lines, as Java's `BufferedReader.readLine` cuts them: at `\n`,
//! `\r` and `\r\n`. Malformed input becomes U+FFFD, as in Java.
//!
//! UTF-8 output is not copied: bodies are slices of the read buffer. Invariant: no byte of valid
//! input is lost or doubled, wherever the reads are cut.

use std::io;

use bytes::Bytes;
use flafka_flow::batch::BufferId;
use flafka_flow::{Batch, BatchBuilder, Headers};
use tokio::io::AsyncRead;

use crate::charset::{Charset, Decoder, OnMalformed};
use crate::read_buffer::ReadBuffer;

/// A line longer than this becomes several events: memory has to end somewhere.
pub(super) const LONGEST_LINE: usize = 32 << 20;

/// The output read so far, and the lines on their way into a batch.
pub(super) struct Lines {
    charset: Charset,
    /// For charsets other than UTF-8: the raw input, which is decoded into `text`.
    decoded: Option<(Decoder, ReadBuffer)>,
    /// UTF-8, not yet cut.
    text: ReadBuffer,
    /// Bytes of `text` known to hold no end of line.
    scanned: usize,
    /// The last line ended with `\r`: an `\n` right after it belongs to it.
    after_return: bool,
    /// Whole lines that are being cut, and how far.
    whole: Bytes,
    at: usize,
    whole_is_utf8: bool,
    builder: BatchBuilder,
    /// `whole` in the builder.
    buffer: Option<BufferId>,
}

impl Lines {
    /// Nothing read yet.
    pub(super) fn new(charset: Charset) -> Self {
        Self {
            charset,
            decoded: (charset != Charset::UTF_8)
                .then(|| (charset.decoder(), ReadBuffer::default())),
            text: ReadBuffer::default(),
            scanned: 0,
            after_return: false,
            whole: Bytes::new(),
            at: 0,
            whole_is_utf8: true,
            builder: BatchBuilder::new(),
            buffer: None,
        }
    }

    /// Reads once; 0 is the end of the output. Call [`Lines::next_batch`] until it has no more
    /// before reading again.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(super) async fn read(
        &mut self,
        output: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<usize> {
        let count = match &mut self.decoded {
            None => self.text.fill(output).await?,
            Some((_, raw)) => raw.fill(output).await?,
        };
        self.decode(count == 0);
        self.find_whole_lines();
        Ok(count)
    }

    /// The next batch of `limit` lines; `None` when fewer are left, which then wait.
    pub(super) fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        while self.at < self.whole.len() {
            let rest = &self.whole[self.at..];
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let start = self.at;
            self.at += end + 1;
            if rest.get(end) == Some(&b'\r') {
                match rest.get(end + 1) {
                    Some(b'\n') => self.at += 1,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            self.push_line(start, start + end);
            if self.builder.len() >= limit {
                return Some(self.take_pending());
            }
        }
        None
    }

    /// Whether lines wait for their batch to fill.
    pub(super) fn has_pending(&self) -> bool {
        !self.builder.is_empty()
    }

    /// The lines that wait.
    pub(super) fn take_pending(&mut self) -> Batch {
        self.buffer = None;
        self.builder.finish()
    }

    /// At the end of the output: a last line without end joins the lines that wait.
    pub(super) fn finish(&mut self) -> Batch {
        let length = self.text.bytes().len();
        if length > 0 {
            self.cut(length);
            self.push_line(0, length);
            self.at = length;
        }
        self.take_pending()
    }

    fn decode(&mut self, last: bool) {
        if let Some((decoder, raw)) = &mut self.decoded {
            let mut text = String::new();
            let input = raw.bytes().len();
            let replaced = decoder.decode(raw.bytes(), last, OnMalformed::Replace, &mut text);
            replaced.expect("bad bytes are replaced, not reported");
            raw.take(input);
            self.text.append(text.as_bytes());
        }
    }

    fn find_whole_lines(&mut self) {
        let text = self.text.bytes();
        match memchr::memrchr2(b'\n', b'\r', &text[self.scanned..]) {
            Some(last) => {
                let end = self.scanned + last + 1;
                self.cut(end);
                let follows =
                    std::mem::take(&mut self.after_return) && self.whole.first() == Some(&b'\n');
                self.at = usize::from(follows);
            }
            None if text.len() >= LONGEST_LINE => {
                let end = letter_boundary(text);
                tracing::warn!(
                    bytes = end,
                    "a line of the command is too long; it becomes several events"
                );
                self.cut(end);
                self.push_line(0, end);
                self.at = end;
            }
            None => {}
        }
        self.scanned = self.text.bytes().len();
    }

    /// Makes the first `length` bytes the ones that are cut into lines.
    fn cut(&mut self, length: usize) {
        self.whole = self.text.take(length);
        self.whole_is_utf8 = std::str::from_utf8(&self.whole).is_ok();
        self.at = 0;
        self.buffer = None;
    }

    fn push_line(&mut self, start: usize, end: usize) {
        let headers = self.builder.headers(Headers::new());
        let line = &self.whole[start..end];
        if self.decoded.is_some() {
            let text = std::str::from_utf8(line).expect("the decoder makes UTF-8");
            self.builder
                .push_with(headers, |body| self.charset.encode(text, body));
        } else if self.whole_is_utf8 || std::str::from_utf8(line).is_ok() {
            let buffer = match self.buffer {
                Some(buffer) => buffer,
                None => self.builder.buffer(self.whole.clone()),
            };
            self.buffer = Some(buffer);
            self.builder.push(headers, buffer, start..end);
        } else {
            self.builder
                .push_copy(headers, String::from_utf8_lossy(line).as_bytes());
        }
    }
}

/// Where `text` can be cut without cutting a letter: at its end, or before the last letter.
fn letter_boundary(text: &[u8]) -> usize {
    let last_letter = text
        .iter()
        .rev()
        .take(4)
        .position(|byte| byte & 0xc0 != 0x80);
    match last_letter {
        Some(back) if text[text.len() - 1 - back] >= 0x80 => text.len() - 1 - back,
        _ => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cut(charset: &str, input: &[u8], piece: usize, limit: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Charset::named(charset).expect("known"));
        let mut bodies = Vec::new();
        let mut keep = |batch: Batch| bodies.extend(batch.iter().map(|event| event.body.to_vec()));
        for part in input.chunks(piece).chain([&[][..]]) {
            let mut part = part;
            lines.read(&mut part).await.expect("no error");
            while let Some(batch) = lines.next_batch(limit) {
                assert_eq!(batch.len(), limit);
                keep(batch);
            }
        }
        keep(lines.finish());
        bodies
    }

    #[tokio::test]
    async fn lines_end_as_in_java_wherever_the_reads_are_cut() {
        let input = "one\ntwo\r\nthree\rfour\r\r\n\n\rünf\r\nlast".as_bytes();
        let expected = ["one", "two", "three", "four", "", "", "", "ünf", "last"];
        for piece in 1..=input.len() {
            for limit in [1, 2, 100] {
                let lines = cut("utf-8", input, piece, limit).await;
                let text: Vec<_> = lines
                    .iter()
                    .map(|line| String::from_utf8_lossy(line))
                    .collect();
                assert_eq!(text, expected, "pieces of {piece}, batches of {limit}");
            }
        }
    }

    #[tokio::test]
    async fn a_charset_is_decoded_and_written_again() {
        let input = [0, b'a', 0, 0xe9, 0, b'\n', 0, b'b'];
        for piece in 1..5 {
            let lines = cut("utf-16", &input, piece, 10).await;
            assert_eq!(
                lines,
                [
                    vec![0xfe, 0xff, 0, b'a', 0, 0xe9],
                    vec![0xfe, 0xff, 0, b'b']
                ]
            );
        }
        assert_eq!(cut("latin1", b"\xe9\n", 9, 1).await, [[0xe9]]);
        assert_eq!(
            cut("utf-8", b"a\xffb\nc\n", 9, 9).await,
            ["a\u{fffd}b".as_bytes(), b"c"]
        );
    }

    #[test]
    fn letters_are_not_cut() {
        for (text, end) in [("abc", 3), ("abé", 2), ("a\u{1f600}", 1), ("é", 0)] {
            assert_eq!(letter_boundary(text.as_bytes()), end, "{text}");
        }
        assert_eq!(letter_boundary(&"a\u{1f600}".as_bytes()[..3]), 1);
        assert_eq!(letter_boundary(&[0x80; 9]), 9);
    }
}
