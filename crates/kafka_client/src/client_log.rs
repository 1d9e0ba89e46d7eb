//! librdkafka's log lines, each kind of line at most once a minute while it repeats.
//!
//! During an outage librdkafka says of every broker and every attempt that it failed, ten times a second. Here the
//! first line of a kind is logged at once; repeats are counted, and one line a minute shows the newest of them with the
//! number it stands for. Lines are of one kind when they differ only in how long or how often something took, so
//! brokers, topics and errors never share a line. Invariant: every line is logged or counted, and what is counted is
//! shown: with the next line that comes a minute later, when the client is used, or when it ends.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use tracing::{debug, error, info, warn};

/// Between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(60);
/// Kinds remembered; brokers and errors are few.
const MOST_KINDS: usize = 128;

/// What a client has said and not shown yet.
#[derive(Debug, Default)]
pub(crate) struct ClientLog {
    kinds: Mutex<HashMap<String, Kind>>,
    /// Whether anything is counted and not shown.
    held: AtomicBool,
}

/// One kind of line.
#[derive(Debug)]
struct Kind {
    level: Level,
    /// The newest line.
    text: String,
    /// How many were not shown.
    held: u64,
    shown: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// A line to show.
type Line = (Level, String);

impl ClientLog {
    /// Takes a line of librdkafka's log.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let level = match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => Level::Error,
            RDKafkaLogLevel::Warning => Level::Warn,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => Level::Info,
            RDKafkaLogLevel::Debug => Level::Debug,
        };
        show(self.note(level, format!("{facility} {text}"), Instant::now()));
    }

    /// Takes an error of the client as a whole.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        show(self.note(Level::Error, format!("{error}: {reason}"), Instant::now()));
    }

    /// Shows what has been counted for a minute; called whenever the client is used.
    pub(crate) fn show_due(&self) {
        if self.held.load(Ordering::Relaxed) {
            show(self.due(Instant::now(), PERIOD));
        }
    }

    /// Lines counted and not shown.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        let kinds = self.kinds.lock().expect("lock");
        kinds.values().map(|kind| kind.held).sum()
    }

    fn note(&self, level: Level, text: String, now: Instant) -> Vec<Line> {
        let mut lines = self.due(now, PERIOD);
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let name = kind_of(&text);
        match kinds.get_mut(name.as_ref()) {
            Some(kind) if now.saturating_duration_since(kind.shown) < PERIOD => {
                kind.held += 1;
                kind.level = level;
                kind.text = text;
                self.held.store(true, Ordering::Relaxed);
            }
            _ => {
                if kinds.len() >= MOST_KINDS {
                    lines.extend(kinds.drain().filter_map(|(_, kind)| kind.line(now)));
                }
                let kind = Kind {
                    level,
                    text: text.clone(),
                    held: 0,
                    shown: now,
                };
                kinds.insert(name.into_owned(), kind);
                lines.push((level, text));
            }
        }
        lines
    }

    /// The lines of kinds whose repeats have waited for `period`.
    fn due(&self, now: Instant, period: Duration) -> Vec<Line> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let mut waiting = false;
        for kind in kinds.values_mut().filter(|kind| kind.held > 0) {
            if now.saturating_duration_since(kind.shown) < period {
                waiting = true;
                continue;
            }
            lines.extend(kind.line(now));
            kind.held = 0;
            kind.shown = now;
        }
        self.held.store(waiting, Ordering::Relaxed);
        lines
    }
}

impl Drop for ClientLog {
    fn drop(&mut self) {
        show(self.due(Instant::now(), Duration::ZERO));
    }
}

impl Kind {
    fn line(&self, now: Instant) -> Option<Line> {
        let seconds = now.saturating_duration_since(self.shown).as_secs();
        let text = &self.text;
        match self.held {
            0 => None,
            1 => Some((self.level, text.clone())),
            held => Some((
                self.level,
                format!("{text} ({held} such lines in the last {seconds} s)"),
            )),
        }
    }
}

/// The line without what tells its repeats apart: librdkafka ends them with `(after 3ms in state CONNECT, 30 identical
/// error(s) suppressed)`.
fn kind_of(text: &str) -> Cow<'_, str> {
    let text = match text.rfind(" (after ") {
        Some(end) => &text[..end],
        None => text,
    };
    if !text.contains("ms") {
        return Cow::Borrowed(text);
    }
    // "timed out after 10012ms": the number goes.
    let mut kind = String::with_capacity(text.len());
    for (index, part) in text.split("ms").enumerate() {
        if index > 0 {
            let digits = kind.trim_end_matches(|last: char| last.is_ascii_digit());
            kind.truncate(digits.len());
            kind.push_str("ms");
        }
        kind.push_str(part);
    }
    Cow::Owned(kind)
}

fn show(lines: Vec<Line>) {
    for (level, text) in lines {
        match level {
            Level::Error => error!(target: "librdkafka", "librdkafka: {text}"),
            Level::Warn => warn!(target: "librdkafka", "librdkafka: {text}"),
            Level::Info => info!(target: "librdkafka", "librdkafka: {text}"),
            Level::Debug => debug!(target: "librdkafka", "librdkafka: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: u16, took: u32, more: u32) -> String {
        format!(
            "FAIL [thrd:b:{port}/1]: b:{port}/1: Connect to ipv4#10.0.0.1:{port} failed: Connection refused (after {took}ms in state CONNECT, {more} identical error(s) suppressed)"
        )
    }

    #[test]
    fn repeats_become_one_line_a_minute_with_their_number() {
        let log = ClientLog::default();
        let start = Instant::now();
        let note = |millis: u64, text: String| {
            log.note(Level::Error, text, start + Duration::from_millis(millis))
        };
        assert_eq!(note(0, refused(9092, 0, 0)).len(), 1, "the first at once");
        assert_eq!(note(1, refused(9093, 0, 0)).len(), 1, "another broker");
        for repeat in 1..600 {
            let millis = repeat * 100;
            assert_eq!(note(millis, refused(9092, repeat as u32, 3)), []);
        }
        let shown = note(60_000, "FAIL something else".to_owned());
        let expected = format!(
            "{} (599 such lines in the last 60 s)",
            refused(9092, 599, 3)
        );
        let fresh = "FAIL something else".to_owned();
        assert_eq!(shown, [(Level::Error, expected), (Level::Error, fresh)]);
        assert_eq!(
            note(130_000, refused(9092, 1, 0)).len(),
            1,
            "a new outage is shown at once"
        );
    }

    #[test]
    fn what_is_counted_is_shown_when_the_client_is_used_or_ends() {
        let log = ClientLog::default();
        let start = Instant::now();
        for _ in 0..3 {
            log.note(Level::Warn, "REQTMOUT b:1: timed out".to_owned(), start);
        }
        assert_eq!(log.due(start + PERIOD / 2, PERIOD), []);
        assert!(log.held.load(Ordering::Relaxed));
        let shown = log.due(start + PERIOD, PERIOD);
        let text = "REQTMOUT b:1: timed out (2 such lines in the last 60 s)".to_owned();
        assert_eq!(shown, [(Level::Warn, text)]);
        assert!(!log.held.load(Ordering::Relaxed));
        let later = start + PERIOD + Duration::from_secs(1);
        assert_eq!(
            log.note(Level::Warn, "REQTMOUT b:1: timed out".to_owned(), later),
            []
        );
        assert_eq!(log.due(later, Duration::ZERO).len(), 1);
    }

    #[test]
    fn kinds_stay_few_and_none_is_lost() {
        let log = ClientLog::default();
        let now = Instant::now();
        let mut shown = 0;
        for number in 0..MOST_KINDS * 2 {
            for _ in 0..2 {
                shown += log.note(Level::Error, format!("kind {number}"), now).len();
            }
        }
        shown += log.due(now, Duration::ZERO).len();
        assert_eq!(shown, MOST_KINDS * 4);
        assert!(log.kinds.lock().expect("lock").len() <= MOST_KINDS);
    }

    #[test]
    fn durations_do_not_make_a_kind() {
        assert_eq!(
            kind_of("a:9092: ApiVersion failed after 10012ms: 5/6 rooms"),
            "a:9092: ApiVersion failed after ms: 5/6 rooms"
        );
        assert_eq!(kind_of("2/3 brokers are down"), "2/3 brokers are down");
    }
}
