//! Flume's escape sequences in paths and topics (reference 3.6): `%{header}`, dates, the host.
//!
//! A template is parsed once. Rendering needs the event's `timestamp` header (milliseconds) for
//! every `%` sequence but headers and hosts; Flume fails such an event for ever, here the time of
//! day is taken and the template says so once in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flafka_flow::Headers;
use flafka_flow::clock::Clock;
use flafka_flow::settings::{BadValue, Setting};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Header(String),
    /// A `strftime` pattern.
    Date(&'static str),
    EpochSeconds,
    Millis,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl Template {
    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether rendering gives the same text for every event.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    fn needs_time(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Date(_) | Part::EpochSeconds | Part::Millis))
    }
}

impl Setting for Template {
    fn parse(text: &str) -> Result<Self, BadValue> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut parts, &rest[..at]);
            let (part, length) = sequence(&rest[at + 1..])?;
            match part {
                Part::Text(text) => push_text(&mut parts, &text),
                other => parts.push(other),
            }
            rest = &rest[at + 1 + length..];
        }
        push_text(&mut parts, rest);
        let source = text.to_owned();
        Ok(Self { source, parts })
    }

    fn kind() -> String {
        "text with escapes (`%{header}`, `%Y-%m-%d`, …)".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.source.clone())
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// The part behind a `%`, and how many bytes it takes.
fn sequence(rest: &str) -> Result<(Part, usize), BadValue> {
    if let Some(body) = rest.strip_prefix('{') {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        return match body.find('}') {
            Some(end) if end > 0 && body[..end].chars().all(word) => {
                Ok((Part::Header(body[..end].to_owned()), end + 2))
            }
            _ => Ok((Part::Text("%".to_owned()), 0)),
        };
    }
    if let Some(body) = rest.strip_prefix('[') {
        let Some(end) = body.find(']') else {
            return Ok((Part::Text("%".to_owned()), 0));
        };
        return host(&body[..end]).map(|text| (Part::Text(text), end + 2));
    }
    let Some(letter) = rest.chars().next() else {
        return Ok((Part::Text("%".to_owned()), 0));
    };
    let part = match letter {
        'a' => Part::Date("%a"),
        'A' => Part::Date("%A"),
        'b' => Part::Date("%b"),
        'B' => Part::Date("%B"),
        'c' => Part::Date("%a %b %-d %H:%M:%S %Y"),
        'd' => Part::Date("%d"),
        'e' => Part::Date("%-d"),
        'D' => Part::Date("%m/%d/%y"),
        'H' => Part::Date("%H"),
        'I' => Part::Date("%I"),
        'j' => Part::Date("%j"),
        'k' => Part::Date("%-H"),
        'l' => Part::Date("%-I"),
        'm' => Part::Date("%m"),
        'M' => Part::Date("%M"),
        'n' => Part::Date("%-m"),
        'p' => Part::Date("%p"),
        's' => Part::EpochSeconds,
        'S' => Part::Date("%S"),
        't' => Part::Millis,
        'y' => Part::Date("%y"),
        'Y' => Part::Date("%Y"),
        'z' => Part::Date("%z"),
        '%' => Part::Text("%".to_owned()),
        other if other.is_alphanumeric() || other == '_' => Part::Text(String::new()),
        _ => return Ok((Part::Text("%".to_owned()), 0)),
    };
    Ok((part, letter.len_utf8()))
}

fn host(word: &str) -> Result<String, BadValue> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    match word.to_ascii_lowercase().as_str() {
        "localhost" | "fqdn" => Ok(name),
        "ip" => {
            use std::net::ToSocketAddrs;
            let address = (name.as_str(), 0)
                .to_socket_addrs()
                .ok()
                .and_then(|mut all| all.next());
            Ok(address.map_or_else(
                || "127.0.0.1".to_owned(),
                |address| address.ip().to_string(),
            ))
        }
        _ => Err(BadValue::new(
            format!("unknown escape %[{word}]"),
            "%[localhost], %[IP] or %[FQDN]",
        )),
    }
}

/// Renders templates for events.
pub struct Renderer {
    zone: TimeZone,
    clock: Arc<dyn Clock>,
    warned: AtomicBool,
}

impl Renderer {
    /// A renderer in the machine's time zone.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            zone: TimeZone::system(),
            clock,
            warned: AtomicBool::new(false),
        }
    }

    /// The text of `template` for an event with these headers.
    pub fn render(&self, template: &Template, headers: &Headers) -> String {
        let millis = if template.needs_time() {
            self.millis(headers)
        } else {
            0
        };
        let mut zoned: Option<Zoned> = None;
        let mut text = String::with_capacity(template.source.len() + 16);
        for part in &template.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Header(name) => text.push_str(headers.get(name).unwrap_or_default()),
                Part::Millis => text.push_str(&millis.to_string()),
                Part::EpochSeconds => text.push_str(&millis.div_euclid(1000).to_string()),
                Part::Date(pattern) => {
                    let zoned = zoned.get_or_insert_with(|| self.zoned(millis));
                    text.push_str(&zoned.strftime(pattern).to_string());
                }
            }
        }
        text
    }

    fn zoned(&self, millis: i64) -> Zoned {
        let timestamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        timestamp.to_zoned(self.zone.clone())
    }

    fn millis(&self, headers: &Headers) -> i64 {
        if let Some(millis) = headers
            .get("timestamp")
            .and_then(|text| text.trim().parse().ok())
        {
            return millis;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "event without a usable timestamp header; the time of day is used (add the timestamp interceptor)"
            );
        }
        self.clock.now_ms()
    }
}

#[cfg(test)]
mod tests {
    use flafka_flow::clock::ManualClock;

    use super::*;

    fn render(template: &str, headers: &[(&str, &str)]) -> String {
        let mut renderer = Renderer::new(Arc::new(ManualClock::at(86_400_000)));
        renderer.zone = TimeZone::UTC;
        let template = Template::parse(template).expect("valid");
        renderer.render(&template, &headers.iter().copied().collect())
    }

    #[test]
    fn every_letter_is_flumes() {
        // 2009-02-03 04:05:06.789 UTC, a Tuesday.
        let headers = [("timestamp", "1233633906789"), ("host", "h1")];
        assert_eq!(
            render("%Y-%m-%d/%H%M%S %y %n %e %j %k %l %I %p", &headers),
            "2009-02-03/040506 09 2 3 034 4 4 04 AM"
        );
        assert_eq!(
            render("%a %A %b %B|%c|%D|%z", &headers),
            "Tue Tuesday Feb February|Tue Feb 3 04:05:06 2009|02/03/09|+0000"
        );
        assert_eq!(
            render("%t %s %% %q.", &headers),
            "1233633906789 1233633906 % ."
        );
        assert_eq!(render("logs-%{host}-%{missing}!", &headers), "logs-h1-!");
        assert_eq!(
            render("100%, %{bad name} %", &headers),
            "100%, %{bad name} %"
        );
    }

    #[test]
    fn a_missing_timestamp_does_not_block() {
        assert_eq!(render("%Y-%m-%d", &[]), "1970-01-02");
        assert_eq!(render("%t", &[("timestamp", "soon")]), "86400000");
        assert!(Template::parse("%[nowhere]").is_err());
        assert!(Template::parse("plain").expect("valid").is_constant());
    }
}
