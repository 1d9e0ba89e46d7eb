//! One netcat connection: bytes to lines, lines to puts, puts to answers.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flafka_flow::channel::ChannelError;
use flafka_flow::counters::Metric;
use flafka_flow::source::SourceContext;
use flafka_flow::{Batch, BatchBuilder, Headers};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Shared;
use crate::charset::{Charset, Decoder, OnMalformed};
use crate::listen::{close_gently, stopped_for};
use crate::read_buffer::ReadBuffer;

/// How long a stopping source waits for a peer to take its last answers.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Why a connection is closed by us; earlier lines stay.
enum Refusal {
    TooLong,
    NotText,
}

/// One connection.
pub(super) struct Connection<'s> {
    stream: TcpStream,
    shared: &'s Shared,
    context: &'s SourceContext,
    /// For charsets other than UTF-8: the raw input, which is decoded into `text`.
    decoded: Option<(Decoder, ReadBuffer)>,
    /// UTF-8, not yet cut.
    text: ReadBuffer,
    /// Bytes at the start of `text` that are known to be whole letters of an unfinished line,
    /// and their length in UTF-16 units.
    checked: usize,
    checked_units: usize,
    answers: BytesMut,
    answered: bool,
}

impl<'s> Connection<'s> {
    /// A connection of which nothing was read yet.
    pub(super) fn new(stream: TcpStream, shared: &'s Shared, context: &'s SourceContext) -> Self {
        let charset = shared.config.encoding;
        Self {
            stream,
            shared,
            context,
            decoded: (charset != Charset::UTF_8)
                .then(|| (charset.decoder(), ReadBuffer::default())),
            text: ReadBuffer::default(),
            checked: 0,
            checked_units: 0,
            answers: BytesMut::new(),
            answered: false,
        }
    }

    /// Serves until the peer closes, the source stops, or the input has to be refused.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        loop {
            let count = match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.release();
                    tokio::select! {
                        ready = self.stream.readable() => ready?,
                        () = self.context.lifecycle.stopping() => return Ok(()),
                    }
                    continue;
                }
                other => other?,
            };
            if count == 0 {
                return Ok(());
            }
            let mut refusal = self.decode();
            let (batch, refused) = self.cut_lines();
            refusal = refused.or(refusal);
            self.put(batch).await;
            if refusal.is_none() {
                refusal = self.check_unfinished();
            }
            if let Some(refusal) = &refusal {
                self.refuse(refusal);
            }
            self.send_answers().await?;
            if refusal.is_some() {
                return close_gently(&mut self.stream).await;
            }
            if self.context.lifecycle.is_stopping() {
                return Ok(());
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let stream = &self.stream;
        let buffer = self.decoded.as_mut().map_or(&mut self.text, |(_, raw)| raw);
        buffer.fill_with(|bytes| stream.try_read_buf(bytes))
    }

    fn release(&mut self) {
        self.text.release_if_empty();
        if let Some((_, raw)) = &mut self.decoded {
            raw.release_if_empty();
        }
        if self.answers.capacity() > 0 {
            self.answers = BytesMut::new();
        }
    }

    fn decode(&mut self) -> Option<Refusal> {
        let (decoder, raw) = self.decoded.as_mut()?;
        let input = raw.bytes().len();
        let mut text = String::new();
        let decoded = decoder.decode(raw.bytes(), false, OnMalformed::Report, &mut text);
        raw.take(input);
        self.text.append(text.as_bytes());
        decoded.err().map(|_| Refusal::NotText)
    }

    /// The whole lines read so far, up to the first that has to be refused.
    fn cut_lines(&mut self) -> (Batch, Option<Refusal>) {
        let Some(last) = memchr::memrchr(b'\n', &self.text.bytes()[self.checked..]) else {
            return (Batch::new(), None);
        };
        let whole = self.text.take(self.checked + last + 1);
        (self.checked, self.checked_units) = (0, 0);
        let text = match std::str::from_utf8(&whole) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&whole[..error.valid_up_to()])
                .expect("valid up to here, says the error"),
        };
        let mut refusal = (text.len() < whole.len()).then_some(Refusal::NotText);
        let longest = self.shared.config.max_line_length.0;
        let mut builder = BatchBuilder::new();
        let headers = builder.headers(Headers::new());
        let buffer = builder.buffer(Bytes::clone(&whole));
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            if end - start >= longest && text[start..end].encode_utf16().count() >= longest {
                refusal = Some(Refusal::TooLong);
                break;
            }
            builder.push(headers, buffer, start..end);
            start = end + 1;
        }
        (builder.finish(), refusal)
    }

    /// Whether the line that has not ended yet can still become a good one.
    fn check_unfinished(&mut self) -> Option<Refusal> {
        let unchecked = &self.text.bytes()[self.checked..];
        let (text, malformed) = match std::str::from_utf8(unchecked) {
            Ok(text) => (text, false),
            Err(error) => {
                let text = std::str::from_utf8(&unchecked[..error.valid_up_to()]);
                (
                    text.expect("valid up to here, says the error"),
                    error.error_len().is_some(),
                )
            }
        };
        self.checked_units += text.encode_utf16().count();
        self.checked += text.len();
        if self.checked_units >= self.shared.config.max_line_length.0 {
            return Some(Refusal::TooLong);
        }
        malformed.then_some(Refusal::NotText)
    }

    /// Puts the lines and notes their answers, in order.
    async fn put(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.shared
            .counters
            .add(Metric::EventReceivedCount, batch.len() as u64);
        let mut done = 0;
        let mut halved = None;
        while done < batch.len() {
            let limit = halved
                .take()
                .unwrap_or(self.shared.lines_per_put.load(Ordering::Relaxed));
            let count = limit.min(batch.len() - done);
            let part = batch.slice(done..done + count);
            match self.context.channels.process(part).await {
                Ok(()) => {
                    self.shared
                        .counters
                        .add(Metric::EventAcceptedCount, count as u64);
                    self.accept(count);
                }
                Err(ChannelError::TooManyEvents { allowed, .. }) if allowed.max(1) < count => {
                    self.shared
                        .lines_per_put
                        .fetch_min(allowed.max(1), Ordering::Relaxed);
                    continue;
                }
                Err(ChannelError::Full { .. } | ChannelError::FullOfBytes { .. })
                    if count > 1 && limit == self.shared.lines_per_put.load(Ordering::Relaxed) =>
                {
                    halved = Some(count / 2);
                    continue;
                }
                Err(error) => {
                    self.shared.counters.add(Metric::ChannelWriteFail, 1);
                    self.fail(count, &error);
                }
            }
            done += count;
        }
    }

    fn accept(&mut self, lines: usize) {
        if !self.shared.config.ack_every_event {
            return;
        }
        if self.decoded.is_none() {
            self.answers.reserve(lines * 3);
            for _ in 0..lines {
                self.answers.extend_from_slice(b"OK\n");
            }
        } else {
            for _ in 0..lines {
                self.answer("OK\n");
            }
        }
    }

    fn fail(&mut self, lines: usize, error: &ChannelError) {
        let reason = error.chain().replace(['\n', '\r'], " ");
        tracing::warn!(
            error = reason,
            lines,
            "lines were not put; their client is told"
        );
        let answer = format!("FAILED: {reason}\n");
        for _ in 0..lines {
            self.answer(&answer);
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.shared.counters.add(Metric::EventReadFail, 1);
        let config = &self.shared.config;
        let answer = match refusal {
            Refusal::TooLong => format!(
                "FAILED: Event exceeds the maximum length ({} chars, including newline)\n",
                config.max_line_length.0
            ),
            Refusal::NotText => format!("FAILED: Event is not valid {}\n", config.encoding.name()),
        };
        tracing::warn!(
            answer = answer.trim_end(),
            "input refused, connection closed"
        );
        self.answer(&answer);
    }

    fn answer(&mut self, text: &str) {
        let encoding = self.shared.config.encoding;
        if !self.answered {
            self.answered = true;
            encoding.encode_mark(&mut self.answers);
        }
        encoding.encode_continued(text, &mut self.answers);
    }

    async fn send_answers(&mut self) -> io::Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let sent = tokio::select! {
            sent = self.stream.write_all(&self.answers) => sent,
            () = stopped_for(self.context, ANSWER_GRACE) => Err(io::ErrorKind::TimedOut.into()),
        };
        self.answers.clear();
        sent
    }
}
