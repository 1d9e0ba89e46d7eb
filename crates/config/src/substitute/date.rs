//! `${date:format}`: the letters of Java's `SimpleDateFormat` that make sense in a value.
//!
//! Known: `y M d H h K k m s S E a D u z Z X` and `'quoted text'`. The time is when the
//! configuration is read, in the system's time zone.

use std::fmt::Write;

use jiff::Zoned;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Formats a time.
///
/// # Errors
/// With the letter that is not known.
pub(super) fn format(pattern: &str, time: &Zoned) -> Result<String, char> {
    let mut text = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '\'' {
            if rest.next_if_eq(&'\'').is_some() {
                text.push('\'');
                continue;
            }
            while let Some(quoted) = rest.next() {
                if quoted != '\'' {
                    text.push(quoted);
                } else if rest.next_if_eq(&'\'').is_some() {
                    text.push('\'');
                } else {
                    break;
                }
            }
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            text.push(letter);
            continue;
        }
        let mut count = 1;
        while rest.next_if_eq(&letter).is_some() {
            count += 1;
        }
        field(&mut text, letter, count, time)?;
    }
    Ok(text)
}

fn field(text: &mut String, letter: char, count: usize, time: &Zoned) -> Result<(), char> {
    let hour = i64::from(time.hour());
    let twelve = |hour: i64| if hour % 12 == 0 { 12 } else { hour % 12 };
    let number = match letter {
        'y' if count == 2 => i64::from(time.year()).rem_euclid(100),
        'y' => i64::from(time.year()),
        'M' if count < 3 => i64::from(time.month()),
        'd' => i64::from(time.day()),
        'D' => i64::from(time.day_of_year()),
        'u' => i64::from(time.weekday().to_monday_one_offset()),
        'H' => hour,
        'k' => {
            if hour == 0 {
                24
            } else {
                hour
            }
        }
        'K' => hour % 12,
        'h' => twelve(hour),
        'm' => i64::from(time.minute()),
        's' => i64::from(time.second()),
        'S' => i64::from(time.millisecond()),
        _ => {
            text.push_str(&word(letter, count, time).ok_or(letter)?);
            return Ok(());
        }
    };
    write!(text, "{number:0count$}").map_err(|_| letter)
}

fn word(letter: char, count: usize, time: &Zoned) -> Option<String> {
    let cut = |name: &str| name.chars().take(if count > 3 { 99 } else { 3 }).collect();
    let offset = time.offset().seconds();
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match letter {
        'M' => Some(cut(MONTHS[usize::try_from(time.month() - 1).ok()?])),
        'E' => {
            let day = time.weekday().to_monday_zero_offset();
            Some(cut(DAYS[usize::try_from(day).ok()?]))
        }
        'a' => Some(if time.hour() < 12 { "AM" } else { "PM" }.to_owned()),
        'z' => Some(time.strftime("%Z").to_string()),
        'Z' => Some(format!("{sign}{hours:02}{minutes:02}")),
        'X' if offset == 0 => Some("Z".to_owned()),
        'X' => match count {
            1 => Some(format!("{sign}{hours:02}")),
            2 => Some(format!("{sign}{hours:02}{minutes:02}")),
            _ => Some(format!("{sign}{hours:02}:{minutes:02}")),
        },
        _ => None,
    }
}
