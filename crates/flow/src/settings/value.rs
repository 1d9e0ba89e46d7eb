//! The types that a setting can have: how each is parsed, shown and described.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::{Absent, Field};

/// Why a value was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// What is wrong, a lower-case sentence without full stop.
    pub message: String,
    /// What is allowed.
    pub allowed: String,
}

impl BadValue {
    /// A bad value with what would be allowed.
    pub fn new(message: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            allowed: allowed.into(),
        }
    }
}

/// A type that a setting can have.
pub trait Setting: Sized {
    /// Parses a trimmed, non-empty value.
    ///
    /// # Errors
    /// With what is wrong and what is allowed.
    fn parse(text: &str) -> Result<Self, BadValue>;

    /// The kind of value in words, for the reference.
    fn kind() -> String;

    /// The value as it would be written in a file; `None` when nothing is set.
    fn show(&self) -> Option<String>;

    /// What the field is when the key is absent and has no default.
    fn absent() -> Option<Self> {
        None
    }

    /// Whether the value must never be shown.
    fn secret() -> bool {
        false
    }

    /// Reads the field from a section.
    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        let Some(entry) = reader.entry(field) else {
            let value = default.or_else(Self::absent);
            if value.is_none() {
                reader.missing(field);
            }
            return value;
        };
        match Self::parse(entry.value.trim()) {
            Ok(value) => Some(value),
            Err(bad) => {
                let key = spelling(reader, field);
                if Self::secret() {
                    reader.secret_error(key, bad.message);
                } else {
                    reader.error(key, bad.message, Some(bad.allowed));
                }
                None
            }
        }
    }

    /// What the reference says about the absent key.
    fn describe_default(default: Option<&Self>) -> Absent {
        match default {
            Some(value) => value.show().map_or(Absent::None, Absent::Value),
            None if Self::absent().is_some() => Absent::None,
            None => Absent::Required,
        }
    }
}

fn spelling<'f>(reader: &Reader<'_>, field: &'f Field) -> &'f str {
    let entries = &reader.section().entries;
    std::iter::once(field.key)
        .chain(field.aliases.iter().copied())
        .find(|key| entries.contains_key(*key))
        .unwrap_or(field.key)
}

impl<T: Setting> Setting for Option<T> {
    fn parse(text: &str) -> Result<Self, BadValue> {
        T::parse(text).map(Some)
    }

    fn kind() -> String {
        T::kind()
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Setting::show)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn secret() -> bool {
        T::secret()
    }
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Ok(text.to_owned())
    }

    fn kind() -> String {
        "text".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Ok(
            match text.strip_prefix("~/").zip(std::env::var_os("HOME")) {
                Some((rest, home)) => PathBuf::from(home).join(rest),
                None => PathBuf::from(text),
            },
        )
    }

    fn kind() -> String {
        "path".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Setting for bool {
    fn parse(text: &str) -> Result<Self, BadValue> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(BadValue::new(
                "not a boolean (Flume reads every word but `true` as false, without a word)",
                "true or false",
            )),
        }
    }

    fn kind() -> String {
        "true or false".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! number {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            fn parse(text: &str) -> Result<Self, BadValue> {
                text.strip_prefix('+').unwrap_or(text).parse().map_err(|_| {
                    BadValue::new("not a number in range", format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
                })
            }

            fn kind() -> String {
                "number".to_owned()
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}
number!(i32, i64, u32, u64);

macro_rules! wrapped {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $kind:literal, $parse:expr, $show:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl Setting for $name {
            fn parse(text: &str) -> Result<Self, BadValue> {
                let parse: fn(&str) -> Option<$inner> = $parse;
                parse(text).map($name).ok_or_else(|| BadValue::new(concat!("not a ", $kind), concat!("a ", $kind)))
            }

            fn kind() -> String {
                $kind.to_owned()
            }

            fn show(&self) -> Option<String> {
                let show: fn(&$inner) -> String = $show;
                Some(show(&self.0))
            }
        }
    )+};
}

wrapped! {
    /// A whole number of at least 1.
    Count(usize), "whole number of at least 1",
        |text| text.parse().ok().filter(|value| *value > 0), |value| value.to_string();
    /// A duration in milliseconds, 0 or more.
    Millis(Duration), "number of milliseconds",
        |text| text.parse().ok().map(Duration::from_millis), |value| value.as_millis().to_string();
    /// A duration in seconds, 0 or more.
    Seconds(Duration), "number of seconds",
        |text| text.parse().ok().map(Duration::from_secs), |value| value.as_secs().to_string();
    /// A number of bytes, 0 or more.
    ByteSize(u64), "number of bytes",
        |text| text.parse().ok(), |value| value.to_string();
    /// A TCP or UDP port; 0 asks the system for a free one.
    Port(u16), "port from 0 to 65535",
        |text| text.parse().ok(), |value| value.to_string();
}

/// A whole number for which Flume takes the default when it is 0, negative or no number; we do
/// the same and warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LenientCount(pub usize);

impl Setting for LenientCount {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Count::parse(text).map(|count| Self(count.0))
    }

    fn kind() -> String {
        Count::kind()
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }

    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        read_leniently(reader, field, default)
    }
}

/// A whole number, 0 too, for which Flume takes the default when it is negative or no number; we do the same and warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LenientAmount(pub usize);

impl Setting for LenientAmount {
    fn parse(text: &str) -> Result<Self, BadValue> {
        let number = text.strip_prefix('+').unwrap_or(text).parse();
        number
            .map(Self)
            .map_err(|_| BadValue::new("not a whole number, 0 or more", Self::kind()))
    }

    fn kind() -> String {
        "whole number, 0 or more".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(self.0.to_string())
    }

    fn read(reader: &mut Reader<'_>, field: &Field, default: Option<Self>) -> Option<Self> {
        read_leniently(reader, field, default)
    }
}

/// Reads a field whose default stands in for a bad value, with a warning.
fn read_leniently<T: Setting>(
    reader: &mut Reader<'_>,
    field: &Field,
    default: Option<T>,
) -> Option<T> {
    let parsed = reader
        .entry(field)
        .map(|entry| T::parse(entry.value.trim()));
    match (parsed, default) {
        (Some(Ok(value)), _) => Some(value),
        (Some(Err(bad)), None) => {
            reader.error(field.key, bad.message, Some(bad.allowed));
            None
        }
        (Some(Err(bad)), Some(default)) => {
            let shown = default.show().unwrap_or_default();
            let message = format!("{}; the default {shown} is used, as in Flume", bad.message);
            reader.warning(field.key, message);
            Some(default)
        }
        (None, None) => {
            reader.missing(field);
            None
        }
        (None, default) => default,
    }
}

/// A password or key. Never printed: neither by `Debug` nor in problems.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl Setting for Secret {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Ok(Self(text.to_owned()))
    }

    fn kind() -> String {
        "secret text".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some("…".to_owned())
    }

    fn secret() -> bool {
        true
    }
}

/// A list of words separated by blanks, in file order, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl Setting for Names {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Ok(Self(unique(text.split_whitespace())))
    }

    fn kind() -> String {
        "words separated by blanks".to_owned()
    }

    fn show(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(" "))
    }
}

/// A list separated by commas; blanks around entries do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommaList(pub Vec<String>);

impl Setting for CommaList {
    fn parse(text: &str) -> Result<Self, BadValue> {
        Ok(Self(unique(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty()),
        )))
    }

    fn kind() -> String {
        "comma-separated list".to_owned()
    }

    fn show(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(","))
    }
}

fn unique<'t>(parts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for part in parts {
        if !list.iter().any(|other| other == part) {
            list.push(part.to_owned());
        }
    }
    list
}

/// All keys below a prefix, without it. The field's key is written `prefix.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixed(pub BTreeMap<String, String>);

impl Prefixed {
    /// The value of a key below the prefix.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl Setting for Prefixed {
    fn parse(_: &str) -> Result<Self, BadValue> {
        Err(BadValue::new(
            "stands for several keys",
            "keys below the prefix",
        ))
    }

    fn kind() -> String {
        "keys below the prefix".to_owned()
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn read(reader: &mut Reader<'_>, field: &Field, _: Option<Self>) -> Option<Self> {
        let prefix = field.key.strip_suffix('*').unwrap_or(field.key);
        let below = reader.prefixed(prefix);
        Some(Self(
            below
                .into_iter()
                .map(|(key, entry)| (key, entry.value.clone()))
                .collect(),
        ))
    }
}

/// One of a few words, compared without case. Implemented by [`choice!`](crate::choice!).
pub trait Choice: Sized + Copy + 'static {
    /// Each word with its value; the first spelling of a value is the one shown.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str;
}

/// Parses one of a few words.
///
/// # Errors
/// With the list of words and the nearest one.
pub fn parse_choice<T: Choice>(text: &str) -> Result<T, BadValue> {
    let found = T::WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let near = super::reader::nearest(text, T::WORDS.iter().map(|(word, _)| *word));
        let message = near.map_or("not one of the allowed words".to_owned(), |word| {
            format!("not one of the allowed words; did you mean `{word}`?")
        });
        BadValue::new(message, choice_kind::<T>())
    })
}

/// The words of a choice, for the reference.
pub fn choice_kind<T: Choice>() -> String {
    let words: Vec<_> = T::WORDS
        .iter()
        .map(|(word, _)| format!("`{word}`"))
        .collect();
    words.join(", ")
}
