//! From the bytes of one file to its values with their places.

use std::ops::Range;

use flafka_flow::settings::{Problem, Severity, Span};

use super::{Input, Loaded};
use crate::{properties, secrets, yaml};

/// A value in one of the files, whatever its format.
pub(super) struct Written {
    pub(super) pair: properties::Pair,
    pub(super) list: Option<Vec<String>>,
}

pub(super) fn from_properties(
    input: &Input,
    places: &Places,
    loaded: &mut Loaded,
    problems: &mut Vec<Problem>,
) -> Vec<Written> {
    let mark = if input.bytes.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let mut parsed = properties::parse(&input.bytes[mark..]);
    let shift = |range: &mut Range<usize>| *range = range.start + mark..range.end + mark;
    for pair in &mut parsed.pairs {
        shift(&mut pair.key_range);
        shift(&mut pair.value_range);
    }
    for mistake in &mut parsed.mistakes {
        shift(&mut mistake.range);
        shift(&mut mistake.value_range);
        let value_span = places.span(&mistake.value_range, mistake.line);
        loaded.written.push((mistake.key.clone(), value_span));
        problems.push(escape_problem(mistake, places));
    }
    for pair in &parsed.pairs {
        let raw = &input.bytes[pair.value_range.clone()];
        if !raw.is_ascii() {
            problems.push(encoding_problem(pair, places));
        }
    }
    let written = |pair| Written { pair, list: None };
    parsed.pairs.into_iter().map(written).collect()
}

fn escape_problem(mistake: &properties::Mistake, places: &Places) -> Problem {
    let (message, help) = match mistake.fault {
        properties::Fault::MalformedEscape => (
            "`\\u` without four hexadecimal digits behind it; Java refuses the whole file",
            "write `\\\\u` for a backslash and a u",
        ),
        properties::Fault::LoneSurrogate => (
            "half of a surrogate pair, which stands for no character",
            "write both halves, such as `\\ud83d\\ude00`",
        ),
    };
    Problem::new(Severity::Error, mistake.key.clone(), message)
        .at(Some(places.span(&mistake.range, mistake.line)))
        .help(help)
}

/// A value with bytes outside of ASCII, which Flume reads as ISO-8859-1.
fn encoding_problem(pair: &properties::Pair, places: &Places) -> Problem {
    let span = places.span(&pair.value_range, pair.value_line);
    let mut escapes: Vec<String> = Vec::new();
    for character in places.text[span.range()].chars().filter(|c| !c.is_ascii()) {
        let mut units = [0; 2];
        let units = character.encode_utf16(&mut units).iter();
        let escaped: String = units.map(|unit| format!("\\u{unit:04x}")).collect();
        let escape = format!("`{escaped}` for `{character}`");
        if !escapes.contains(&escape) {
            escapes.push(escape);
        }
    }
    let more = if escapes.len() > 5 { ", …" } else { "" };
    escapes.truncate(5);
    let message = "not ASCII: the bytes are read as ISO-8859-1, as Flume does";
    let problem = Problem::new(Severity::Warning, pair.key.clone(), message).at(Some(span));
    if secrets::looks_secret(&pair.key) {
        return problem.help("write \\uXXXX for what is not ASCII");
    }
    problem.help(format!("write {}{more}", escapes.join(", ")))
}

pub(super) fn from_yaml(
    input: &Input,
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Vec<Written> {
    let Ok(text) = std::str::from_utf8(&input.bytes) else {
        let message = "not UTF-8, which YAML has to be";
        problems.push(Problem::new(Severity::Error, input.name.clone(), message));
        return Vec::new();
    };
    let parsed = yaml::parse(text);
    for mistake in parsed.mistakes {
        let mut problem = Problem::new(Severity::Error, input.name.clone(), mistake.message)
            .at(Some(places.span(&mistake.range, mistake.line)));
        problem.help = mistake.help;
        problems.push(problem);
    }
    let written = |yaml: yaml::YamlPair| Written {
        pair: yaml.pair,
        list: yaml.list,
    };
    parsed.pairs.into_iter().map(written).collect()
}

/// The text of a file and the way from its bytes to places in that text.
pub(super) struct Places {
    file: u16,
    pub(super) text: String,
    /// Positions of the bytes that take two in the text; none when text and bytes are the same.
    wide: Vec<usize>,
}

impl Places {
    pub(super) fn new(file: u16, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                file,
                text: text.to_owned(),
                wide: Vec::new(),
            },
            Err(_) => {
                let positions = bytes.iter().enumerate();
                let wide = positions.filter(|(_, byte)| !byte.is_ascii());
                Self {
                    file,
                    text: properties::latin1(bytes),
                    wide: wide.map(|(position, _)| position).collect(),
                }
            }
        }
    }

    pub(super) fn span(&self, range: &Range<usize>, line: u32) -> Span {
        let place = |position: usize| {
            let place = position + self.wide.partition_point(|wide| *wide < position);
            u32::try_from(place).unwrap_or(u32::MAX)
        };
        Span {
            file: self.file,
            line,
            start: place(range.start),
            end: place(range.end),
        }
    }
}
